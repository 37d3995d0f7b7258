"""The photos that quantization looks at: those that calibrate, and those that rank candidates. None of them evaluates."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import DataError
from edge_tl_runtime.evaluation.evaluate import PixelReader
from edge_tl_runtime.images.datasets.dataset import LabelledPhotos
from edge_tl_runtime.images.datasets.survey import Unreadable
from edge_tl_runtime.modelfile.spec import ResizeRule, spread

BATCH = 8
TRAINING_BATCH = 16
RANKING = 64
FEW = 32
"""Photos below which extremes are chance: a person is told."""
PLAIN = 2.0
"""Standard deviation of the pixels, in levels of 255, below which a photo shows nothing."""


class CalibrationPhotos:
    """Photos spread over the classes. Without photos: patterns, for comparing graphs alone."""

    def __init__(self, photos: LabelledPhotos | None, rule: ResizeRule, size: int, mirror: bool = True) -> None:
        """mirror: whether a mirror image of a photo still shows its class."""
        self._rule, self._all, self._mirror = rule, photos, mirror
        self._chosen = None if photos is None else photos.spread(shares(len(photos), size)[0])
        self.count = 0 if self._chosen is None else len(self._chosen)
        self.read = 0
        self.skipped: tuple[Unreadable, ...] = ()
        self.warnings: list[str] = []

    @property
    def digest(self) -> str:
        """SHA-256 over the names of the photos."""
        names = [] if self._chosen is None else [self._chosen.name(i) for i in range(self.count)]
        return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()

    def samples(self, count: int) -> NDArray[np.uint8]:
        """Pixels of some of the photos, uint8 (N, H, W, 3), or of patterns where there are none."""
        if self._chosen is None:
            coarse = np.random.default_rng(0).integers(0, 256, (count, 28, 28, 3), np.uint8)
            return np.concatenate([spread(pattern, self._rule) for pattern in coarse])
        some = self._chosen.spread(count)
        return np.concatenate([batch.pixels for batch in PixelReader(some, self._rule)])

    def batches(self, done: Callable[[int], None]) -> list[NDArray[np.uint8]]:
        """All of the photos, uint8 (N, H, W, 3) each. Raises DataError when most of them show nothing."""
        assert self._chosen is not None
        reader = PixelReader(self._chosen, self._rule, BATCH, done)
        batches = [batch.pixels for batch in reader]
        self.skipped = tuple(reader.skipped)
        self.read = sum(map(len, batches))
        plain = sum(int(photo.std() < PLAIN) for batch in batches for photo in batch)
        if 2 * plain > self.read:
            raise DataError(
                f"{plain} of {self.read} calibration photos in {self._chosen.root} are of one colour, so they show no ranges; "
                "give photos like those of the camera with --photos FOLDER"
            )
        if self.read < FEW:
            self.warnings.append(
                f"only {self.read} photos to calibrate on; ranges from fewer than {FEW} are chance, 100 or more are better"
            )
        return batches

    def training_batches(self, epoch: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        """All photos of the part that calibrates, in an order of the epoch, half of them mirrored unless training found that to
        change their class; targets int64 (N,)."""
        assert self._all is not None
        generator = np.random.default_rng(epoch)
        order = [int(i) for i in generator.permutation(len(self._all))]
        shuffled = self._all.subset(order, self._all.split)
        for batch in PixelReader(shuffled, self._rule, TRAINING_BATCH):
            mirrored = (generator.random(len(batch.pixels)) < 0.5) & self._mirror
            pixels = batch.pixels.copy()
            pixels[mirrored] = pixels[mirrored, :, ::-1]
            yield pixels, np.asarray([shuffled.targets[i] for i in batch.indices], np.int64)

    def ranking(self) -> NDArray[np.uint8]:
        """Pixels of photos that do not calibrate, uint8 (N, H, W, 3); with none left, of those that do."""
        assert self._all is not None
        assert self._chosen is not None
        taken = set(self._chosen.paths)
        left = [i for i, path in enumerate(self._all.paths) if path not in taken]
        if len(left) < BATCH:
            self.warnings.append("no photos left to rank candidates on, so they are ranked on those that calibrate")
            return self.samples(RANKING)
        rest = self._all.subset(left, self._all.split)
        some = rest.spread(RANKING)
        return np.concatenate([batch.pixels for batch in PixelReader(some, self._rule)])


def shares(total: int, size: int) -> tuple[int, int]:
    """How many of the photos of a part calibrate, `size` at most, and how many others are left to rank candidates on.

    Where a quarter is a batch or more, so many are left; where it is not, those that calibrate rank too, and the second is 0.
    """
    if total // 4 >= BATCH:
        size = min(size, total - min(RANKING, total // 4))
    count = min(size, total)
    return count, min(RANKING, total - count) if total - count >= BATCH else 0
