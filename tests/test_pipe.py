"""Pipes: what is on them is found by its first bytes; a writer may come late, go and return. Real pipes, real programs."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from odd_servers import jpeg, number_of

from edge_tl_runtime.core.errors import SourceError
from edge_tl_runtime.sources import LiveOptions, Patience, open_source, source_kind
from edge_tl_runtime.sources.first_bytes import content

av = pytest.importorskip("av", reason="PyAV decodes the videos of this test")

HASTY = Patience(first_frame=8, stale=0.5, lost=2, frozen=5, backoff=0.05, backoff_max=0.2, steady=1, stop=0.3)
FORMATS = {
    "h264": ("h264", "libx264"),
    "h265": ("hevc", "libx265"),
    "ts": ("mpegts", "libx264"),
    "mkv": ("matroska", "libx264"),
    "avi": ("avi", "mjpeg"),
    "mp4": ("mp4", "libx264"),
    "y4m": ("yuv4mpegpipe", "rawvideo"),
}


def video(path: Path, kind: str, count: int = 40) -> bytes:
    """A video whose frame n is a grey of 20 + 5 n; what is on the pipe is the file."""
    name, codec = FORMATS[kind]
    options = {"movflags": "frag_keyframe+empty_moov"} if kind == "mp4" else {}
    with av.open(str(path), "w", format=name, options=options) as out:
        stream = out.add_stream(codec, rate=20)
        stream.width, stream.height = 96, 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.gop_size = 5
        if codec == "libx264":
            stream.options = {"tune": "zerolatency"}
        if codec == "libx265":
            stream.options = {"x265-params": "log-level=none:bframes=0", "tune": "zerolatency"}
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 20 + 5 * number, np.uint8), format="bgr24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path.read_bytes()


def run(data: bytes, **more: object) -> tuple[list[tuple[int, int]], str, str]:
    """(index, brightness) of the frames of a pipe that holds these bytes, what was said, and the error."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb", buffering=0) as pipe, contextlib.suppress(BrokenPipeError):
            pipe.write(data)

    threading.Thread(target=write, daemon=True).start()
    frames: list[tuple[int, int]] = []
    said: list[str] = []
    error = ""
    try:
        with open_source(f"/dev/fd/{reading}", LiveOptions(say=said.append, **more)) as source:
            frames += [(record.index, number_of(record.frame)) for record in source]
    except SourceError as caught:
        error = str(caught)
    finally:
        os.close(reading)
    return frames, "\n".join(said), error


@pytest.mark.parametrize("kind", FORMATS)
def test_a_video_on_standard_input_is_live(tmp_path, kind):
    if FORMATS[kind][1] not in av.codecs_available:
        pytest.skip(f"this PyAV has no {FORMATS[kind][1]}")
    frames, said, error = run(video(tmp_path / "clip", kind))
    assert not error
    assert "the newest frame wins" in said
    assert frames
    # The brightness tells the number: none is invented, none comes twice, the order is kept.
    assert all(abs(value - (20 + 5 * index)) <= 4 for index, value in frames), frames
    assert all(later > earlier for (earlier, _), (later, _) in itertools.pairwise(frames))
    assert frames[-1][0] == 39


def test_pictures_on_standard_input_are_photos_and_none_is_lost():
    frames, said, _ = run(b"".join(jpeg(number) for number in range(20, 220, 10)))
    assert frames == list(enumerate(range(20, 220, 10)))
    assert "each is classified; --realtime takes the newest" in said


def test_pictures_on_standard_input_are_a_cameras_where_that_is_asked_for():
    frames, said, _ = run(b"".join(jpeg(number) for number in range(20, 220, 10)), realtime=True)
    assert "the newest wins" in said
    assert frames[-1] == (19, 210)
    assert all(value == 20 + 10 * index for index, value in frames)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "is empty"),
        (b"y\n" * 5000, "holds text, no pictures .it begins: y y y"),
        (b"a.jpg\nb.jpg\n", "--source list.txt"),
        (bytes(9000), "data of an unknown kind"),
        (b"GIF89a...........", "holds GIF, which cannot be taken from a pipe"),
        (b"\0\0\0\x18ftypheic........", "holds HEIC"),
        (b"%PDF-1.7", "holds PDF"),
        (b"\0\0\0\x18ftypisom....isom\0\0\0\x10moov........", "standard input.*(MP4|cannot|no )"),
    ],
)
def test_what_cannot_be_read_says_what_it_is(data, text):
    frames, _, error = run(data)
    assert not frames
    assert re.search(text, error), error
    assert "\n" not in error


def test_a_file_that_is_redirected_is_that_file(tmp_path):
    video(tmp_path / "clip", "mkv")
    code = (
        "from edge_tl_runtime.sources import open_source\n"
        "with open_source('-') as source: print(len(list(source)), source.live)\n"
    )
    with (tmp_path / "clip").open("rb") as file:
        out = subprocess.run(
            [sys.executable, "-c", code], stdin=file, capture_output=True, text=True, timeout=60
        ).stdout
    assert out.split() == ["40", "False"]


