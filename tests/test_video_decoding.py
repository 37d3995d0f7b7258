"""Videos as people have them: right colours, whole frames, upright, and a reason in words for what cannot be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'edge-tl[video]'")

from conftest import living  # noqa: E402
from videos import moving, plain_yuv, texture, write_video  # noqa: E402

from edge_tl_runtime.core.errors import SourceError  # noqa: E402
from edge_tl_runtime.sources import LiveOptions, Video, open_source  # noqa: E402
from edge_tl_runtime.sources.decoding.opencv_reader import UNWRITTEN, OpenCvReader  # noqa: E402
from edge_tl_runtime.sources.decoding.pyav_reader import Decoder  # noqa: E402
from edge_tl_runtime.sources.decoding.reader import open_reader  # noqa: E402


def frames_of(path: Path) -> tuple[list[np.ndarray], list[str], dict[str, int]]:
    """Copies of all frames, the lines that were said, and what was rejected."""
    said: list[str] = []
    with Video(str(path), said.append) as source:
        frames = [record.frame.copy() for record in source]
    return frames, said, source.counts.reasons


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((one / 255.0 - other / 255.0) ** 2) + 1e-12))


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"bf": "3"}),
        ("a.mkv", "libx265", {"x265-params": "log-level=none"}),
        ("a.avi", "mpeg4", {}),
        ("a.mpg", "mpeg2video", {"bf": "2"}),
        ("a.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
        ("a.mov", "mjpeg", {}),
        ("a.ts", "libx264", {}),
    ],
)
def test_every_frame_is_given_once_in_order_and_alike(tmp_path, name, codec, options):
    wanted = moving(30)
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    frames, said, rejected = frames_of(write_video(tmp_path / name, wanted, codec, options=options, pix_fmt=pix_fmt))
    assert len(frames) == 30
    for number, frame in enumerate(frames):
        best = max(range(30), key=lambda other: psnr(frame, wanted[other]))
        assert best == number
    assert min(map(psnr, frames, wanted)) > 20
    assert (said, rejected) == ([], {})


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_interlaced_video_is_made_whole_and_said(tmp_path, codec):
    """OpenCV 5.0 reports success for these and writes nothing. A scene at rest: what is woven is what was taken."""
    wanted = cv2.GaussianBlur(texture(cell=12), (0, 0), 3)
    options = {"flags": "+ildct+ilme", **({"x264-params": "interlaced=1"} if codec == "libx264" else {"b": "4M"})}
    path = write_video(tmp_path / "a.mkv", [wanted] * 20, codec, options=options)
    frames, said, rejected = frames_of(path)
    assert len(frames) == 20
    assert min(psnr(frame, wanted) for frame in frames) > 25
    assert (len(said), rejected) == (1, {})
    assert "interlaced" in said[0]


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_opencv_is_not_believed_when_it_wrote_nothing(tmp_path, codec):
    """Without PyAV: each frame is the one that was taken, or rejected; memory of something else is never given."""
    wanted = texture(cell=6)
    options = {"flags": "+ildct+ilme", **({"x264-params": "interlaced=1"} if codec == "libx264" else {"b": "4M"})}
    path = write_video(tmp_path / "a.mkv", [wanted] * 20, codec, options=options)
    reader = OpenCvReader(str(path))
    given = 0
    while reader.grab():
        frame = reader.retrieve(np.full((120, 160, 3), 7, np.uint8))
        if frame is not None:
            given += 1
            assert psnr(frame, wanted) > 20
    assert given + reader.rejections.total() == 20
    if reader.rejections[UNWRITTEN]:
        assert "edge-tl[video]" in reader.missing()


def test_opencv_gives_every_frame_that_it_wrote(tmp_path):
    wanted = moving(20)
    reader = OpenCvReader(str(write_video(tmp_path / "a.avi", wanted, "mjpeg", pix_fmt="yuvj420p")))
    out, seen = None, 0
    while reader.grab():
        out = reader.retrieve(out)
        assert out is not None
        assert psnr(out, wanted[seen]) > 20
        seen += 1
    assert (seen, reader.rejections.total()) == (20, 0)


def bgr_of(planes: tuple[int, int, int], matrix: str, full: bool, depth: int = 8) -> np.ndarray:
    """ITU-R BT.601, BT.709 and BT.2020 by hand."""
    red, blue = {"601": (0.299, 0.114), "709": (0.2126, 0.0722), "2020": (0.2627, 0.0593)}[matrix]
    scale = 2 ** (depth - 8)
    luma, u, v = planes[0] / scale, planes[1] / scale - 128, planes[2] / scale - 128
    if not full:
        luma, u, v = (luma - 16) * 255 / 219, u * 255 / 224, v * 255 / 224
    r, b = luma + 2 * (1 - red) * v, luma + 2 * (1 - blue) * u
    return np.clip([b, (luma - red * r - blue * b) / (1 - red - blue), r], 0, 255)


@pytest.mark.parametrize(
    ("space", "space_name", "range_", "pix_fmt"),
    [
        (1, "709", 1, "yuv420p"),
        (1, "709", 2, "yuv420p"),
        (5, "601", 1, "yuv420p"),
        (6, "601", 2, "yuv420p"),
        (2, "601", 0, "yuv420p"),
        (1, "709", 1, "yuv444p"),
        (9, "2020", 1, "yuv420p10le"),
    ],
)
def test_colours_follow_the_matrix_and_range_that_the_stream_names(tmp_path, space, space_name, range_, pix_fmt):
    depth = 10 if "10" in pix_fmt else 8
    planes = tuple(value << (depth - 8) for value in (120, 90, 170))
    made = [plain_yuv(planes, pix_fmt=pix_fmt, colorspace=space, color_range=range_) for _ in range(3)]
    path = write_video(
        tmp_path / "a.mkv",
        made,
        pix_fmt=pix_fmt,
        tags={"colorspace": space, "color_range": range_},
        options={"qp": "0"},
    )
    frames, _, _ = frames_of(path)
    wanted = bgr_of(planes, space_name, range_ == 2, depth)
    assert np.abs(frames[0].reshape(-1, 3) - wanted).max() <= 3, (frames[0][0, 0], wanted)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_phone_held_upright_gives_upright_frames(tmp_path, degrees):
    """Against OpenCV, which turns as well."""
    path = write_video(tmp_path / "a.mp4", moving(3, 160, 112), rotation=degrees, options={"qp": "4"})
    frames, said, _ = frames_of(path)
    capture = cv2.VideoCapture(str(path))
    good, wanted = capture.read()
    assert good
    assert frames[0].shape == wanted.shape
    assert psnr(frames[0], wanted) > 30
    assert any("turned" in line for line in said)


ONE = 1 << 16
ORIENTATIONS = {
    "as it is": ((ONE, 0, 0, ONE), lambda x: x, ""),
    "mirrored": ((-ONE, 0, 0, ONE), lambda x: x[:, ::-1], "mirrored, left for right"),
    "upside down in a mirror": ((ONE, 0, 0, -ONE), lambda x: x[::-1], "mirrored, top for bottom"),
    "half a turn": ((-ONE, 0, 0, -ONE), lambda x: x[::-1, ::-1], "turned by 180 degrees"),
    "clockwise": ((0, ONE, -ONE, 0), lambda x: np.rot90(x, -1), "turned by 90 degrees, clockwise"),
    "counterclockwise": ((0, -ONE, ONE, 0), np.rot90, "turned by 90 degrees, counterclockwise"),
    "transposed": ((0, ONE, ONE, 0), lambda x: x.swapaxes(0, 1), "mirrored and turned"),
    "transposed the other way": ((0, -ONE, -ONE, 0), lambda x: np.rot90(x, 2).swapaxes(0, 1), "mirrored and turned"),
    "a little": ((60000, 26000, -26000, 60000), lambda x: x, "left as it is"),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_the_matrix_of_the_file_turns_and_mirrors(tmp_path, name):
    """x' = ax + cy, y' = bx + dy, by hand. The matrix is written into the box `tkhd`."""
    numbers, wanted, words = ORIENTATIONS[name]
    path = write_video(tmp_path / "a.mp4", moving(3, 160, 112), options={"qp": "4"})
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    for place, value in zip((0, 4, 12, 16), numbers, strict=True):
        data[at + place : at + place + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    frames, said, _ = frames_of(path)
    assert psnr(frames[0], wanted(moving(1, 160, 112)[0])) > 20
    assert words in " ".join(said)
    assert bool(said) == bool(words)


def test_pixels_that_are_not_square_become_square(tmp_path):
    frames, said, _ = frames_of(write_video(tmp_path / "a.mkv", moving(3), sample_aspect=Fraction(16, 11)))
    assert frames[0].shape == (120, 233, 3)
    assert "160x120 is shown as 233x120" in said[0]


def test_odd_sizes_grey_and_transparent_frames(tmp_path):
    odd = [frame[:119, :159] for frame in moving(3)]
    frames, _, _ = frames_of(write_video(tmp_path / "odd.mkv", odd, "ffv1", pix_fmt="yuv420p"))
    assert frames[0].shape == (119, 159, 3)
    assert psnr(frames[0], odd[0]) > 20

    grey = texture()[..., 0].copy()
    made = [av.VideoFrame.from_ndarray(grey, "gray")]
    frames, _, _ = frames_of(write_video(tmp_path / "grey.mkv", made, "ffv1", pix_fmt="gray"))
    assert np.array_equal(frames[0], np.dstack([grey] * 3))

    hidden = np.dstack([texture()[..., ::-1], np.zeros((120, 160), np.uint8)])
    hidden[:60, :, 3] = 255
    made = [av.VideoFrame.from_ndarray(hidden, "rgba")]
    frames, said, _ = frames_of(write_video(tmp_path / "clear.mov", made, "png", pix_fmt="rgba"))
    assert np.array_equal(frames[0][:60], texture()[:60])
    assert np.ptp(frames[0][60:]) == 0, "colours that nobody sees reached the network"
    assert any("transparent" in line for line in said)


def test_the_size_may_change_within_a_stream(tmp_path):
    """Two recordings one after the other, as some cameras write them at nightfall."""
    one = write_video(tmp_path / "1.ts", moving(10)).read_bytes()
    two = write_video(tmp_path / "2.ts", moving(10, 96, 64)).read_bytes()
    (tmp_path / "both.ts").write_bytes(one + two)
    frames, _, rejected = frames_of(tmp_path / "both.ts")
    # A packet at the seam is marked as cut short, and one was built on it.
    assert rejected["damaged"] == 1
    assert sum(rejected.values()) == 20 - len(frames) <= 2
    assert [frame.shape for frame in frames[-11:]] == [(120, 160, 3)] + [(64, 96, 3)] * 10


def test_high_dynamic_range_is_said(tmp_path):
    made = [plain_yuv((600, 400, 700), pix_fmt="yuv420p10le", colorspace=9) for _ in range(2)]
    parameters = "log-level=none:transfer=16:colormatrix=9:colorprim=9"
    path = write_video(tmp_path / "a.mkv", made, "libx265", pix_fmt="yuv420p10le", options={"x265-params": parameters})
    assert "HDR (PQ)" in frames_of(path)[1][0]


def _copy(source: Path, path: Path, change: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(change(source.read_bytes()))
    return path


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("empty", "is empty"),
        ("zeros", "nothing but zeros"),
        ("text", "text, whatever its name says"),
        ("page", "web page"),
        ("noise", "neither a photo nor a video"),
        ("no index", "has no index (moov)"),
        ("unknown codec", "coded with zzzz"),
        ("unknown codec in avi", "coded with ZZZZ"),
        ("encrypted", "encrypted (DRM)"),
        ("sound", "holds sound and no video"),
        ("cover", "holds sound and a cover picture and no video"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, case, words):
    good = write_video(tmp_path / "good.mp4", moving(30))
    path = tmp_path / "clip.mp4"
    noise = np.random.default_rng(0).bytes(5000)
    content = {
        "empty": b"",
        "zeros": bytes(9000),
        "text": "ผึ้ง and ants\n".encode() * 400,
        "page": b"\n<!DOCTYPE html><title>login</title>",
        "noise": noise,
        "no index": good.read_bytes()[:-2500],
        "unknown codec": good.read_bytes().replace(b"avc1", b"zzzz"),
        "encrypted": good.read_bytes().replace(b"avc1", b"encv"),
    }
    if case in content:
        path.write_bytes(content[case])
    elif case == "unknown codec in avi":
        made = write_video(tmp_path / "good.avi", moving(5), "mpeg4")
        path = _copy(made, tmp_path / "clip.avi", lambda data: data.replace(b"FMP4", b"ZZZZ"))
    else:
        path = _sound(tmp_path / "clip.mp4", cover=case == "cover")
    with pytest.raises(SourceError) as caught:
        Video(str(path))
    message = str(caught.value)
    assert words in message
    assert str(path) in message
    assert "\n" not in message


def _sound(path: Path, cover: bool) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        picture = container.add_stream("mjpeg") if cover else None
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = 160, 120, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(texture(), "bgr24")
            frame.pts = 0
            container.mux(picture.encode(frame) + picture.encode(None))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        silence.sample_rate, silence.pts = 44100, 0
        container.mux(stream.encode(silence) + stream.encode(None))
    return path


def test_of_several_videos_the_one_used_is_said(tmp_path):
    with av.open(str(tmp_path / "two.mkv"), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, size in zip(streams, ((96, 64), (160, 120)), strict=True):
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for stream, size in zip(streams, ((96, 64), (160, 120)), strict=True):
            for number, frame in enumerate(moving(5, *size)):
                picture = av.VideoFrame.from_ndarray(frame, "bgr24")
                picture.pts = number
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
    frames, said, _ = frames_of(tmp_path / "two.mkv")
    assert f"({frames[0].shape[1]}x{frames[0].shape[0]})" in said[0]
    assert "holds 2 videos" in said[0]


def _packets(
    path: Path, codec: str, wanted: list[np.ndarray], damage: Callable[[int, bytes], bytes | None], **more: object
) -> Path:
    """A video of which some packets are changed, or left out."""
    whole = write_video(path.with_stem("whole"), wanted, codec, **more)
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size:
                data = damage(number, bytes(packet))
                if data is not None:
                    new = av.Packet(data)
                    new.pts, new.dts, new.time_base = packet.pts, packet.dts, packet.time_base
                    new.is_keyframe, new.stream = packet.is_keyframe, stream
                    target.mux(new)
    return path


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"bf": "0"}),
        ("libx265", {"x265-params": "bframes=0:log-level=none"}),
        ("mpeg4", {}),
        ("mpeg2video", {}),
        ("mjpeg", {}),
    ],
)
@pytest.mark.parametrize("fault", ["cut", "flipped"])
def test_damaged_frames_are_counted_and_never_given(tmp_path, codec, options, fault):
    """A smear is no frame. What follows it up to the next key frame is built on it."""
    if (codec, fault) == ("libx265", "flipped"):
        options = {"x265-params": "bframes=0:log-level=none:hash=1"}  # else it decodes any bits without an error

    def damage(number: int, data: bytes) -> bytes:
        if number != 17:
            return data
        if fault == "cut":
            return data[: len(data) // 3]
        noise = np.random.default_rng(3).integers(0, 256, len(data), np.uint8)
        noise[: len(data) // 4] = np.frombuffer(data, np.uint8)[: len(data) // 4]
        return noise.tobytes()

    wanted = moving(48)
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = _packets(tmp_path / "a.mkv", codec, wanted, damage, options=options, pix_fmt=pix_fmt)
    frames, _, rejected = frames_of(path)
    given = len(frames)
    assert given + sum(rejected.values()) == 48
    assert given < 48
    assert given >= (47 if codec == "mjpeg" else 36)
    for frame in frames:
        assert max(psnr(frame, other) for other in wanted) > 19


def test_a_stream_that_begins_in_the_middle_waits_for_a_key_frame(tmp_path):
    wanted = moving(48)
    for codec in ("libx264", "mpeg4"):
        path = _packets(
            tmp_path / "a.mkv",
            codec,
            wanted,
            lambda number, data: data if number >= 5 else None,
            options={"bf": "0"},
        )
        frames, _, rejected = frames_of(path)
        assert rejected == {"before the first key frame": 7}
        assert len(frames) == 36
        assert psnr(frames[0], wanted[12]) > 20


def test_a_file_that_is_cut_short_is_read_and_said(tmp_path):
    whole = write_video(tmp_path / "whole.avi", moving(60), "mpeg4", options={"b": "2M"})
    path = _copy(whole, tmp_path / "a.avi", lambda data: data[: len(data) // 2])
    frames, said, _ = frames_of(path)
    assert 10 < len(frames) < 50
    assert any("says that it holds 60 frames" in line and "cut short" in line for line in said)


def test_a_folder_of_photos_needs_no_video_library(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), texture())
    code = (
        "import sys\nfrom edge_tl_runtime.sources import open_source\n"
        f"with open_source({str(tmp_path)!r}) as source: assert len(list(source)) == 1\n"
        "assert 'av' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_pyav_opencv_reads_and_says_what_would_read_more(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "edge_tl_runtime.sources.decoding.pyav_reader")
    path = write_video(tmp_path / "a.mp4", moving(12))
    reader = open_reader(str(path))
    assert isinstance(reader, OpenCvReader)
    frames, said, rejected = frames_of(path)
    assert (len(frames), said, rejected) == (12, [], {})
    with pytest.raises(SourceError, match=r"edge-tl\[video\]"):
        open_reader("rtsp://127.0.0.1:9/x", live=True, open_s=1)


def test_a_video_played_live_without_a_usable_frame_is_an_error_with_its_reason(tmp_path):
    path = _packets(
        tmp_path / "a.mkv",
        "libx264",
        moving(30),
        lambda number, data: data if number else None,
        options={"bf": "0"},
        gop=100,
    )
    with open_source(str(path), LiveOptions(realtime=True)) as source, pytest.raises(SourceError) as caught:
        list(source)
    assert "gave no frame: 29 before the first key frame" in str(caught.value)
    with pytest.raises(SourceError, match="no frame that can be decoded: 29 before the first key frame"):
        frames_of(path)


def test_a_capture_process_that_dies_says_so(tmp_path):
    path = write_video(tmp_path / "a.mkv", moving(200))
    with open_source(str(path), LiveOptions(realtime=True)) as source:
        frames = iter(source)
        next(frames)
        for child in living(os.getpid()):
            child.kill()
        with pytest.raises(SourceError, match=r"ended without a word \(signal 9\)"):
            list(frames)


WITHOUT_AV = """
import sys
sys.modules["av"] = None
from edge_tl.cli import invoke
sys.exit(invoke(["run", {model!r}, "--source", {video!r}, "--headless", "--json"]))
"""


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_the_command_line_without_pyav_invents_no_frame_either(color_model, tmp_path, codec):
    """The command line silences FFmpeg, whose word on standard error is all that tells of a picture that was not written."""
    red = np.full((120, 160, 3), (20, 20, 230), np.uint8)
    options = {"flags": "+ildct+ilme", **({"x264-params": "interlaced=1"} if codec == "libx264" else {"b": "4M"})}
    path = write_video(tmp_path / "a.mkv", [red] * 12, codec, options=options)
    code = WITHOUT_AV.format(model=str(color_model), video=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    labels = {json.loads(line)["label"] for line in done.stdout.splitlines()}
    assert labels <= {"red"}, done.stderr
    if not labels:
        assert done.returncode == 1
        assert "cannot decode 12 frames" in done.stderr, done.stderr


@pytest.mark.parametrize("gone", [14, 17, 20])
def test_live_h265_whose_reference_never_came_is_rejected_up_to_the_next_key_frame(tmp_path, gone):
    """A server that leaves frames out over TCP: only FFmpeg's log tells, and what is built on them must be counted."""
    wanted = moving(48)
    options = {"x265-params": "bframes=0:ref=1:log-level=none"}

    def damage(number: int, data: bytes) -> bytes | None:
        return None if number == gone else data

    path = _packets(tmp_path / "a.mkv", "libx265", wanted, damage, options=options)
    reader = Decoder(str(path), live=True)
    try:
        frames = []
        while not reader.ended:
            if reader.grab():
                frame = reader.retrieve(None)
                assert frame is not None
                frames.append(frame)
        rejected = sum(reader.rejections.values())
    finally:
        reader.close()
    assert rejected == 24 - gone - 1
    assert len(frames) == 24 + gone
    for frame, whole in zip(frames, wanted[:gone] + wanted[24:], strict=True):
        assert psnr(frame, whole) > 19
