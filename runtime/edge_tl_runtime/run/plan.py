"""Everything that can be asked of a run, with its default and its help line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_tl_runtime.core.settings import DURATION, FLAG, MEGABYTES, SIZE, option
from edge_tl_runtime.images.settings import crop_option, fit_option, flip_option, rotate_option
from edge_tl_runtime.inference.settings import PredictSettings, coverage_option, unknown_option


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
    size: tuple[int, int] | None = option(None, "Frame size to ask the camera for, such as 1280x720.", kind=SIZE)
    fps: float | None = option(None, "Frames per second to ask the camera for.", kind=float, low=0.1, high=1000)
    pixel_format: str = option("", "Pixel format to ask the camera for: MJPG, YUYV...", metavar="FOURCC")
    max_fps: float | None = option(
        None, "Take at most this many frames per second from a live source.", kind=float, low=0.01, high=1000
    )
    every: float | None = option(
        None,
        "Time between frames: 2s, 500ms, 1m. For a still picture at a URL, time between requests.  [default there: 2s] "
        "With --on-motion, the longest time between frames.  [default there: 10s]",
        kind=DURATION,
        metavar="S",
    )
    on_motion: bool = option(
        False, "Classify only while something moves in what the model sees, and a frame every 10 s.", kind=FLAG
    )
    realtime: bool = option(
        False,
        "Play a video at its own speed and classify the newest frame only; the same for pictures on standard input.",
        kind=FLAG,
    )
    wait: bool = option(False, "Keep trying if the source is not there at the start.", kind=FLAG)
    stall: float = option(10.0, "Seconds without a frame before reconnecting.", low=0.5, metavar="S")
    first_frame: float = option(15.0, "Seconds to wait for the first frame.", low=0.5, metavar="S")
    frozen: float = option(
        10.0, "Seconds of one repeated frame before reconnecting; 0: repeats are allowed.", low=0, metavar="S"
    )
    any_view: bool = option(
        False, "Do not watch whether a camera is covered, blurred, dark, moved or overexposed.", kind=FLAG
    )
    relearn_view: bool = option(
        False, "Learn anew what the camera sees; else the view in the status file of the run before is used.", kind=FLAG
    )
    crop: tuple[str, ...] = crop_option(several=True)
    rotate: int | None = rotate_option()
    flip: str | None = flip_option()
    fit: str | None = fit_option()
    threshold: float = option(0.0, "Show `unknown` below this probability.", low=0, high=1, metavar="P")
    unknown: float | None = unknown_option("frames")
    coverage: float | None = coverage_option()
    labels: str = option("", "Choose among these labels only.", metavar="A,B")
    smooth: str = option(
        "none", "Smooth over time: ema:SECONDS (half-life) or vote:K/N (K of the last N frames).", metavar="KIND"
    )
    top_k: int = option(PredictSettings.top_k, "Number of classes in each answer.", low=1)
    headless: bool = option(False, "Do not open a window.", kind=FLAG)
    as_json: bool = option(False, "Print one JSON object per frame, each on a line.", kind=FLAG, flags=("--json",))
    web: bool = option(False, "Serve a live page on this machine.", kind=FLAG)
    web_host: str = option("127.0.0.1", "Address of the page; any other than this machine's needs a token.")
    web_port: int = option(8080, "Port of the page; 0: any free port.", low=0, high=65535)
    web_token: str = option("", "Token of the page; one is made when needed.", env="EDGE_TL_WEB_TOKEN")
    log: Path | None = option(None, "Append JSON lines to a file that rotates.", kind=Path)
    csv_file: Path | None = option(
        None, "Append a row for each frame to a file that rotates.", kind=Path, flags=("--csv",)
    )
    log_size: int = option(10 * 2**20, "Size at which a log is rotated.", kind=MEGABYTES)
    log_keep: int = option(5, "Number of rotated logs to keep.", low=1)
    record: Path | None = option(None, "Write the annotated frames as a video (.mkv, .avi, .mp4).", kind=Path)
    snapshots: Path | None = option(None, "Save a photo into this folder each time the label changes.", kind=Path)
    snapshot_quota: int = option(200 * 2**20, "Size of all snapshots together; the oldest are deleted.", kind=MEGABYTES)
    dim: bool = option(
        True,
        "Do not dim what the model does not see in window, page, recordings and snapshots.",
        kind=FLAG,
        flags=("--no-dim",),
    )
    mqtt: str | None = option(
        None, "Publish to this broker: mqtt://USER:PASSWORD@HOST/TOPIC", kind=str, metavar="URL", env="EDGE_TL_MQTT"
    )
    mqtt_all: bool = option(False, "Publish every result, not only changes.", kind=FLAG)
    sink: tuple[str, ...] = option(
        (),
        "A sink that another package adds, with its options; may be given again.",
        plugins="sinks",
        metavar="NAME:K=V,...",
    )
    status: Path | None = option(
        None, "Write the state of the run as JSON; watch the age of the file to see that it runs.", kind=Path
    )
    status_every: float = option(5.0, "Seconds between two writings of the status file.", low=1, metavar="S")
    drift: Path | None = option(
        None,
        "Tell when what the camera sees changes, and keep what is usual in this file; it goes on after a restart.",
        kind=Path,
        metavar="FILE",
    )
    drift_pictures: Path | None = option(
        None,
        "Keep small pictures of what is most unlike the training photos in this folder.",
        kind=Path,
        metavar="FOLDER",
    )
    drift_false_alarms: str = option(
        "1/year", "How many changes may be told by mistake, on average.", metavar="N/PERIOD"
    )
    drift_day: float = option(
        86400.0,
        "Time in which all that is usual happens once: what is compared. A conveyor belt may need 1h.",
        kind=DURATION,
        low=1,
        metavar="S",
    )
    batch: int = option(1, "Photos or video frames per call of the model.", low=1, high=1024)
    watch_model: bool = option(False, "Load a new model file at MODEL when it passes its self-test.", kind=FLAG)

    @property
    def live(self) -> bool:
        """Whether frames come at somebody else's pace; a pipe's writer has one, whatever it writes."""
        # Brings OpenCV, which a list of options does without.
        from edge_tl_runtime.sources import STANDARD_INPUT, is_live, source_kind

        return is_live(self.source, self.realtime) or source_kind(self.source) == STANDARD_INPUT
