"""`edge-tl run MODEL --source S`."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from edge_tl.cli.console import say, say_skipped
from edge_tl.cli.options import PluginOption
from edge_tl.cli.session import open_classifier, session_options

if TYPE_CHECKING:
    from edge_tl_runtime.run.assemble import Plan
    from edge_tl_runtime.run.runner import Runner
    from edge_tl_runtime.sources import Source


class Size(click.ParamType[tuple[int, int]]):
    """1280x720."""

    name = "WIDTHxHEIGHT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        found = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", str(value))
        if found is None:
            self.fail(f"{value!r} is no size; give one such as 1280x720", param, ctx)
        return int(found[1]), int(found[2])


class Seconds(click.ParamType[float]):
    """2, 2s, 500ms or 1m, as seconds."""

    name = "SECONDS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|sec|m|min|h)?\s*", str(value))
        seconds = (
            float(found[1]) * {"ms": 1e-3, "m": 60, "min": 60, "h": 3600}.get(found[2] or "s", 1) if found else 0.0
        )
        if not 0.01 <= seconds <= 86400:
            self.fail(f"{value!r} is no time of 10 ms to a day; give one such as 2s, 500ms or 1m", param, ctx)
        return seconds


class Megabytes(click.ParamType[int]):
    """A number of megabytes, as bytes."""

    name = "MB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return int(float(value) * 2**20)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no number of megabytes", param, ctx)


class Sections(click.Command):
    """A command whose options are listed under headings: each of SECTIONS begins with the option that it names."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        heading, rows = "Options", dict[str, list[tuple[str, str]]]()
        for param in self.get_params(ctx):
            heading = "Options" if param.name == "help" else SECTIONS.get(param.name or "", heading)
            record = param.get_help_record(ctx)
            if record:
                rows.setdefault(heading, []).append(record)
        for title, records in rows.items():
            with formatter.section(title):
                formatter.write_dl(records)


SECTIONS = {
    "size": "Camera and connection",
    "threshold": "What is shown",
    "headless": "Where it goes",
    "threads": "How it runs",
}


