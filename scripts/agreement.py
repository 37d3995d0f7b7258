"""Whether a model file answers on a board as it does here: the same photo files, from the bytes of the JPEG to the logits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from answers import SETTINGS
from boards import Answers
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadImage, DataError
from edge_tl_runtime.core.statistics import wilson
from edge_tl_runtime.images.datasets.dataset import load_unlabelled
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.inference.classifier import INPUT_NAME, OUTPUT_NAME, open_session
from edge_tl_runtime.modelfile.onnx import parse_spec, read_model

ENDINGS_KEPT = 6


@dataclass(frozen=True)
class Difference:
    """Two tables of logits, float32 (N, C), of the same photos.

    equal: photos of the same label. largest, median: of the absolute difference of any logit; NaN on either side stays NaN and
    does not pass for agreement. identical: byte for byte.
    """

    n: int
    equal: int
    largest: float
    median: float
    identical: bool

    @classmethod
    def between(cls, first: NDArray[np.float32], second: NDArray[np.float32]) -> Difference:
        distance = np.abs(first - second)
        equal = int((first.argmax(1) == second.argmax(1)).sum())
        identical = first.tobytes() == second.tobytes()
        return cls(len(first), equal, float(distance.max()), float(np.median(distance)), identical)

    @property
    def interval(self) -> tuple[float, float]:
        """Of the rate of equal labels, 95 %, in [0, 1] (Wilson)."""
        return wilson(self.equal, self.n)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "interval": list(self.interval)}


@dataclass(frozen=True)
class Agreement:
    """One model on one board against this machine.

    whole: from the photo's bytes, decoded and resized on each side. graph: the board's pixels on both sides, so the network
    alone. spread: standard deviation of the logits here, to weigh a difference by. decoded_equal: photos that decode to the same
    frame; pixels_equal: those whose cropped and resized pixels are the same; pixels_largest: the largest difference of any,
    0 to 255. refused: what the file's self-test said on the board.
    """

    model: str
    board: str
    whole: Difference
    graph: Difference
    spread: float
    decoded_equal: int
    pixels_equal: int
    pixels_largest: int
    refused: str
    seconds: float
    here: dict[str, str]
    there: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "whole": self.whole.to_dict(), "graph": self.graph.to_dict()}


@contextmanager
def job(models: Sequence[Path], data: Path, count: int) -> Iterator[tuple[Path, int]]:
    """A folder of links to the models and to at most `count` photos, spread evenly over the sorted names so that every class
    has its turn, and how many they are. Raises DataError where no photo can be read, BadModelError for a file that is no model.
    """
    for model in models:
        parse_spec(read_model(model), str(model))
    paths = load_unlabelled(data).paths
    chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int))]
    with TemporaryDirectory() as name:
        folder = Path(name)
        for part, files in (("models", models), ("photos", [path for path in chosen if _readable(path)])):
            (folder / part).mkdir()
            for index, path in enumerate(files):
                # By number: names in any script survive every board's file system, and the order is ours.
                os.symlink(path.resolve(), folder / part / f"{index:06d}{path.suffix.lower()[:ENDINGS_KEPT]}")
        found = len(os.listdir(folder / "photos"))
        if not found:
            raise DataError(
                f"not one of {len(chosen)} photos of {data} can be read; check them with: edge-tl data {data}"
            )
        yield folder, found


def agreement(model: Path, board: str, here: Answers, there: Answers, seconds: float) -> Agreement:
    """seconds: that the board took for a photo, its start included; under emulation it says nothing of a board."""
    distance = np.abs(here.pixels.astype(np.int16) - there.pixels).reshape(len(here.pixels), -1).max(1)
    same_pixels = here.logits if not distance.any() else _logits(model, there.pixels)
    return Agreement(
        model=str(model),
        board=board,
        whole=Difference.between(here.logits, there.logits),
        graph=Difference.between(same_pixels, there.logits),
        spread=float(here.logits.std()),
        decoded_equal=sum(a == b for a, b in zip(here.frames, there.frames, strict=True)),
        pixels_equal=int((distance == 0).sum()),
        pixels_largest=int(distance.max()),
        refused=there.refused,
        seconds=seconds,
        here=dict(here.machine),
        there=dict(there.machine),
    )


def _logits(model: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = open_session(read_model(model), str(model), SETTINGS)
    rows = [session.run([OUTPUT_NAME], {INPUT_NAME: pixels[i : i + 1]})[0] for i in range(len(pixels))]
    return np.concatenate(rows).astype(np.float32)


def _readable(path: Path) -> bool:
    try:
        read_photo(path)
    except BadImage:
        return False
    return True
