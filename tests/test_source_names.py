"""A string that means nothing gets one line: what was understood, and what to write."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tl_runtime.core.errors import SourceError, UsageError
from edge_tl_runtime.sources import is_live, open_source, source_kind
from edge_tl_runtime.sources.names import descriptor, suggestion

MEANT = {
    "rpicam": "rpicam:0",
    "rpicam0": "rpicam:0",
    "picamera": "rpicam:0",
    "picam": "rpicam:0",
    "PiCamera2": "rpicam:0",
    "libcamera": "rpicam:0",
    "csi://0": "rpicam:0",
    "csi://1": "rpicam:1",
    "csi0": "rpicam:0",
    "imx708": "rpicam:0",
    "nvarguscamerasrc ! video/x-raw ! appsink": "GStreamer pipelines are not taken",
    "webcam": "by its index, such as 0",
    "webcam1": "by its index, such as 1",
    "cam0": "by its index, such as 0",
    "camera": "by its index",
    "video0": "by its index, such as 0",
    "usb": "by its index",
    "-1": "0 or more",
    "1.0": "0 or more",
    "²": "",
    "http:/x": "http://x",
    "http//cam/video": "http://cam/video",
    "http:///video": "after the slashes",
    "htp://cam/video": "http://cam/video",
    "https:/cam": "https://cam",
    "rtsp:/": "rtsp://192.168.1.5/stream",
    "rtsp:/cam/stream": "rtsp://cam/stream",
    "rtps://cam/x": "rtsp://cam/x",
    "rstp://cam/x": "rtsp://cam/x",
    "rtsp://": "after the slashes",
    "rtsp:\\\\cam\\x": "rtsp://cam",
    "192.168.1.5/stream": "rtsp://192.168.1.5/stream or http://192.168.1.5/stream",
    "192.168.1.5": "rtsp://192.168.1.5",
    "192.168.1.5:8080/video": "http://192.168.1.5:8080/video",
    "cam.local/stream": "rtsp://cam.local/stream",
    "admin:secret@192.168.1.5/stream": "rtsp://***@192.168.1.5/stream",
    "onvif://cam": "ONVIF is not spoken",
    "ws://cam/x": "WebSocket is not spoken",
    "s3://bucket/x": "copy them here first",
    "file:///tmp/x.mp4": "give the path itself: /tmp/x.mp4",
    "FILE:///tmp/x.mp4": "give the path itself: /tmp/x.mp4",
    "foo://bar": "foo:// is none of rtsp",
    "v4l2:///dev/video2": "/dev/video2",
    "test:/bars": "test://bars",
    "tets://bars": "test://bars",
    "": "is empty",
    "  ": "is empty",
    "~/nothing/here": "the shell did not open the ~",
    "C:\\photos": "path of Windows",
}


@pytest.mark.parametrize("name", MEANT)
def test_what_was_meant_is_suggested(name):
    with pytest.raises((UsageError, SourceError)) as caught:
        next(iter(open_source(name)))
    assert MEANT[name] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "rtsp://cam/x",
        "RTSP://cam/x",
        "rtsp://u:p@cam:554/x?a=b",
        "rtsps://[fe80::1]/x",
        "udp://@:1234",
        "srt://cam:9000",
        "photos/none.jpg",
        "HTTP://cam/x",
    ],
)
def test_what_may_be_right_is_left_alone(name):
    assert suggestion(name) == ""


def test_schemes_in_any_case():
    kinds = {
        "RTSP://cam/x": "stream",
        "Http://cam/x": "HTTP stream",
        "HTTPS://cam/a.MP4": "video at a URL",
        "TEST://bars": "test pattern",
        "RpiCam:0": "Pi camera",
    }
    assert {name: source_kind(name) for name in kinds} == kinds
    with open_source("TEST://BARS") as source:
        assert source.live


def test_files_under_dev_are_files(tmp_path, monkeypatch):
    import shutil
    import uuid
    from pathlib import Path

    folder = Path("/dev/shm") / f"edge-tl-{uuid.uuid4().hex}"
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("no folder can be made under /dev/shm")
    try:
        (folder / "a.mp4").touch()
        assert source_kind(str(folder)) == "photos"
        assert source_kind(str(folder / "a.mp4")) == "video"
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("name", "number"),
    [("-", 0), ("/dev/stdin", 0), ("/dev/fd/63", 63), ("/proc/self/fd/3", 3), ("/dev/fd/x", None), ("0", None)],
)
def test_open_files_by_name(name, number):
    assert descriptor(name) == number


def test_a_pipe_is_live_where_it_must_be():
    assert not is_live("-")
    assert is_live("-", realtime=True)
    assert is_live("rpicam:0")


@given(st.text(alphabet=string.printable, max_size=40))
def test_any_text_gives_a_line_or_nothing(text):
    found = suggestion(text)
    assert not re.search(r"[\r\n]", found)