@click.command(cls=Sections, short_help="Classify the frames of a camera, video or folder.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--source",
    default="0",
    show_default=True,
    envvar="EDGE_TL_SOURCE",
    help="Camera (index, path or name under /dev/v4l/by-id), rpicam:0 for the camera module of a Pi, video, photo, folder, glob, "
    "list file (.txt), URL (RTSP, HTTP), - for photos or a video on standard input, a FIFO, test://bars for a picture without a "
    "camera, or NAME:... of a source that another package adds (edge-tl doctor lists them).",
)
@click.option("--size", type=Size(), help="Asked of a camera, such as 1280x720.")
@click.option("--fps", type=click.FloatRange(0.1, 1000), help="Frames a second asked of a camera.")
@click.option("--pixel-format", default="", metavar="FOURCC", help="Asked of a camera: MJPG, YUYV...")
@click.option(
    "--max-fps", type=click.FloatRange(0.01, 1000), help="Frames a second to take from a live source at most."
)
@click.option(
    "--every",
    type=Seconds(),
    metavar="S",
    help="Take a frame every so often: 2s, 500ms, 1m. A still picture at a URL is asked for so often.  [its default: 2s]",
)
@click.option(
    "--realtime",
    is_flag=True,
    help="Play a video at its own pace, newest frame only; take pictures on standard input as a camera's.",
)
@click.option("--wait", is_flag=True, help="Go on trying when the source is not there at the start.")
@click.option(
    "--stall",
    default=10.0,
    show_default=True,
    metavar="S",
    type=click.FloatRange(0.5),
    help="Silence to reconnect after.",
)
@click.option(
    "--first-frame",
    default=15.0,
    show_default=True,
    metavar="S",
    type=click.FloatRange(0.5),
    help="Patience for the first.",
)
@click.option(
    "--frozen",
    default=10.0,
    show_default=True,
    metavar="S",
    type=click.FloatRange(0),
    help="One frame repeating; 0: allowed.",
)
@click.option(
    "--threshold", default=0.0, metavar="P", type=click.FloatRange(0, 1), help="Below this probability: unknown."
)
@click.option(
    "--unfamiliar",
    type=click.FloatRange(0.5, 0.999),
    metavar="KEEP",
    help="Frames unlike the training data: unknown. KEEP is the fraction of familiar photos to keep: 0.95 or 0.99.",
)
@click.option("--labels", default="", metavar="A,B", help="Only these labels count.")
@click.option(
    "--smooth", default="none", show_default=True, metavar="KIND", help="ema:SECONDS or vote:K/N over the frames."
)
@click.option("--top-k", default=5, show_default=True, type=click.IntRange(1), help="Classes in each answer.")
@click.option("--headless", is_flag=True, help="Show no window.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line for each frame.")
@click.option("--web", is_flag=True, help="Serve a live page on this machine.")
@click.option(
    "--web-host", default="127.0.0.1", show_default=True, help="Other than this machine: a token is required."
)
@click.option(
    "--web-port",
    default=8080,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Of the page; 0: any that is free.",
)
@click.option("--web-token", default="", envvar="EDGE_TL_WEB_TOKEN", help="The page's token; made up when needed.")
@click.option("--log", type=click.Path(path_type=Path), help="Append JSON lines to a file that rotates.")
@click.option(
    "--csv", "csv_file", type=click.Path(path_type=Path), help="Append a row for each frame to a file that rotates."
)
@click.option("--log-size", default=10, show_default=True, type=Megabytes(), help="Size of a log before it rotates.")
@click.option("--log-keep", default=5, show_default=True, type=click.IntRange(1), help="Rotated logs to keep.")
@click.option(
    "--record", type=click.Path(path_type=Path), help="Write the annotated frames as a video (.mkv, .avi, .mp4)."
)
@click.option("--snapshots", type=click.Path(path_type=Path), help="Folder for a photo at each change of the label.")
@click.option("--snapshot-quota", default=200, show_default=True, type=Megabytes(), help="Size of all; the oldest go.")
@click.option("--mqtt", metavar="URL", envvar="EDGE_TL_MQTT", help="mqtt://USER:PASSWORD@HOST/TOPIC")
@click.option("--mqtt-all", is_flag=True, help="Publish every result, not only changes.")
@click.option(
    "--sink",
    cls=PluginOption,
    kind="sinks",
    multiple=True,
    metavar="NAME:K=V,...",
    help="A sink that another package adds, with its options; may be given again.",
)
@click.option(
    "--status", type=click.Path(path_type=Path), help="JSON of how the run is doing; its age is the heartbeat."
)
@click.option(
    "--status-every", default=5.0, show_default=True, metavar="S", type=click.FloatRange(1), help="How often."
)
@session_options
@click.option(
    "--batch", default=1, show_default=True, type=click.IntRange(1, 1024), help="Photos or video frames a call."
)
@click.option("--watch-model", is_flag=True, help="Take over a new model file at MODEL when it passes its self-test.")
@click.option("--max-frames", type=click.IntRange(1), help="Stop after so many frames.")
def command(
    model: Path, threads: int | None, provider: str | None, profile: bool, max_frames: int | None, **options: Any
) -> None:
    """Classify frames live. A window shows label, confidence and frame rate; q ends it.

    Every photo and every frame of a file is classified; of a camera, always the newest frame. A camera that is silent, frozen or
    gone is reconnected for ever.
    """
    from edge_tl_runtime.run.assemble import Plan, assemble, default_settings, pace

    plan = Plan(model=model, **options)

    def load(path: Path) -> Any:
        return open_classifier(path, threads, provider, profile, pace(plan), default_settings(plan))

    with ExitStack() as stack:
        runner = assemble(plan, load, stack, _told(plan), max_frames)
        source = runner.stream.source
        with _stopped_by_signals(source):
            runner.run()
    _sum_up(runner)
    # Beside a camera what a sink missed is told; of files everything was asked for.
    if not source.stopping_asked and (not runner.health.frames or (runner.lost() and not source.live)):
        sys.exit(1)


def _told(plan: Plan) -> Any:
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
    if health.frames:
        counts, latency = source.counts, health.latency_ms()
        reasons = told_rejections(counts.reasons)
        rejected = f"rejected ({reasons})" if reasons else "rejected"
        lost = {rejected: counts.rejected, "repeated": counts.repeated, "reconnects": counts.reconnects}
        more = "".join(f", {count} {name}" for name, count in lost.items() if count)
        say(
            f"{health.frames} frames, {counts.dropped} dropped{more}, {source.skipped_count} skipped; latency median "
            f"{latency['p50']:.2f} ms, p95 {latency['p95']:.2f} ms; {runner.stream.classifier.settings}"
        )
    elif not source.stopping_asked:
        bad = source.counts.rejected + runner.stream.bad
        say(f"nothing was classified: {source.name} gave no usable frame{f' and {bad} that are none' if bad else ''}")


@contextmanager
def _stopped_by_signals(source: Source) -> Iterator[None]:
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
