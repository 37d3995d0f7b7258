"""From the options of `edge-tl run` to a runner: which source, which sinks, which decisions."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.progress import Say
from edge_tl_runtime.core.threads import usable_cores
from edge_tl_runtime.images.asked_geometry import AskedGeometry
from edge_tl_runtime.inference.classifier import Classifier, SessionSettings
from edge_tl_runtime.pipeline.decision import Decider, IsKnown
from edge_tl_runtime.pipeline.hot_reload import ModelReloader, stamp
from edge_tl_runtime.pipeline.smoothing import parse_smoothing
from edge_tl_runtime.pipeline.stream import Stream
from edge_tl_runtime.run.drift_feed import DriftFeed
from edge_tl_runtime.run.plan import RunPlan
from edge_tl_runtime.run.runner import Runner
from edge_tl_runtime.run.scene_watch import SceneWatch
from edge_tl_runtime.run.status import StatusFile, stored_view
from edge_tl_runtime.scene.condition import CameraWatch, iso
from edge_tl_runtime.scene.motion import EVERY_S, LOOK_S, MotionGate
from edge_tl_runtime.sinks import (
    Changes,
    Csv,
    FileTarget,
    JsonLines,
    Log,
    Mqtt,
    QueuedSink,
    Record,
    Sink,
    Snapshots,
    StreamTarget,
    Window,
    window_obstacle,
)
from edge_tl_runtime.sinks.draw.overlay import Overlay
from edge_tl_runtime.sinks.text import CSV_COLUMNS, REGION_COLUMN, SET_COLUMN
from edge_tl_runtime.sources import LiveOptions, Patience, Photos, Source, Video, open_source

Load = Callable[[Path], Classifier]


def default_settings(plan: RunPlan) -> SessionSettings:
    """How the model runs where nobody says it. Beside a camera one core of four is left to the capture, and threads sleep while
    they wait; one file after another is done sooner with threads that spin."""
    cores = usable_cores()
    return SessionSettings(threads=cores - 1 if plan.live and cores >= 4 else None, spin=not plan.live)


def pace(plan: RunPlan) -> str:
    """Which choice of a profile this run follows: "frame", "row" or "batch"."""
    return "frame" if plan.live else "row" if plan.batch == 1 else "batch"


def assemble(plan: RunPlan, load: Load, stack: ExitStack, say: Say, max_frames: int | None = None) -> Runner:
    """Everything of a run, made and checked before a camera is opened. What must be closed is put on `stack`.

    load: opens the model, and with `watch_model` each that replaces it. say: takes lines for a person. Raises BadModelError,
    UsageError, SourceError, OutputError.
    """
    deciders, asked = _deciders(plan), asked_of(plan)
    if plan.drift_pictures and not plan.drift:
        raise UsageError("--drift-pictures needs --drift FILE, which says of which days they are")

    def fitting(path: Path) -> Classifier:
        """A model that what was asked for fits: one without a label of `labels` is refused."""
        opened = load(path)
        deciders(opened)
        return opened

    seen = stamp(plan.model)
    classifier = fitting(plan.model)
    by_logits = classifier.detector is None or not classifier.detector.by_features
    if plan.unknown is not None and by_logits and len(classifier.spec.labels) == 2:
        say(
            "with two classes, --unknown notices few photos of other things; a third class of other things notices more"
        )
    say_sets(classifier, plan, say)
    source = stack.enter_context(opened(plan, say))
    asked = _looked_at(asked, source, classifier, plan, say)
    shown = _can_show(plan, say)
    overlay = Overlay(classifier.spec.labels if shown or plan.record else ())
    if overlay.obstacle:
        say(overlay.obstacle)
    watch = ModelReloader(plan.model, fitting, say, seen=seen) if plan.watch_model else None
    stream = Stream(
        source,
        classifier,
        plan.top_k,
        decider=deciders,
        batch=plan.batch,
        fresh=watch.fresh if watch else lambda: None,
        gate=_gate(plan, source, say),
        asked=asked,
        say=say,
    )
    sinks = _sinks(plan, source, classifier, overlay, asked, say)
    for plugin in (source.plugin, *(sink.plugin for sink in sinks)):
        if plugin is not None:
            say(f"{plugin['name']} comes from the package {plugin['package']} {plugin['version']}")
    queued = [QueuedSink(sink, not source.live, say) for sink in sinks]
    window = Window(source, overlay, plan.dim) if shown else None
    if isinstance(stream.gate, SceneWatch):
        stream.gate.watch_for(lambda: window is not None or any(sink.viewers for sink in sinks))
    view = stream.gate.view if isinstance(stream.gate, SceneWatch) else lambda: None
    status = StatusFile(plan.status, plan.status_every, view) if plan.status else None
    drift = DriftFeed(plan, source, classifier, say) if plan.drift else None
    return Runner(stream, queued, window=window, status=status, watch=watch, drift=drift, max_frames=max_frames)


def open_stream(plan: RunPlan, load: Load, say: Say) -> Stream:
    """What the command runs, for a loop of one's own: source, model and decisions, without sinks. It closes its source.

    Raises as `assemble`.
    """
    deciders, asked = _deciders(plan), asked_of(plan)
    classifier = load(plan.model)
    deciders(classifier)
    say_sets(classifier, plan, say)
    source = opened(plan, say)
    try:
        asked = _looked_at(asked, source, classifier, plan, say)
    except UsageError:
        source.close()
        raise
    gate = _gate(plan, source, say)
    return Stream(
        source, classifier, plan.top_k, decider=deciders, batch=plan.batch, closes=True, gate=gate, asked=asked, say=say
    )


def asked_of(plan: RunPlan) -> AskedGeometry:
    """Raises UsageError for what makes no sense, before a model or a source is opened."""
    return AskedGeometry.parse(plan.crop, plan.rotate, plan.flip, plan.fit)


def _looked_at(asked: AskedGeometry, source: Source, classifier: Classifier, plan: RunPlan, say: Say) -> AskedGeometry:
    """What was asked for, said, and without pixels where all photos are there to be measured. Raises UsageError."""
    if not asked:
        return asked
    say(asked.describe(classifier.spec.resize))
    if len(asked.crops) > 1 and plan.batch > 1 and not source.live:
        say(f"--batch {plan.batch} with {len(asked.crops)} regions: {plan.batch * len(asked.crops)} pictures per call")
    return asked.for_photos(classifier.spec.resize, source.paths) if isinstance(source, Photos) else asked


def _gate(plan: RunPlan, source: Source, say: Say) -> SceneWatch | None:
    """What looks at the frames before the model does; None where nothing does. The view of the run before is used again."""
    motion = MotionGate(plan.every or EVERY_S) if plan.on_motion else None
    camera = None
    if source.live and not plan.any_view:
        stored = None if plan.relearn_view or plan.status is None else stored_view(plan.status)
        camera = CameraWatch(source.name, stored, time.time)
        if camera.reference is not None:
            say(
                f"camera: compared with the view that was learned {iso(camera.reference.learned)}; --relearn-view learns it anew"
            )
    if motion is not None:
        say(f"while nothing moves, one frame in {LOOK_S:g} s is compared and one in {motion.every_s:g} s is classified")
    return SceneWatch(motion, camera, live=source.live, say=say) if motion or camera else None


def opened(plan: RunPlan, say: Say) -> Source:
    """The source. Raises UsageError for options that it cannot follow."""
    options = LiveOptions(
        width=plan.size[0] if plan.size else 0,
        height=plan.size[1] if plan.size else 0,
        fps=plan.fps or 0.0,
        pixel_format=plan.pixel_format,
        realtime=plan.realtime,
        max_fps=_max_fps(plan),
        every=plan.every or 0.0,
        rests=plan.on_motion,
        wait=plan.wait,
        patience=Patience(
            lost=plan.stall, first_frame=plan.first_frame, frozen=plan.frozen, stale=min(2.0, plan.stall)
        ),
        say=say,
    )
    source = open_source(plan.source, options)
    try:
        if plan.on_motion and not source.sequence:
            raise UsageError("--on-motion: photos do not follow each other in time; leave it out")
        if plan.every and not source.live and not plan.on_motion:
            raise UsageError(
                f"--every paces a camera or a stream; of {plan.source} every frame is classified: leave it out"
            )
        if plan.smooth != "none" and not source.sequence:
            raise UsageError(f"--smooth {plan.smooth}: photos do not follow each other in time; leave it out")
    except UsageError:
        source.close()
        raise
    return source


def _max_fps(plan: RunPlan) -> float:
    """Frames a second to take at most, 0 for all: what was asked for in either way."""
    if plan.on_motion:
        return plan.max_fps or 0.0
    return min(plan.max_fps or float("inf"), 1 / plan.every) if plan.every else plan.max_fps or 0.0


def _deciders(plan: RunPlan) -> Callable[[Classifier], Decider]:
    allow = tuple(label.strip() for label in plan.labels.split(",") if label.strip())
    parse_smoothing(plan.smooth)

    def make(classifier: Classifier) -> Decider:
        return Decider(
            classifier.spec,
            top=plan.top_k,
            threshold=plan.threshold,
            allow=allow,
            smoother=parse_smoothing(plan.smooth),
            is_known=_known(plan, classifier),
            sets=classifier.label_sets(plan.coverage),
        )

    return make


def say_sets(classifier: Classifier, plan: RunPlan, say: Say) -> None:
    """What the sets of a run promise, where they were asked for and it is not just what was asked."""
    sets = classifier.label_sets(plan.coverage)
    if sets is None:
        return
    if note := sets.note():
        say(note)
    if plan.smooth != "none":
        say("--coverage beside --smooth: the set is that of each frame alone, with the smoothed label added")


def _known(plan: RunPlan, classifier: Classifier) -> IsKnown | None:
    """What is asked of each frame. Raises UsageError for a file that cannot tell, or has no threshold for this fraction."""
    keep = classifier.keep(plan.unknown)
    return classifier.is_known(keep) if keep else None


def _sinks(
    plan: RunPlan, source: Source, classifier: Classifier, overlay: Overlay, asked: AskedGeometry, say: Say
) -> list[Sink]:
    """In the order of the options; each is opened here, so that a folder that cannot be written is known at once."""
    sinks: list[Sink] = [JsonLines(StreamTarget(sys.stdout)) if plan.as_json else Changes(StreamTarget(sys.stdout))]
    if plan.log:
        sinks.append(Log(FileTarget(plan.log, plan.log_size, plan.log_keep)))
    if plan.csv_file:
        columns: tuple[str, ...] = CSV_COLUMNS
        columns += (SET_COLUMN,) if plan.coverage is not None else ()
        columns += (REGION_COLUMN,) if any(crop.name for crop in asked.crops) else ()
        sinks.append(Csv(FileTarget(plan.csv_file, plan.log_size, plan.log_keep, ",".join(columns)), columns))
    if plan.record:
        sinks.append(_recording(plan.record, overlay, source, plan.dim, say))
    if plan.snapshots:
        sinks.append(Snapshots(plan.snapshots, plan.snapshot_quota, dims=plan.dim))
    if plan.mqtt:
        sinks.append(Mqtt(plan.mqtt, plan.mqtt_all, say))
    if plan.sink:
        from edge_tl_runtime.sinks.plugin_sinks import make_sink

        sinks += map(make_sink, plan.sink)
    if plan.web:
        # It brings asyncio, which takes longer to import than the rest of a run.
        from edge_tl_runtime.sinks.web import WebPage

        page = WebPage(
            plan.web_host,
            plan.web_port,
            plan.web_token,
            title=classifier.path.stem,
            labels=classifier.spec.labels,
            every=not source.live,
            dims=plan.dim,
            aspect=classifier.spec.resize.width / classifier.spec.resize.height,
        )
        say(f"live page: {page.masked_url if plan.web_token else page.url}")  # a token of one's own stays out of logs
        sinks.append(page)
    return sinks


def _recording(path: Path, overlay: Overlay, source: Source, dims: bool, say: Say) -> Record:
    """Beside an earlier recording of that name rather than over it: a run may have been started anew by a service manager."""
    free = next(
        p for n in itertools.count() if not (p := path.with_stem(f"{path.stem}-{n}" if n else path.stem)).exists()
    )
    if free != path:
        say(f"{path} is there already; recording to {free}")
    rate = source.fps if isinstance(source, Video) else 0.0
    return Record(free, overlay, rate if source.sequence else 1.0, dims)


def _can_show(plan: RunPlan, say: Say) -> bool:
    """Whether there will be a window; says why not where one was wanted."""
    obstacle = "" if plan.headless else window_obstacle()
    if obstacle:
        say(f"no window: {obstacle}")
    return not (plan.headless or obstacle)
