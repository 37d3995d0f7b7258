"""The demonstration: photos, training, export and a video, with the same functions that the commands call."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2

from edge_tl.data.surfaces import CLASSES, write_surfaces
from edge_tl.deploy import deploy
from edge_tl.training.result import TrainResult
from edge_tl.training.settings import TrainSettings
from edge_tl.training.train import train
from edge_tl_export import ExportReport, ExportSettings, Stage
from edge_tl_runtime.core.errors import OutputError
from edge_tl_runtime.images.datasets.survey import photo_files
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.pipeline.stream import Stream
from edge_tl_runtime.sources import open_source

EXPORT = ExportSettings(quantization="int8", calibration_size=100, layers=False)
FRAMES_A_PHOTO = 5
VIDEO_SIZE = (640, 480)


@dataclass(frozen=True)
class DemoResult:
    """frames_right: frames of the video whose label is that of the photo they show. frame_ms: median."""

    training: TrainResult
    export: ExportReport
    video: Path
    frames: int
    frames_right: int
    frame_ms: float
    seconds: dict[str, float]


def run_demo(folder: Path, stage: Stage, say: Callable[[str], None]) -> DemoResult:
    """Run every step in `folder`. Raises as the steps do."""
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - started

    with timed("photos"):
        photos = write_surfaces(folder / "photos")
    with timed("train"):
        training = train(photos, folder / "run", TrainSettings(recipe="probe"), stage, say)
        assert training is not None  # None is for the further processes of torchrun
    with timed("export"):
        report = deploy(str(folder / "run"), None, EXPORT, None, TrainSettings.weights, stage, say)
    with timed("video"):
        video = folder / "surfaces.avi"
        truth = write_video(video, photos / "val")
        classifier = Classifier(report.files[-1].path)
        labels, times = [], []
        with open_source(str(video)) as source:
            for result in Stream(source, classifier):
                labels.append(result.prediction.label)
                times.append(result.prediction.latency_ms)
    right = sum(answer == label for answer, label in zip(labels, truth, strict=True))
    return DemoResult(training, report, video, len(labels), right, statistics.median(times), seconds)


def write_video(path: Path, photos: Path) -> list[str]:
    """A video that shows each photo below `photos`, a folder a class, for a moment. Returns the label of each frame."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, VIDEO_SIZE)
    if not writer.isOpened():
        raise OutputError(f"cannot write a video at {path}; choose another place with -o")
    truth = []
    try:
        for label in CLASSES:
            for photo in photo_files(photos / label):
                frame = cv2.resize(read_photo(photo), (VIDEO_SIZE[1], VIDEO_SIZE[1]))
                side = (VIDEO_SIZE[0] - VIDEO_SIZE[1]) // 2
                frame = cv2.copyMakeBorder(frame, 0, 0, side, side, cv2.BORDER_REFLECT)
                for _ in range(FRAMES_A_PHOTO):
                    writer.write(frame)
                    truth.append(label)
    finally:
        writer.release()
    return truth
