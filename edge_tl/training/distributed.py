"""Several processes as one trainer: `torchrun --nproc-per-node N -m edge_tl train ...`.

Each process takes its share of every global batch; what is written and said comes from the first one alone. Before they exchange
anything they meet in a store, where they wait for as long as the others live: one of them may have hours of work that the others
lack, and the limit of a collective is no judgement on that.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from edge_tl_runtime.core.errors import PeerFailed

_Value = TypeVar("_Value")

PULSE = 2.0
"""Seconds between two signs of life."""
LOST = 120.0
"""Seconds without a sign of life after which a process counts as dead; a busy machine may well take many."""
_LOOKS = (0.001, 0.2)
"""Shortest and longest pause between two looks for a process that is late, in seconds."""


class Meeting:
    """Where processes wait for each other, in a store that all of them reach."""

    def __init__(self, store: Store, rank: int, size: int) -> None:
        self._store, self.rank, self.size = store, rank, size
        self._count = 0
        self._ended = threading.Event()
        self._pulse = threading.Thread(target=self._live, name="pulse", daemon=True)
        self._pulse.start()

    def __call__(self) -> None:
        """Return when every process is here. Raises PeerFailed when one of them never will be."""
        self._count += 1
        try:
            self._store.set(f"here/{self._count}/{self.rank}", "1")
            for other in range(self.size):
                if other != self.rank:
                    self._await(other)
            if self._count > 2:  # everyone who is here has read the meeting before
                self._store.delete_key(f"here/{self._count - 2}/{self.rank}")
        except (RuntimeError, EOFError, OSError):  # the store lived in a process that is gone
            raise PeerFailed("the process that the others meet at has ended; start them again with --resume") from None

    def fail(self) -> None:
        """Tell the others that this process will not come."""
        with contextlib.suppress(RuntimeError, EOFError, OSError):
            self._store.set("failed", str(self.rank))

    def close(self) -> None:
        self._ended.set()
        self._pulse.join()

    def _await(self, other: int) -> None:
        pause, sign, since = _LOOKS[0], b"", time.monotonic()
        while not self._store.check([f"here/{self._count}/{other}"]):
            if self._store.check(["failed"]):
                raise PeerFailed(f"process {self._store.get('failed').decode()} of the training has failed", told=True)
            if self._store.check([f"alive/{other}"]) and (now := self._store.get(f"alive/{other}")) != sign:
                sign, since = now, time.monotonic()
            if time.monotonic() - since > LOST:
                raise PeerFailed(
                    f"process {other} of the training has shown no sign of life for {LOST:.0f} s; start it again with --resume"
                )
            time.sleep(pause)
            pause = min(2 * pause, _LOOKS[1])

    def _live(self) -> None:
        count = 0
        with contextlib.suppress(RuntimeError, EOFError, OSError):
            while not self._ended.wait(PULSE if count else 0):
                count += 1
                self._store.set(f"alive/{self.rank}", str(count))


@dataclass(frozen=True)
class ProcessGroup:
    """rank: which of `size` processes this is. local: its number on this machine, which chooses its GPU."""

    rank: int = 0
    size: int = 1
    local: int = 0
    meeting: Meeting | None = None

    @property
    def first(self) -> bool:
        return self.rank == 0

    def meet(self) -> None:
        """Wait until every process is here, however long the work that keeps it. Raises PeerFailed."""
        if self.meeting is not None:
            self.meeting()

    def share(self, value: _Value) -> _Value:
        """The first process's value, in all of them."""
        if self.size == 1:
            return value
        self.meet()
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0)
        result: _Value = box[0]
        return result

    def gather(self, value: _Value) -> list[_Value]:
        """Every process's value, by rank, in all of them."""
        if self.size == 1:
            return [value]
        self.meet()
        box: list[Any] = [None] * self.size
        dist.all_gather_object(box, value)
        return box

    def sum(self, *values: float) -> list[float]:
        return [sum(column) for column in zip(*self.gather(values), strict=True)]


@contextlib.contextmanager
def process_group(cuda: bool) -> Iterator[ProcessGroup]:
    """The group that torchrun's environment describes; a lone process when there is none.

    An error in one process reaches the others as PeerFailed, at the latest when they next meet.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ProcessGroup()
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if cuda:
        torch.cuda.set_device(local)
    store, _, _ = next(rendezvous("env://", rank, size))
    dist.init_process_group(
        "nccl" if cuda else "gloo", store=PrefixStore("collectives", store), rank=rank, world_size=size
    )
    meeting = Meeting(PrefixStore("meetings", store), rank, size)
    try:
        yield ProcessGroup(rank, size, local, meeting)
    except BaseException as error:
        meeting.fail()
        if isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and _of_a_collective(str(error))):
            raise PeerFailed(
                f"another process of the training has ended ({_first_line(error)}); start them again with --resume"
            ) from None
        raise
    finally:
        meeting.close()
        dist.destroy_process_group()


def _of_a_collective(message: str) -> bool:
    """Whether a RuntimeError is gloo's or NCCL's, which have no type of their own for a peer that is gone."""
    return any(word in message for word in ("gloo", "NCCL", "Connection closed by peer", "Connection reset"))


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
