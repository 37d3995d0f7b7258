"""What the file costs a process: start, memory, processor time, threads; each measured in processes of their own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from edge_tl_runtime.bench.parts.part import Bench, Part
from edge_tl_runtime.core.text import one_line

if TYPE_CHECKING:
    from edge_tl_runtime.bench.documents import FreshProcessDocument, ResourcesDocument

PROCESSES, QUICK_PROCESSES = 5, 2
FRAMES, QUICK_FRAMES = 100, 20
_PATIENCE_S = 900.0


class Resources(Part):
    """Medians over fresh processes, the first of which is not counted: it brings the files into the memory of the machine."""

    name = "resources"
    title = "fresh processes"

    def pieces(self, bench: Bench) -> int:
        return 1 + _processes(bench)

    def run(self, bench: Bench) -> ResourcesDocument:
        rows: list[FreshProcessDocument] = []
        why = ""
        for number in range(self.pieces(bench)):
            if number > 1 and bench.stop():
                break
            row, why = _fresh(bench, FRAMES if not bench.settings.quick else QUICK_FRAMES)
            bench.progress(1)
            if row is None:
                break
            rows += [row] if number else []
        return {
            "file_bytes": bench.model.stat().st_size,
            "processes": len(rows),
            "import_ms": _median(row["import_ms"] for row in rows),
            "load_ms": _median(row["load_ms"] for row in rows),
            "first_query_ms": _median(row["first_query_ms"] for row in rows),
            "cpu_ms_a_frame": _median(row["cpu_ms_a_frame"] for row in rows),
            "peak_mb": _median(row["peak_mb"] for row in rows),
            "threads": _median(row["threads"] for row in rows),
            "most_first_query_ms": max((x for row in rows if (x := row["first_query_ms"]) is not None), default=None),
            "why": why,
            "complete": len(rows) == _processes(bench) or bool(why),
        }


def _processes(bench: Bench) -> int:
    return QUICK_PROCESSES if bench.settings.quick else PROCESSES


def _fresh(bench: Bench, frames: int) -> tuple[FreshProcessDocument | None, str]:
    """Figures of one process, or why there are none: under an emulator, for one, a process may be unable to start another."""
    settings = json.dumps(asdict(bench.classifier.settings))
    arguments = [
        str(bench.model),
        settings,
        str(frames),
        str(bench.settings.seed),
        json.dumps(bench.settings.frame_shape()),
    ]
    command = [sys.executable, "-m", f"{__package__}.fresh", *arguments]
    # The same packages as here, wherever they lie.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"a fresh process could not be measured: {one_line(error)}"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        return None, f"a fresh process could not be measured: {one_line(last)}"
    row: FreshProcessDocument = json.loads(done.stdout)
    return row, ""


def _median(figures: Iterable[float | None]) -> float | None:
    values = [value for value in figures if value is not None]
    return statistics.median(values) if values else None
