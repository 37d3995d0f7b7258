"""`edge-tl run MODEL --source S`."""

from __future__ import annotations

import signal
import statistics
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from edge_tl.cli.console import say, say_skipped
from edge_tl.cli.session import open_classifier, session_options

if TYPE_CHECKING:
    from edge_tl_runtime.sources import Source


@click.command(short_help="Classify the frames of a camera, video or folder.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--source", default="0", show_default=True, help="Camera index or path, video, photo, folder, glob or URL."
)
@click.option("--headless", is_flag=True, help="Show no window.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line for each frame.")
@click.option("--top-k", default=5, show_default=True, type=click.IntRange(1))
@session_options
@click.option("--max-frames", type=click.IntRange(1), help="Stop after so many frames.")
def command(
    model: Path,
    source: str,
    headless: bool,
    as_json: bool,
    top_k: int,
    threads: int | None,
    provider: str | None,
    profile: bool,
    max_frames: int | None,
) -> None:
    """Classify frames live. A window shows label, confidence and frame rate; q ends it.

    Every photo and every frame of a file is classified; of a camera, always the newest frame.
    """
    from edge_tl_runtime.sinks import Changes, JsonLines, Sink, Window, window_obstacle
    from edge_tl_runtime.sources import open_source
    from edge_tl_runtime.stream import Stream

    classifier = open_classifier(model, threads, provider, profile)  # a bad file is refused before a camera is opened
    sinks: list[Sink] = [JsonLines(sys.stdout) if as_json else Changes(sys.stdout)]
    obstacle = "" if headless else window_obstacle()
    if obstacle:
        say(f"no window: {obstacle}")

    frames, latencies = 0, deque[float](maxlen=10_000)
    with open_source(source) as frames_source, _stopped_by_signals(frames_source):
        if not headless and not obstacle:
            sinks.append(Window(frames_source.hold_s))
        try:
            for result in Stream(frames_source, classifier, top_k):
                frames += 1
                latencies.append(result.prediction.latency_ms)
                wanted = [sink.write(result) for sink in sinks]
                if frames_source.stopping or not all(wanted) or frames == max_frames:
                    break
        finally:
            for sink in sinks:
                sink.close()
    say_skipped(frames_source.skipped)
    if latencies:
        ranked = sorted(latencies)
        say(
            f"{frames} frames, {frames_source.dropped} dropped, {len(frames_source.skipped)} skipped; latency median "
            f"{statistics.median(ranked):.2f} ms, p95 {ranked[int(0.95 * (len(ranked) - 1))]:.2f} ms; {classifier.settings}"
        )
    elif not frames_source.stopping:
        sys.exit(1)


@contextmanager
def _stopped_by_signals(source: Source) -> Iterator[None]:
    """SIGINT and SIGTERM end the loop in good order after the frame at hand; a second one ends the process at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if source.stopping:
            sys.exit(128 + number)
        source.stop()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
