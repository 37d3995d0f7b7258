"""Corruptions at 224 px: milliseconds a picture, and how strong they are beside the package imagecorruptions. Prints Markdown.

    python benchmarks/studies/corruptions.py PHOTOS [--peer FOLDER] [--photos 20] [--sheet FILE.png]

FOLDER holds imagecorruptions: pip install --no-deps --target FOLDER imagecorruptions "setuptools<81". It was written for
older NumPy and scikit-image: what it raises with the installed ones is printed, then mended in memory, and measured all the same.
Strength is the mean absolute difference from the clean pixels, in grey levels of 255; the last column is the PSNR between our
pictures and theirs where neither draws lots. There are no camera faults there; frost is photographed there and
drawn here; their elastic_transform lacks ImageNet-C's affine change and has other numbers.
--sheet: every corruption at severities 1, 3 and 5 of two photos, to look at.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _shared  # noqa: F401
import cv2
import numpy as np
from measure import quartiles
from ratios import record

from edge_tl_runtime.images.crop import preprocess_batch
from edge_tl_runtime.images.datasets.survey import photo_files
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.modelfile.spec import ResizeRule
from edge_tl_runtime.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt

RULE = ResizeRule(height=224, width=224, crop_pct=0.875, resample="area-cubic", color_order="BGR")
NO_LOTS = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")

Apply = Callable[[np.ndarray, int, str], np.ndarray]


class Peer:
    """imagecorruptions, mended where it breaks. broken: what it raised first, by corruption."""

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(folder))
        warnings.simplefilter("ignore")
        import imagecorruptions
        from imagecorruptions import corruptions as inside

        self._package, self._inside = imagecorruptions, inside
        self.names = imagecorruptions.get_corruption_names("common")
        picture = np.zeros((224, 224, 3), np.uint8)
        self.broken = {name: reason for name in self.names if (reason := self._raised(picture, name))}
        self._mend()

    def __call__(self, picture: np.ndarray, name: str, severity: int) -> np.ndarray:
        """picture and result: uint8 (224, 224, 3), BGR."""
        rgb = np.ascontiguousarray(picture[..., ::-1])
        return np.asarray(self._package.corrupt(rgb, severity, name))[..., ::-1]

    def _raised(self, picture: np.ndarray, name: str) -> str:
        try:
            self(picture, name, 1)
        except (AttributeError, TypeError) as error:
            return f"{type(error).__name__}: {error}".splitlines()[0]
        return ""

    def _mend(self) -> None:
        gaussian = self._inside.gaussian

        def translated(*arguments: Any, multichannel: bool = False, **options: Any) -> Any:
            return gaussian(*arguments, channel_axis=-1 if multichannel else None, **options)

        self._inside.gaussian = translated
        if not hasattr(np, "float_"):
            setattr(np, "float_", np.float64)  # noqa: B010 (a plain assignment reads as a use of the lost name)


def measured(apply: Apply, pictures: np.ndarray) -> tuple[float, list[float]]:
    """Median milliseconds a picture over all severities, and the mean change at each."""
    times, changes = [], []
    for severity in SEVERITIES:
        moved = []
        for place, picture in enumerate(pictures):
            started = time.perf_counter()
            made = apply(picture, severity, str(place))
            times.append(1e3 * (time.perf_counter() - started))
            moved.append(float(np.abs(made.astype(np.int16) - picture).mean()))
        changes.append(statistics.fmean(moved))
    return statistics.median(times), changes


def agreement(name: str, peer: Peer, pictures: np.ndarray) -> float:
    """PSNR, in dB, of our pictures against theirs."""
    errors = [
        float(((corrupt(p, name, severity, "").astype(float) - peer(p, name, severity)) ** 2).mean())
        for p in pictures
        for severity in SEVERITIES
    ]
    return float(10 * np.log10(255**2 / max(statistics.fmean(errors), 1e-9)))


def sheet(pictures: np.ndarray) -> np.ndarray:
    rows = []
    for name in CORRUPTIONS:
        tiles = [corrupt(p, name, severity, str(i)) for i, p in enumerate(pictures) for severity in (1, 3, 5)]
        row = np.hstack([tile for p, part in zip(pictures, (tiles[:3], tiles[3:]), strict=True) for tile in (p, *part)])
        rows.append(
            cv2.putText(np.ascontiguousarray(row), name, (4, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 255, 255), 1)
        )
    return np.vstack(rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    files = photo_files(options.folder)
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, options.photos).astype(int)]
    pictures = preprocess_batch([read_photo(path) for path in chosen], RULE)
    if options.sheet:
        cv2.imwrite(str(options.sheet), sheet(pictures[:2]))
    peer = Peer(options.peer) if options.peer else None
    print(
        f"{platform.machine()}, one thread, NumPy {np.__version__}, OpenCV {cv2.__version__}, {len(pictures)} photos\n"
    )
    print("| corruption | ms | theirs | ratio | strength at severity 1 to 5 | theirs | PSNR |")
    print("|---|---|---|---|---|---|---|")
    ratios: dict[str, float] = {}
    for name in CORRUPTIONS:
        ms, change = measured(lambda p, severity, key, name=name: corrupt(p, name, severity, key), pictures)
        cells = ["", "", ", ".join(f"{x:.1f}" for x in change), "", ""]
        if peer and name in peer.names:
            # Theirs draws from NumPy's one stream, and compiles parts of itself at the first call.
            np.random.seed(0)  # noqa: NPY002
            peer(pictures[0], name, 1)
            theirs, their_change = measured(lambda p, severity, key, name=name: peer(p, name, severity), pictures)
            cells[:2] = f"{theirs:.1f}", f"{theirs / ms:.1f}"
            ratios[name] = ms / theirs
            cells[3] = ", ".join(f"{x:.1f}" for x in their_change)
            cells[4] = f"{agreement(name, peer, pictures):.1f} dB" if name in NO_LOTS else ""
        print(f"| {name} | {ms:.1f} | {' | '.join(cells)} |", flush=True)
    if ratios:
        slowest = max(ratios, key=lambda name: ratios[name])
        note = f"median and quartiles of {len(ratios)} corruptions"
        record("time of a corruption", "imagecorruptions", **quartiles(ratios.values()), note=note)
        record(f"time of {slowest}, the slowest beside theirs", "imagecorruptions", ratios[slowest])
    for name, reason in peer.broken.items() if peer else ():
        print(f"\nimagecorruptions' {name} as installed raises {reason}")


if __name__ == "__main__":
    main()
