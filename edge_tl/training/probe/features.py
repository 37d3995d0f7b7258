"""Features of photos through a frozen backbone, computed once and kept.

A photo is known by the SHA-256 of its bytes, a backbone by that of its weights and preprocessing: a file that changed is
computed again, one that was only renamed or moved to another split is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from edge_tl.data.cache import cache_folder
from edge_tl.models import Network
from edge_tl_export import PixelModel
from edge_tl_runtime.core.errors import BadFrame, BadImage, DataError, OutputError
from edge_tl_runtime.core.files import write_bytes
from edge_tl_runtime.core.progress import Progress
from edge_tl_runtime.core.threads import map_in_order
from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos
from edge_tl_runtime.images.datasets.survey import Unreadable
from edge_tl_runtime.images.datasets.tally import by_note
from edge_tl_runtime.images.decode import decode_noted, read_file
from edge_tl_runtime.images.formats.decoders import is_ordinary

# Few photos at a time stay in the caches of a CPU: 8.6 ms a photo in fours, 17 in thirty-twos (efficientnet_lite0, 2 cores).
CPU_BATCH = 4
GPU_BATCH = 64


@dataclass(frozen=True)
class Features:
    """values: float32 (N, D); targets: int64 (N,); names and digests (SHA-256 of the file) in the same order.

    indices: places of these photos in the LabelledPhotos. computed: how many were not in the cache. skipped: files that
    could not be read. adjusted: names of photos whose pixels had to be changed to be read, by what was done.
    groups: of these photos, as in the LabelledPhotos; () without.
    """

    values: NDArray[np.float32]
    targets: NDArray[np.int64]
    names: tuple[str, ...]
    digests: tuple[str, ...]
    skipped: tuple[Unreadable, ...]
    computed: int
    indices: tuple[int, ...]
    adjusted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    groups: tuple[str, ...] = ()


class FeatureExtractor:
    """Turns labelled photos into features; the network's head is not used.

    extract = FeatureExtractor(network, torch.device("cpu"))
    extract(photos).values.shape  # (244, 1280)
    """

    def __init__(self, network: Network, device: torch.device) -> None:
        self.network, self.device = network, device
        self._key = _backbone_key(network)
        self.cache_problem = ""
        """Why features could not be kept, when they could not."""

    def __call__(self, photos: LabelledPhotos, progress: Progress = lambda done: None) -> Features:
        """Read every photo, compute what the cache lacks. Raises DataError when a class has no readable photo."""
        cache = self._cache()
        rule = self.network.backbone.resize

        def prepare(path: Path) -> tuple[str, NDArray[np.uint8] | None, tuple[str, ...]] | Unreadable:
            try:
                data = read_file(path)
                digest = hashlib.sha256(data).hexdigest()
                if digest in cache.rows and is_ordinary(data):
                    return digest, None, ()
                frame, notes = decode_noted(data)
                return digest, None if digest in cache.rows else crop_resize(frame, rule), notes
            except (BadImage, BadFrame) as error:
                return Unreadable(path, str(error))

        kept: list[int] = []
        digests: list[str] = []
        noted: list[tuple[str, tuple[str, ...]]] = []
        skipped = list(photos.skipped)
        waiting: list[tuple[str, NDArray[np.uint8]]] = []
        computed = 0
        batch = CPU_BATCH if self.device.type == "cpu" else GPU_BATCH
        with self.network.headless() as module:
            model = PixelModel(module.eval(), self.network.backbone.normalization)
            model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            for index, result in enumerate(map_in_order(prepare, photos.paths)):
                if isinstance(result, Unreadable):
                    skipped.append(result)
                    progress(1)
                    continue
                digest, pixels, notes = result
                noted.append((photos.name(index), notes))
                kept.append(index)
                digests.append(digest)
                if pixels is None:
                    progress(1)
                    continue
                waiting.append((digest, pixels))
                if len(waiting) == batch:
                    cache.add(waiting, model.infer)
                    computed += len(waiting)
                    progress(len(waiting))
                    waiting = []
            if waiting:
                cache.add(waiting, model.infer)
                computed += len(waiting)
                progress(len(waiting))
        if computed:
            try:
                cache.save()
            except OutputError as error:  # a full disk need not stop the training
                self.cache_problem = str(error)
        targets = np.asarray([photos.targets[i] for i in kept], np.int64)
        _require_every_class(photos, targets, skipped)
        values = np.stack([cache.rows[digest] for digest in digests])
        return Features(
            values,
            targets,
            tuple(name for name, _ in noted),
            tuple(digests),
            tuple(skipped),
            computed,
            tuple(kept),
            by_note(noted),
            photos.subset(kept, photos.split).groups,
        )

    def _cache(self) -> _Cache:
        try:
            return _Cache(cache_folder("features") / f"{self._key}.safetensors")
        except OutputError as error:
            self.cache_problem = str(error)
            return _Cache(None)


class _Cache:
    """Feature rows by photo digest, in one file for each backbone; None keeps them in memory only.

    A damaged file is as good as none.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: dict[str, NDArray[np.float32]] = {}
        if path is not None and path.is_file():
            try:
                stored = load_file(path)
                digests = [bytes(row).hex() for row in stored["digests"]]
                self.rows = dict(zip(digests, stored["features"], strict=True))
            except (SafetensorError, KeyError, ValueError, OSError):
                self.rows = {}

    def add(
        self,
        photos: list[tuple[str, NDArray[np.uint8]]],
        forward: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    ) -> None:
        for (digest, _), row in zip(photos, forward(np.stack([pixels for _, pixels in photos])), strict=True):
            self.rows[digest] = row

    def save(self) -> None:
        if self.path is None:
            return
        digests = np.stack([np.frombuffer(bytes.fromhex(digest), np.uint8) for digest in self.rows])
        write_bytes(self.path, save({"digests": digests, "features": np.stack(list(self.rows.values()))}))


def fingerprint(*parts: Features, others: Iterable[str] = ()) -> str:
    """SHA-256 over the names' classes and contents of data sets, independent of where they lie and of their order.

    others: digests of photos of no class."""
    lines = sorted(
        f"{position}/{target}/{digest}"
        for position, part in enumerate(parts)
        for target, digest in zip(part.targets, part.digests, strict=True)
    )
    lines += sorted(f"background/{digest}" for digest in others)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _backbone_key(network: Network) -> str:
    digest = hashlib.sha256(
        repr((network.backbone.name, network.backbone.resize, network.backbone.normalization)).encode()
    )
    for name, tensor in network.module.state_dict().items():
        if not name.startswith(network.head_path + "."):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _require_every_class(photos: LabelledPhotos, targets: NDArray[np.int64], skipped: list[Unreadable]) -> None:
    for target in sorted(set(photos.targets)):
        if target not in targets:
            first = f"; the first: {skipped[0]}" if skipped else ""
            raise DataError(
                f"no photo of class {photos.labels[target]!r} in the {photos.split} part of {photos.root} could be read{first}"
            )
