"""One string names a source; photos, lists and files give every picture; cameras are asked and read back."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
import pytest
from conftest import THAI, write_photo

from edge_tl_runtime.core.errors import SourceError, UsageError
from edge_tl_runtime.sources import (
    LIVE_KINDS,
    Photos,
    Video,
    is_live,
    mask_credentials,
    open_source,
    source_kind,
)
from edge_tl_runtime.sources.capture import devices as devices_module
from edge_tl_runtime.sources.capture.devices import Camera, four_letters
from edge_tl_runtime.sources.capture.live import Live
from edge_tl_runtime.sources.decoding.opencv_reader import OpenCvReader
from edge_tl_runtime.sources.request import CaptureRequest, Opened
from edge_tl_runtime.sources.v4l import camera_path, stable_path


def test_one_string_names_any_source(tmp_path, color_photos):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "a.mp4").touch()
    (tmp_path / "photos.txt").write_text("a.jpg\n")
    kinds = {
        "0": "camera",
        "/dev/video0": "camera",
        "/dev/v4l/by-id/usb-cam": "camera",
        "rtsp://host/x": "stream",
        "http://host/video": "HTTP stream",
        "http://host/live.m3u8": "HTTP stream",
        "rpicam:0": "Pi camera",
        "https://host/clip.mp4?x=1": "video at a URL",
        "-": "standard input",
        "test://bars": "test pattern",
        str(color_photos): "photos",
        str(tmp_path / "a.jpg"): "photos",
        str(tmp_path / "*.jpg"): "photos",
        str(tmp_path / "photos.txt"): "photos",
        str(tmp_path / "a.mp4"): "video",
    }
    assert {name: source_kind(name) for name in kinds} == kinds
    live = {name for name in kinds if is_live(name)}
    assert live == {name for name, kind in kinds.items() if kind in LIVE_KINDS}
    assert is_live(str(tmp_path / "a.mp4"), realtime=True)


@pytest.mark.parametrize("lent", [False, True], ids=["kept", "given back"])
def test_opencv_decodes_no_frame_into_the_memory_of_one_that_is_still_in_use(tmp_path, lent):
    """A thread decodes ahead: were the memory shared, a frame that waits would become a later one."""
    path = str(tmp_path / "a.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(12):
        writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    writer.release()
    reader, frames = OpenCvReader(path), []
    spare = np.zeros((48, 64, 3), np.uint8) if lent else None
    while reader.grab():
        frame = reader.retrieve(spare)
        assert (frame is spare) == lent
        frames.append(frame.copy() if lent else frame)
    reader.close()
    assert [int(frame[20, 30, 1]) for frame in frames] == pytest.approx([20 * number for number in range(12)], abs=2)


def test_kinds_of_sources(tmp_path):
    write_photo(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "a.mp4").write_bytes(b"no video")
    assert isinstance(open_source(str(tmp_path / "a.png")), Photos)
    assert isinstance(open_source(str(tmp_path)), Photos)
    assert isinstance(open_source(str(tmp_path / "*.png")), Photos)
    with pytest.raises(SourceError, match="standard input is empty"):
        open_source("-")
    assert isinstance(open_source("rtsp://127.0.0.1:9/x"), Live)
    with pytest.raises(SourceError, match="neither a photo nor a video"):
        open_source(str(tmp_path / "a.mp4"))
    with pytest.raises(SourceError, match="no photos"):
        open_source(str(tmp_path / "none.mp4"))
    with pytest.raises(SourceError, match="no file"):
        Video(str(tmp_path / "none.mp4"))


def test_a_list_names_photos_relative_to_itself(tmp_path, solid):
    folder = tmp_path / "album"
    folder.mkdir()
    write_photo(folder / f"{THAI} 1.png", solid("red"))
    write_photo(tmp_path / "b.png", solid("green"))
    (tmp_path / "list.txt").write_text(
        f"\ufeff# two photos\nalbum/{THAI} 1.png\n\n  {tmp_path}/b.png  \nmissing.png\n", "utf-8"
    )
    with open_source(str(tmp_path / "list.txt")) as source:
        names = [record.source for record in source]
    assert names == [str(folder / f"{THAI} 1.png"), str(tmp_path / "b.png")]
    assert [str(item.path.name) for item in source.skipped] == ["missing.png"]


def test_a_list_that_is_no_text_is_one_line(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(SourceError, match="is not text"):
        open_source(str(tmp_path / "list.txt"))


def test_skipped_files_are_remembered_up_to_a_bound():
    from pathlib import Path

    from edge_tl_runtime.images.datasets.survey import Unreadable
    from edge_tl_runtime.sources.base import MAX_LISTED, Source

    source = Source("x")
    for number in range(MAX_LISTED + 50):
        source.skip(Unreadable(Path(str(number)), "bad"))
    assert (len(source.skipped), source.skipped_count) == (MAX_LISTED, MAX_LISTED + 50)


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "MJPG"), ("a.mp4", "mp4v")])
def test_every_frame_of_a_video_is_given_in_order(tmp_path, name, codec):
    path = tmp_path / name
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (64, 48))
    for number in range(60):
        writer.write(np.full((48, 64, 3), 4 * number, np.uint8))
    writer.release()
    with open_source(str(path)) as source:
        seen = [(record.index, round(record.frame.mean() / 4), record.seconds) for record in source]
    assert [index for index, _, _ in seen] == list(range(60))
    assert all(abs(value - index) <= 1 for index, value, _ in seen), "a lent frame was overwritten"
    assert [round(seconds, 3) for _, _, seconds in seen] == [round(index / 10, 3) for index in range(60)]


class FakeCapture:
    """cv2.VideoCapture of a camera that does as it likes; remembers the order in which it was asked."""

    gives: ClassVar[dict[int, float]]
    opened_with: ClassVar[list[object]]
    asked: ClassVar[list[tuple[int, float]]]

    def open(self, *arguments: object) -> bool:
        type(self).opened_with = list(arguments)
        return True

    def set(self, what: int, value: float) -> bool:
        self.asked.append((what, value))
        return True

    def get(self, what: int) -> float:
        return self.gives.get(what, 0.0)

    def getBackendName(self) -> str:
        return "FAKE"

    def release(self) -> None:
        pass


@pytest.fixture
def fake(monkeypatch) -> type[FakeCapture]:
    class Fresh(FakeCapture):
        pass

    Fresh.gives, Fresh.opened_with, Fresh.asked = {}, [], []
    monkeypatch.setattr(devices_module.cv2, "VideoCapture", Fresh)
    return Fresh


def test_a_camera_is_asked_for_its_format_before_its_size_and_read_back(fake):
    fake.gives = {
        cv2.CAP_PROP_FRAME_WIDTH: 640,
        cv2.CAP_PROP_FRAME_HEIGHT: 480,
        cv2.CAP_PROP_FPS: 15,
        cv2.CAP_PROP_FOURCC: float(cv2.VideoWriter.fourcc(*"YUYV")),
    }
    request = CaptureRequest(kind="camera", name="7", width=1280, height=720, fps=30, pixel_format="MJPG")
    opened = Camera(request).open()
    order = [what for what, _ in fake.asked]
    assert order.index(cv2.CAP_PROP_FOURCC) < order.index(cv2.CAP_PROP_FRAME_WIDTH) < order.index(cv2.CAP_PROP_FPS)
    assert opened.differences(request) == (
        "1280x720 was asked for, the camera gives 640x480; 30 frames a second were asked for, the camera gives 15; "
        "MJPG was asked for, the camera gives YUYV"
    )
    assert "640x480, 15 fps, YUYV" in str(opened)


def test_a_large_size_asks_for_a_compressed_format_by_itself(fake):
    Camera(CaptureRequest(kind="camera", name="7", width=1920, height=1080)).open()
    assert (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")) in fake.asked


def test_what_was_obtained_as_asked_is_no_difference():
    request = CaptureRequest(kind="camera", name="0", width=640, height=480, fps=30)
    assert Opened(width=640, height=480, fps=30.0).differences(request) == ""
    assert Opened(width=640, height=480).differences(CaptureRequest(kind="camera", name="0")) == ""


@pytest.fixture
def fake_devices(tmp_path):
    """/dev/video0 that is known under /dev/v4l/by-id, as a USB camera is."""
    links = tmp_path / "v4l" / "by-id"
    links.mkdir(parents=True)
    (tmp_path / "video0").touch()
    (links / "usb-ACME_Cam_1234-video-index0").symlink_to("../../video0")
    return tmp_path


def test_a_camera_is_found_again_under_another_number(fake_devices):
    link = fake_devices / "v4l" / "by-id" / "usb-ACME_Cam_1234-video-index0"
    stable = stable_path(str(fake_devices / "video0"), fake_devices)
    assert stable == str(link)
    # Unplugged and back: it is video2 now, and the link says so.
    (fake_devices / "video0").rename(fake_devices / "video2")
    link.unlink()
    link.symlink_to("../../video2")
    assert camera_path(link.name, fake_devices) == str(link)
    assert stable_path(str(fake_devices / "video2"), fake_devices) == stable
    assert camera_path("2", fake_devices) == str(fake_devices / "video2")
    assert camera_path("cats.mp4", fake_devices) == "cats.mp4"


def test_the_stable_name_is_what_is_opened_after_a_loss(monkeypatch):
    """The first connection learns it, every later one asks for it."""
    from edge_tl_runtime.sources.capture import live as live_module

    asked = []

    class Process:
        ring, over, error = None, True, "unplugged"
        notes, rejections = [], {}

        def __init__(self, request: CaptureRequest) -> None:
            asked.append(request.name)
            self.opened = Opened(width=640, height=480, stable="/dev/v4l/by-id/usb-cam")

        def listen(self) -> None:
            pass

        def wait(self, seconds: float) -> None:
            pass

        def close(self, patience: float) -> None:
            if len(asked) == 3:
                source.stop()

    monkeypatch.setattr(live_module, "CaptureProcess", Process)
    patience = live_module.Patience(backoff=0.01, backoff_max=0.01)
    source = Live(CaptureRequest(kind="camera", name="0"), patience, wait=True)
    assert list(source) == []
    assert asked == ["0", "/dev/v4l/by-id/usb-cam", "/dev/v4l/by-id/usb-cam"]


@pytest.mark.parametrize(
    "wrong",
    [{"width": 640}, {"width": 99999, "height": 1}, {"fps": -1}, {"pixel_format": "JPEG2"}, {"pixel_format": "ผึ้ง"}],
)
def test_a_request_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(UsageError):
        CaptureRequest(kind="camera", name="0", **wrong)


def test_a_request_travels_whole():
    request = CaptureRequest(kind="stream", name=f"rtsp://u:p@host/{THAI}?a=1", fps=12.5, attempt=3, first_index=99)
    assert CaptureRequest.from_json(request.to_json()) == request


@pytest.mark.parametrize(
    ("code", "text"), [(float(cv2.VideoWriter.fourcc(*"MJPG")), "MJPG"), (0.0, ""), (-1.0, ""), (float("nan"), "")]
)
def test_four_letters(code, text):
    assert four_letters(code) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("rtsp://u:p@host/x", "rtsp://***@host/x"),
        ("rtsp://u:p@ss:w@host/x", "rtsp://***@host/x"),
        ("see http://u@h:1/a and rtsp://x:y@z", "see http://***@h:1/a and rtsp://***@z"),
        ("rtsp://host/path@home", "rtsp://host/path@home"),
        ("http://host/x?user=me&password=hi&size=3", "http://host/x?user=***&password=***&size=3"),
        ("0", "0"),
    ],
)
def test_credentials_are_masked(text, masked):
    assert mask_credentials(text) == masked
