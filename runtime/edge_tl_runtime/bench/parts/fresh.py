"""What a process that has just started pays: `python -m edge_tl_runtime.bench.parts.fresh MODEL SETTINGS FRAMES SEED SIZE`.

Prints one JSON object. SETTINGS: JSON of a SessionSettings; FRAMES: how many follow the first at most; SIZE: JSON of their
height and width.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_tl_runtime.bench.documents import FreshProcessDocument

FRAMES_S = 5.0
"""Time for the frames; of a large network fewer fit into it."""
_STATUS = Path("/proc/self/status")


def main(model: str, settings: str, frames: str, seed: str, size: str) -> FreshProcessDocument:
    """load_ms: until the session stands, the first query and imports left out. first_query_ms: the self-test's call, the first
    that the session answers. cpu_ms_a_frame: of all threads, over the frames. peak_mb: resident, of the whole life of
    this process; threads: of the process, at its end. None where the kernel does not tell."""
    started = time.perf_counter()
    import numpy as np

    from edge_tl_runtime.bench.parts.latency import FrameLoop
    from edge_tl_runtime.inference.classifier import Classifier, SessionSettings

    imported = time.perf_counter()

    class Timed(Classifier):
        first_ms = 0.0

        def logits(self, pixels: Any) -> Any:
            begun = time.perf_counter()
            try:
                return super().logits(pixels)
            finally:
                self.first_ms = self.first_ms or (time.perf_counter() - begun) * 1e3

    begun = time.perf_counter()
    classifier = Timed(model, SessionSettings(**json.loads(settings)))
    opened_ms = (time.perf_counter() - begun) * 1e3
    height, width = json.loads(size)
    shown = np.random.default_rng(int(seed)).integers(0, 256, (4, height, width, 3), np.uint8)
    loop = FrameLoop(classifier, list(shown))
    loop.next()
    spent, count, ends = time.process_time(), 0, time.monotonic() + FRAMES_S
    while count < int(frames) and (not count or time.monotonic() < ends):
        loop.next()
        count += 1
    spent = time.process_time() - spent
    return {
        "import_ms": round((imported - started) * 1e3, 2),
        "load_ms": round(opened_ms - classifier.first_ms, 2),
        "first_query_ms": round(classifier.first_ms, 3),
        "cpu_ms_a_frame": round(1e3 * spent / count, 4),
        "peak_mb": None if (peak := _status("VmHWM")) is None else round(peak / 1024, 1),
        "threads": _status("Threads"),
    }


def _status(name: str) -> int | None:
    """A number of this process's status. Not of getrusage, whose peak a process inherits from the one that started it."""
    try:
        found = re.search(rf"^{name}:\s*(\d+)", _STATUS.read_text("ascii", "replace"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")
