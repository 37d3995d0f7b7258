"""What the status of a run looks like as JSON."""

from __future__ import annotations

from typing import TypedDict

from edge_tl_runtime.core.documents import Count, NotNegative, PluginDocument, Share
from edge_tl_runtime.scene.documents import CameraDriftDocument, ConditionDocument, MotionDocument, ViewDocument
from edge_tl_runtime.sinks.documents import SinkCounts


class _Stored(TypedDict, total=False):
    view: ViewDocument


class RegionDocument(TypedDict):
    """The newest of one region."""

    label: str
    confidence: Share


class StatusDocument(_Stored):
    """The status of edge-tl run: its --status-file, /status of its page and its MQTT topic.

    time: when this was written, ISO 8601.
    state: of the source.
    notice: what is wrong with the source; empty where nothing is.
    uptime_s: seconds since the start.
    latency_ms: percentiles of crop, resize and inference over the last 1000 frames; empty before the first.
    age_ms: percentiles of the age of frames when their result came.
    frame_age_s: since the last result, null before the first.
    dropped: frames that came while another was worked on.
    rejected: frames that could not be used.
    repeated: frames that came again as they were.
    torn: frames that were overwritten while they were read.
    source_plugin: the package that adds the source; null for one of edge-tl.
    skipped: files of the source that were passed over.
    label: the label that is shown, null before the first frame.
    regions: what is shown of each region, by its name; empty where there is one without a name.
    sinks: counters of each sink, by its name.
    rss_mb: resident memory of this process, without the capture process.
    cpu_percent: of one core, of this process.
    temperature_c: of the processor, null where it cannot be read.
    throttled: whether the machine slows itself down, null where it does not say.
    drift: of --drift, null without it.
    model_reloads: how often the model file was reloaded.
    motion: of --on-motion, null without it.
    camera: whether a live source sees what it saw; null for files, and with --any-view.
    view: of the status file alone: what was learned of the camera's view, for the next start.
    model_notice: why a newer model file was not loaded; empty where nothing is wrong.
    """

    time: str
    state: str
    notice: str
    model: str
    arch: str
    precision: str
    source: str
    source_plugin: PluginDocument | None
    uptime_s: NotNegative
    frames: Count
    fps: NotNegative
    latency_ms: dict[str, NotNegative]
    age_ms: dict[str, NotNegative]
    frame_age_s: NotNegative | None
    dropped: Count
    rejected: Count
    repeated: Count
    torn: Count
    reconnects: Count
    skipped: Count
    label: str | None
    confidence: Share | None
    regions: dict[str, RegionDocument]
    sinks: dict[str, SinkCounts]
    rss_mb: NotNegative
    cpu_percent: float
    temperature_c: float | None
    throttled: bool | None
    model_reloads: Count
    model_notice: str
    motion: MotionDocument | None
    camera: ConditionDocument | None
    drift: CameraDriftDocument | None