@pytest.fixture
def fifo(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


class Writer:
    """Writes pictures into a FIFO, numbered, until it is told to go."""

    def __init__(self, path: Path, first: int = 10, begin: threading.Event | None = None) -> None:
        """begin: what is waited for before the FIFO is opened."""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._write, args=(path, first, begin), daemon=True)
        self._thread.start()

    def _write(self, path: Path, first: int, begin: threading.Event | None) -> None:
        if begin is not None:
            begin.wait(60)
        try:
            with path.open("wb", buffering=0) as pipe:
                for number in range(first, 250):
                    pipe.write(jpeg(number))
                    if self._end.wait(0.02):
                        return
        except BrokenPipeError:
            pass

    def close(self) -> None:
        self._end.set()
        self._thread.join(5)


def test_a_fifo_whose_writer_goes_and_returns(fifo):
    told: list[str] = []
    assert source_kind(str(fifo)) == "pipe"
    gone = threading.Event()

    def say(line: str) -> None:
        told.append(line)
        if "ended; trying again" in line:
            gone.set()

    with open_source(str(fifo), LiveOptions(patience=HASTY, say=say)) as source:
        writer = Writer(fifo)
        frames = iter(source)
        for _ in range(5):
            next(frames)
        writer.close()
        # Only once the first one was missed: a writer that takes over at once is the same stream.
        writer = Writer(fifo, 100, gone)
        while source.counts.reconnects == 0:
            last = next(frames)
        writer.close()
    assert last.frame.shape == (48, 64, 3)
    assert any("ended; trying again" in line for line in told)


def test_a_fifo_that_nobody_writes_to_is_said_and_can_be_left(fifo):
    with (
        open_source(str(fifo), LiveOptions(patience=Patience(first_frame=4))) as source,
        pytest.raises(SourceError, match="no program has written to"),
    ):
        next(iter(source))
    with open_source(str(fifo), LiveOptions(wait=True)) as source:
        threading.Timer(0.5, source.stop).start()
        assert list(source) == []


def test_a_fifo_joined_in_the_middle_of_a_picture(fifo):
    def write() -> None:
        with fifo.open("wb", buffering=0) as pipe, contextlib.suppress(BrokenPipeError):
            pipe.write(
                cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))[1].tobytes()[
                    900:
                ]
            )
            for number in range(10, 200):
                pipe.write(jpeg(number))
                time.sleep(0.02)

    threading.Thread(target=write, daemon=True).start()
    with open_source(str(fifo), LiveOptions(patience=HASTY)) as source:
        seen = [number_of(record.frame) for record in itertools.islice(source, 5)]
    assert all(later > earlier for earlier, later in itertools.pairwise(seen))


@pytest.mark.parametrize(
    ("head", "kind", "name"),
    [
        (jpeg(5), "pictures", "JPEG"),
        (b"hello\r\n--frame\r\n\r\n" + jpeg(5), "pictures", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "pictures", "PNG"),
        (b"RIFF....WEBP", "pictures", "WebP"),
        (b"RIFF....AVI ", "video", "AVI"),
        (b"\0\0\0\1\x67\x42\0\x1f", "video", "H.264"),
        (b"\0\0\1\x09\xf0\0\0\0\1\x67", "video", "H.264"),
        (b"\0\0\0\1\x40\1\x0c\1", "video", "H.265"),
        (b"\x12\x34\x56junk" * 9 + b"\0\0\0\1\x67\x42\0\x1f", "video", "H.264"),
        ((b"\x47" + bytes(187)) * 3, "video", "MPEG-TS"),
        (b"YUV4MPEG2 W64 H64 F25:1\n", "video", "YUV4MPEG2"),
        (b"#EXTM3U\n", "video", "HLS"),
        (b"  <!DOCTYPE HTML><title>x</title>", "page", "a web page"),
        (b"<!doctype html><body><svg></svg>", "page", "a web page"),
        (b"GIF89a\2\0\2\0", "other pictures", "GIF"),
        (b"II*\0\x08\0\0\0", "other pictures", "TIFF"),
        (b"P6\n2 2\n255\n123456789012", "other pictures", "PNM"),
        (b"8BPS\0\1", "other pictures", "Photoshop"),
        (b"%PDF-1.7", "other pictures", "PDF"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "other pictures", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "other pictures", "JPEG 2000"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "other pictures", "HEIC"),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", "other pictures", "AVIF"),
        (b"\0\0\0\x18ftypavis\0\0\0\0avisavif", "other pictures", "an animated AVIF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp41", "video", "MP4"),
        (b"photo.jpg\n", "text", "text"),
        (b"", "empty", "nothing"),
        (bytes(range(200, 256)), "unknown", "data of an unknown kind"),
    ],
)
def test_first_bytes(head, kind, name):
    found = content(head)
    assert (found.kind, found.name) == (kind, name)
