"""Work on several processor cores: how many this process may use, and a function of each item in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_in_order(
    function: Callable[[_Item], _Result], items: Iterable[_Item], workers: int | None = None
) -> Iterator[_Result]:
    """`function` of each item, computed by a few threads ahead of the reader, given in order.

    OpenCV and NumPy release the interpreter lock, so threads use the cores. At most 4 items a worker wait in memory.
    """
    workers = workers or usable_cores()
    with ThreadPoolExecutor(workers, thread_name_prefix="photos") as pool:
        pending: list[Future[_Result]] = []
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= 4 * workers:
                    yield pending.pop(0).result()
            while pending:
                yield pending.pop(0).result()
        finally:
            for future in pending:
                future.cancel()


def usable_cores() -> int:
    """Cores this process may run on, which in a container or under taskset is fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
