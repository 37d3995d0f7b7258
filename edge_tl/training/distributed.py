"""Several processes as one trainer: `torchrun --nproc-per-node N -m edge_tl train ...`.

Each process takes its share of every global batch; what is written and said comes from the first one alone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Group:
    """rank: which of `size` processes this is. local: its number on this machine, which chooses its GPU."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, value: _Value) -> _Value:
        """The first process's value, in all of them."""
        if self.size == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0)
        result: _Value = box[0]
        return result

    def gather(self, value: _Value) -> list[_Value]:
        """Every process's value, by rank, in all of them."""
        if self.size == 1:
            return [value]
        box: list[Any] = [None] * self.size
        dist.all_gather_object(box, value)
        return box

    def sum(self, *values: float) -> list[float]:
        return [sum(column) for column in zip(*self.gather(values), strict=True)]


@contextlib.contextmanager
def process_group(cuda: bool) -> Iterator[Group]:
    """The group that torchrun's environment describes; a lone process when there is none."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group()
        return
    group = Group(int(os.environ["RANK"]), size, int(os.environ.get("LOCAL_RANK", "0")))
    if cuda:
        torch.cuda.set_device(group.local)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield group
    finally:
        dist.destroy_process_group()
