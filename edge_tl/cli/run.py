"""`edge-tl run MODEL --source S`."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar

import click

from edge_tl.cli.console import say, say_skipped
from edge_tl.cli.options import Sections, options
from edge_tl_runtime.core.settings import assembled
from edge_tl_runtime.inference.settings import OpenSettings
from edge_tl_runtime.run.plan import RunPlan

if TYPE_CHECKING:
    from edge_tl_runtime.run.runner import Runner
    from edge_tl_runtime.sources import Source


class RunCommand(Sections):
    """Its options are those of the source first."""

    sections: ClassVar = {
        "source": "Source",
        "size": "Camera and connection",
        "threshold": "Answers",
        "headless": "Results",
        "batch": "How it runs",
    }


@click.command(cls=RunCommand, short_help="Classify the frames of a camera, video or folder.")
@click.argument("model", type=click.Path(path_type=Path))
@options(RunPlan)
@options(OpenSettings)
@click.option("--max-frames", type=click.IntRange(1), help="Stop after this many frames.")
def command(
    model: Path, threads: int | None, provider: str | None, profile: bool, max_frames: int | None, **values: Any
) -> None:
    """Classify frames live. A window shows label, confidence and frame rate; q ends it.

    Every photo and every frame of a file is classified; of a camera, always the newest frame. A camera that stops, freezes or
    disappears is reconnected for ever.
    """
    from edge_tl_runtime.machine.open_classifier import open_classifier
    from edge_tl_runtime.run.assemble import assemble, default_settings, pace

    plan = assembled(RunPlan, {**values, "model": model})

    def load(path: Path) -> Any:
        return open_classifier(path, threads, provider, profile, pace(plan), default_settings(plan), say)

    with ExitStack() as stack:
        runner = assemble(plan, load, stack, _told(plan), max_frames)
        source = runner.stream.source
        with stopped_by_signals(source):
            runner.run()
    _sum_up(runner)
    # Beside a camera what a sink missed is told; of files everything was asked for.
    if not source.stopping_asked and (not runner.health.frames or (runner.lost() and not source.live)):
        sys.exit(1)


def _told(plan: RunPlan) -> Any:
    """Lines for a person, with the time of day where the run may last."""

    def tell(line: str) -> None:
        with suppress(OSError, ValueError):  # nobody listens any more: no reason to end a run
            say(f"{time.strftime('%H:%M:%S')}  {line}" if plan.live else line)

    return tell


def _sum_up(runner: Runner) -> None:
    from edge_tl_runtime.sources.base import told_rejections

    source, health = runner.stream.source, runner.health
    folder = Path(source.name)
    say_skipped(source.skipped, health.frames, folder if folder.is_dir() else None)
    if source.skipped_count > len(source.skipped):
        say(f"  {source.skipped_count} in all")
    for name in runner.stuck:
        say(f"{name} did not finish in time; what waited for it is lost")
    for name, missed in runner.lost().items():
        say(f"{name}: {missed}")
    for line in runner.drift_lines():
        say(f"drift: {line}")
    if health.frames:
        counts, latency = source.counts, health.latency_ms()
        reasons = told_rejections(counts.reasons)
        rejected = f"rejected ({reasons})" if reasons else "rejected"
        motion = health.document()["motion"]
        still = {"still (nothing moved)": motion["still"]} if motion else {}
        lost = {**still, rejected: counts.rejected, "repeated": counts.repeated, "reconnects": counts.reconnects}
        more = "".join(f", {count} {name}" for name, count in lost.items() if count)
        say(
            f"{health.frames} frames, {counts.dropped} dropped{more}, {source.skipped_count} skipped; latency median "
            f"{latency['p50']:.2f} ms, p95 {latency['p95']:.2f} ms; {runner.stream.classifier.settings}"
        )
    elif not source.stopping_asked:
        bad = source.counts.rejected + runner.stream.bad
        say(f"nothing was classified: {source.name} gave no usable frame{f' and {bad} that are none' if bad else ''}")


@contextmanager
def stopped_by_signals(source: Source) -> Iterator[None]:
    """SIGINT and SIGTERM end the loop in good order after the frame at hand; a second one ends the process at once.

    The hang-up of a terminal (SIGHUP) changes nothing: a runner that was started over ssh goes on.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if source.stopping_asked:
            sys.exit(128 + number)
        source.stop()
        source.stopping_asked = True

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
