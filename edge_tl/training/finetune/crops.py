"""Training photos in memory, and the random views of them that an epoch sees.

A photo is decoded once and kept as a square canvas of `SIDE_FACTOR` times the input's side; the whole photo is on it, so a
crop is a box in relative coordinates, whatever the photo's shape. Views are cut from a batch of canvases by one bilinear
sampling on the device that trains: on a GPU the canvases themselves move there and no loader can starve it.

Every view is drawn from (seed, epoch, photo) alone: threads, processes and an interruption change nothing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from edge_tl.models._torchvision import import_torchvision
from edge_tl.training.finetune.augment_noise import disturb
from edge_tl_runtime.core.errors import BadImage, DataError
from edge_tl_runtime.core.threads import map_in_order
from edge_tl_runtime.images.decode import Frame, read_photo
from edge_tl_runtime.images.geometry import region_of
from edge_tl_runtime.modelfile.sections import FILL
from edge_tl_runtime.modelfile.spec import ResizeRule

SIDE_FACTOR = 1.4
MEMORY_SHARE = 0.25
"""Share of the memory that canvases may take, of the machine or of the GPU; what does not fit is decoded each time."""


class Canvases:
    """Photos as uint8 (S, S, 3) in the network's colour order, kept after their first use as far as memory allows."""

    def __init__(self, paths: Sequence[Path], rule: ResizeRule, device: torch.device) -> None:
        self.paths, self.rule, self.device = tuple(paths), rule, device
        self.side = math.ceil(SIDE_FACTOR * max(rule.height, rule.width))
        self.aspects = np.ones(len(self.paths))
        """Width over height of what is looked at of each photo; known once it was read."""
        room = int(MEMORY_SHARE * _memory() / (self.side**2 * 3))
        self._kept = np.empty((min(room, len(self.paths)), self.side, self.side, 3), np.uint8)
        self._have = np.zeros(len(self._kept), bool)
        self._resident: torch.Tensor | None = None
        self._reader = ThreadPoolExecutor(1)
        self._ahead: tuple[bytes, Future[NDArray[np.uint8]]] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def prefetch(self, indices: NDArray[np.int64]) -> None:
        """Begin to decode what a coming `batch` of these indices will need, beside whatever is computed meanwhile."""
        if self._resident is None:
            self._ahead = (indices.tobytes(), self._reader.submit(self._load, indices))

    def batch(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """uint8 (B, S, S, 3) on the device. Raises DataError for a photo that can no longer be read."""
        if self._resident is not None:
            return self._resident[torch.from_numpy(indices).to(self.device)]
        key, coming = self._ahead or (b"", None)
        rows = coming.result() if coming is not None and key == indices.tobytes() else self._load(indices)
        self._ahead = None
        host = torch.from_numpy(rows)
        if self.device.type != "cuda":
            return host.to(self.device)
        if len(self._have) == len(self.paths) and self._have.all() and self._fits_device():
            self._resident = torch.from_numpy(self._kept).to(self.device)
        return host.pin_memory().to(self.device, non_blocking=True)

    def _load(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        missing = [i for i in dict.fromkeys(indices.tolist()) if i >= len(self._have) or not self._have[i]]
        fresh = dict(zip(missing, map_in_order(self._read, missing), strict=True))
        for index, canvas in fresh.items():
            if index < len(self._have):
                self._kept[index], self._have[index] = canvas, True
        return np.stack([fresh[i] if i in fresh else self._kept[i] for i in indices.tolist()])

    def _fits_device(self) -> bool:
        free, _ = torch.cuda.mem_get_info(self.device)
        return self._kept.nbytes < MEMORY_SHARE * free

    def _read(self, index: int) -> NDArray[np.uint8]:
        try:
            frame = read_photo(self.paths[index])
        except BadImage as error:
            raise DataError(f"{self.paths[index]} could be read before and now cannot ({error})") from None
        part = _fitted(region_of(frame, self.rule.geometry), self.rule)
        stretched = self.rule.geometry is not None and self.rule.geometry.fit == "stretch"
        self.aspects[index] = self.rule.width / self.rule.height if stretched else part.shape[1] / part.shape[0]
        return _square(part, self.side, self.rule.color_order)


def _fitted(part: Frame, rule: ResizeRule) -> Frame:
    """The part that views are taken from: with its grey edges where the network sees them too."""
    if rule.geometry is None or rule.geometry.fit != "letterbox":
        return part
    fill = FILL if rule.geometry.fill is None else rule.geometry.fill
    rows, columns = part.shape[:2]
    missing_rows = max(0, round(columns * rule.height / rule.width) - rows)
    missing_columns = max(0, round(rows * rule.width / rule.height) - columns)
    top, left = missing_rows // 2, missing_columns // 2
    border = top, missing_rows - top, left, missing_columns - left
    return np.asarray(cv2.copyMakeBorder(part, *border, cv2.BORDER_CONSTANT, value=(fill, fill, fill)), np.uint8)


def _square(frame: Frame, side: int, color_order: str) -> NDArray[np.uint8]:
    shrinks = frame.shape[0] > side and frame.shape[1] > side
    canvas = cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.ascontiguousarray(canvas[:, :, ::-1]) if color_order == "RGB" else np.asarray(canvas, np.uint8)


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class Views:
    """How an epoch sees the photos: crops, mirroring, and a policy of torchvision's.

    policy: "none" (the centre crop of the resize rule), "crop" (random resized crops, Szegedy et al. 2015, and mirroring),
    "trivial" (with TrivialAugmentWide, Mueller and Hutter 2021) or "rand" (with RandAugment, Cubuk et al. 2020).
    disturbance: a key of `augment_noise.KINDS`, done last. mirror: whether half of the views are mirrored; the crops are the
    same either way.
    """

    def __init__(
        self,
        canvases: Canvases,
        policy: str,
        min_area: float,
        seed: int,
        disturbance: str = "none",
        mirror: bool = True,
    ) -> None:
        self.canvases, self.policy, self.min_area, self.seed = canvases, policy, min_area, seed
        self.disturbance, self.mirror = disturbance, mirror
        self._extra = _policy(policy)

    def batch(self, epoch: int, indices: NDArray[np.int64]) -> torch.Tensor:
        """float32 (B, H, W, 3), 0 to 255, on the canvases' device."""
        canvases = self.canvases.batch(indices)
        boxes = np.stack([self._box(epoch, int(index)) for index in indices])
        views = sample(canvases, torch.from_numpy(boxes).to(canvases.device), self.canvases.rule)
        views = views if self._extra is None else self._with_policy(views, epoch, indices)
        if self.disturbance == "none":
            return views
        rngs = [np.random.default_rng((self.seed, epoch, int(index), 2)) for index in indices]
        return disturb(views, self.disturbance, rngs)

    def _box(self, epoch: int, index: int) -> NDArray[np.float32]:
        aspect, rule = float(self.canvases.aspects[index]), self.canvases.rule
        if self.policy == "none":
            wanted = rule.width / rule.height / aspect
            width, height = min(1.0, wanted) * rule.crop_pct, min(1.0, 1 / wanted) * rule.crop_pct
            return np.asarray([(1 - width) / 2, (1 - height) / 2, (1 + width) / 2, (1 + height) / 2], np.float32)
        rng = np.random.default_rng((self.seed, epoch, index))
        area, shape = rng.uniform(self.min_area, 1.0), math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = min(1.0, math.sqrt(area * shape / aspect)), min(1.0, math.sqrt(area / shape * aspect))
        left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
        box = np.asarray([left, top, left + width, top + height], np.float32)
        mirrored = self.mirror and rng.random() < 0.5
        return box[[2, 1, 0, 3]] if mirrored else box  # right before left: mirrored

    def _with_policy(self, views: torch.Tensor, epoch: int, indices: NDArray[np.int64]) -> torch.Tensor:
        assert self._extra is not None
        changed = []
        with torch.random.fork_rng(devices=[]):
            for index, view in zip(indices.tolist(), views.round().to(torch.uint8).permute(0, 3, 1, 2), strict=True):
                torch.manual_seed(int(np.random.SeedSequence((self.seed, epoch, index, 1)).generate_state(1)[0]))
                changed.append(self._extra(view))
        return torch.stack(changed).permute(0, 2, 3, 1).float()


def sample(canvases: torch.Tensor, boxes: torch.Tensor, rule: ResizeRule) -> torch.Tensor:
    """Cut boxes out of canvases, bilinear: uint8 (B, S, S, 3) and (B, 4) as left, top, right, bottom in [0, 1].

    Returns float32 (B, height, width, 3), 0 to 255. A box whose right is left of its left comes out mirrored.
    """
    left, top, right, bottom = boxes.unbind(1)
    zero = torch.zeros_like(left)
    rows = torch.stack([right - left, zero, left + right - 1]), torch.stack([zero, bottom - top, top + bottom - 1])
    theta = torch.stack(rows).permute(2, 0, 1)
    grid = torch.nn.functional.affine_grid(theta, [len(boxes), 3, rule.height, rule.width], align_corners=False)
    planes = canvases.permute(0, 3, 1, 2).float()
    cut = torch.nn.functional.grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return cut.permute(0, 2, 3, 1)


def _policy(name: str):  # type: ignore[no-untyped-def]  # torchvision has no types
    if name not in ("trivial", "rand"):
        return None
    import_torchvision()
    from torchvision.transforms import v2

    return v2.TrivialAugmentWide() if name == "trivial" else v2.RandAugment()
