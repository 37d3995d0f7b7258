"""Everything that can be asked of a run, with its default and its help line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_tl_runtime.core.settings import DURATION, FLAG, MEGABYTES, SIZE, option
from edge_tl_runtime.inference.settings import PredictSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What a run was asked for, as the options of `edge-tl run` name it; sizes of files are in bytes, times in seconds."""

    model: Path
    source: str = option(
        "0",
        "Camera (index, path or name under /dev/v4l/by-id), rpicam:0 for the camera module of a Pi, video, photo, folder, glob, "
        "list file (.txt), URL (RTSP, HTTP), - for photos or a video on standard input, a FIFO, test://bars for a picture "
        "without a camera, or NAME:... of a source that another package adds (edge-tl doctor lists them).",
        env="EDGE_TL_SOURCE",
    )
    size: tuple[int, int] | None = option(None, "Asked of a camera, such as 1280x720.", kind=SIZE)
    fps: float | None = option(None, "Frames a second asked of a camera.", kind=float, low=0.1, high=1000)
    pixel_format: str = option("", "Asked of a camera: MJPG, YUYV...", metavar="FOURCC")
    max_fps: float | None = option(
        None, "Frames a second to take from a live source at most.", kind=float, low=0.01, high=1000
    )
    every: float | None = option(
        None,
        "Take a frame every so often: 2s, 500ms, 1m. A still picture at a URL is asked for so often.  [its default: 2s]",
        kind=DURATION,
        metavar="S",
    )
    realtime: bool = option(
        False,
        "Play a video at its own pace, newest frame only; take pictures on standard input as a camera's.",
        kind=FLAG,
    )
    wait: bool = option(False, "Go on trying when the source is not there at the start.", kind=FLAG)
    stall: float = option(10.0, "Silence to reconnect after.", low=0.5, metavar="S")
    first_frame: float = option(15.0, "Patience for the first.", low=0.5, metavar="S")
    frozen: float = option(10.0, "One frame repeating; 0: allowed.", low=0, metavar="S")
    threshold: float = option(0.0, "Below this probability: unknown.", low=0, high=1, metavar="P")
    unknown: float | None = option(
        None,
        "Frames unlike the training data: unknown. KEEP: fraction of photos like it to keep, 0.95 or 0.99.",
        kind=float,
        low=0.5,
        high=0.999,
        metavar="KEEP",
    )
    labels: str = option("", "Only these labels count.", metavar="A,B")
    smooth: str = option("none", "ema:SECONDS or vote:K/N over the frames.", metavar="KIND")
    top_k: int = option(PredictSettings.top_k, "Classes in each answer.", low=1)
    headless: bool = option(False, "Show no window.", kind=FLAG)
    as_json: bool = option(False, "Print one JSON object a line for each frame.", kind=FLAG, flags=("--json",))
    web: bool = option(False, "Serve a live page on this machine.", kind=FLAG)
    web_host: str = option("127.0.0.1", "Other than this machine: a token is required.")
    web_port: int = option(8080, "Of the page; 0: any that is free.", low=0, high=65535)
    web_token: str = option("", "The page's token; made up when needed.", env="EDGE_TL_WEB_TOKEN")
    log: Path | None = option(None, "Append JSON lines to a file that rotates.", kind=Path)
    csv_file: Path | None = option(
        None, "Append a row for each frame to a file that rotates.", kind=Path, flags=("--csv",)
    )
    log_size: int = option(10 * 2**20, "Size of a log before it rotates.", kind=MEGABYTES)
    log_keep: int = option(5, "Rotated logs to keep.", low=1)
    record: Path | None = option(None, "Write the annotated frames as a video (.mkv, .avi, .mp4).", kind=Path)
    snapshots: Path | None = option(None, "Folder for a photo at each change of the label.", kind=Path)
    snapshot_quota: int = option(200 * 2**20, "Size of all; the oldest go.", kind=MEGABYTES)
    mqtt: str | None = option(None, "mqtt://USER:PASSWORD@HOST/TOPIC", kind=str, metavar="URL", env="EDGE_TL_MQTT")
    mqtt_all: bool = option(False, "Publish every result, not only changes.", kind=FLAG)
    sink: tuple[str, ...] = option(
        (),
        "A sink that another package adds, with its options; may be given again.",
        plugins="sinks",
        metavar="NAME:K=V,...",
    )
    status: Path | None = option(None, "JSON of how the run is doing; its age is the heartbeat.", kind=Path)
    status_every: float = option(5.0, "How often.", low=1, metavar="S")
    batch: int = option(1, "Photos or video frames a call.", low=1, high=1024)
    watch_model: bool = option(False, "Take over a new model file at MODEL when it passes its self-test.", kind=FLAG)

    @property
    def live(self) -> bool:
        """Whether frames come at somebody else's pace; a pipe's writer has one, whatever it writes."""
        # Brings OpenCV, which a list of options does without.
        from edge_tl_runtime.sources import STANDARD_INPUT, is_live, source_kind

        return is_live(self.source, self.realtime) or source_kind(self.source) == STANDARD_INPUT
