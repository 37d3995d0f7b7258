"""Files that hold several pictures, as Pillow and PyAV write them: played, or said; and videos that are not all there."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'edge-tl[video]'")

from videos import moving, write_video  # noqa: E402

from edge_tl.data.pictures import ImageRecord, look_at  # noqa: E402
from edge_tl_runtime.evaluation.evaluate import PixelReader  # noqa: E402
from edge_tl_runtime.images.datasets.labelled import LabelledPhotos  # noqa: E402
from edge_tl_runtime.images.decode import decode_noted, decode_photo  # noqa: E402
from edge_tl_runtime.images.formats.decoders import is_ordinary  # noqa: E402
from edge_tl_runtime.images.formats.several import SEVERAL, picture_count, several_note  # noqa: E402
from edge_tl_runtime.modelfile.spec import ResizeRule  # noqa: E402
from edge_tl_runtime.sources import LiveOptions, Video, open_source  # noqa: E402
from edge_tl_runtime.sources.decoding.wholeness import Times, cut_short  # noqa: E402

PICTURES = moving(9, 64, 48, 5)


def written(path: Path, count: int = 9) -> Path:
    """`count` pictures in one file; JPEGs and PNMs one after the other."""
    if path.suffix in (".mjpeg", ".jpg", ".ppm"):
        ending = ".ppm" if path.suffix == ".ppm" else ".jpg"
        path.write_bytes(b"".join(cv2.imencode(ending, picture)[1].tobytes() for picture in PICTURES[:count]))
        return path
    first, *others = (Image.fromarray(picture[..., ::-1]) for picture in PICTURES[:count])
    more = {"append_images": others, "save_all": True} if others else {}
    try:
        first.save(path, **more, **({"duration": 40} if others and path.suffix != ".tif" else {}))
    except (KeyError, OSError):
        pytest.skip(f"Pillow writes no {path.suffix} here")
    return path


def seen(path: Path) -> tuple[list[np.ndarray], list[str]]:
    said: list[str] = []
    with open_source(str(path), LiveOptions(say=said.append)) as source:
        return [record.frame.copy() for record in source], said


@pytest.mark.parametrize("name", ["a.mjpeg", "a.jpg", "a.png", "a.webp", "a.gif", "a.avif"])
def test_an_animation_is_played_picture_by_picture(tmp_path, name):
    frames, _ = seen(written(tmp_path / name))
    assert len(frames) == 9
    for number, frame in enumerate(frames):
        errors = [float(np.abs(frame.astype(int) - picture).mean()) for picture in PICTURES]
        assert int(np.argmin(errors)) == number


@pytest.mark.parametrize("name", ["a.tif", "a.ppm"])
def test_of_pages_the_first_is_used_and_that_is_said(tmp_path, name):
    frames, said = seen(written(tmp_path / name))
    assert len(frames) == 1
    assert "holds 9 pictures; the first is used" in said[0]


def test_in_a_folder_of_photos_the_first_of_each_is_used_and_that_is_said(tmp_path):
    written(tmp_path / "a.png")
    written(tmp_path / "b.tif")
    written(tmp_path / "c.png", 1)
    frames, said = seen(tmp_path)
    assert len(frames) == 3
    assert len(said) == 1
    assert said[0].startswith("2 files hold more than one picture")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.ppm", "a.avif"])
def test_a_photo_is_one_picture_and_nothing_is_said(tmp_path, name):
    path = written(tmp_path / name, 1)
    assert picture_count(path.read_bytes()) == 1
    assert seen(path)[1] == []


OF_SEVERAL = ["a.mjpeg", "a.jpg", "a.png", "a.webp", "a.tif", "a.ppm", "a.mpo", "a.heic"]


def register(path: Path) -> None:
    if path.suffix == ".heic":
        pytest.importorskip(
            "pillow_heif", reason="pillow-heif is not installed: pip install 'edge-tl[heic]'"
        ).register_heif_opener()


@pytest.mark.parametrize("name", OF_SEVERAL)
def test_every_reader_of_photos_notes_that_one_of_several_pictures_is_taken(tmp_path, name):
    register(tmp_path / name)
    path = written(tmp_path / name)
    data = path.read_bytes()
    frame, notes = decode_noted(data)
    assert notes[-1:] == (SEVERAL,)
    assert np.array_equal(frame, decode_photo(data))
    assert float(np.abs(frame.astype(int) - PICTURES[0]).mean()) < 8, "the first, as Pillow and PyAV coded it"
    assert not is_ordinary(data), "or features from the cache would say nothing"
    looked = look_at(path)  # data check, train --group auto
    assert isinstance(looked, ImageRecord)
    assert looked.notes == notes
    reader = PixelReader(
        LabelledPhotos(tmp_path, ("a", "b"), (path,), (0,)),
        ResizeRule(height=32, width=32, crop_pct=1.0, resample="area-linear"),
    )  # evaluate, train
    assert sum(len(batch.indices) for batch in reader) == 1
    assert reader.adjusted() == {SEVERAL: (name,)} | dict.fromkeys(notes[:-1], (name,))


@pytest.mark.parametrize("name", OF_SEVERAL)
def test_a_file_of_one_picture_has_no_note(tmp_path, name):
    register(tmp_path / name)
    data = written(tmp_path / name, 1).read_bytes()
    assert several_note(data) == ""
    for length in range(0, len(data), max(1, len(data) // 200)):
        assert several_note(data[:length]) == ""


def test_a_heic_photo_with_a_thumbnail_is_one_picture(tmp_path):
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed: pip install 'edge-tl[heic]'")
    made = heif.from_bytes("RGB", (640, 480), bytes(640 * 480 * 3))
    made.save(tmp_path / "a.heic", quality=50, thumbnails=[128])
    data = (tmp_path / "a.heic").read_bytes()
    assert b"thmb" in data or data.count(b"hvc1") > 1, "the thumbnail is there"
    assert several_note(data) == ""


@pytest.mark.parametrize("word", [b"hdrgm:Version", b"apdi:HDRGainMapVersion"])
def test_a_gain_map_behind_a_photo_is_not_a_second_picture(tmp_path, word):
    """Pillow writes a second picture of the same size; XMP says that it only holds brightness, as phones' photos do."""
    data = written(tmp_path / "a.mpo", 2).read_bytes()
    assert several_note(data) == SEVERAL
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x " + word + b"='1.0'/>"
    part = b"\xff\xe1" + (len(xmp) + 2).to_bytes(2, "big") + xmp
    assert several_note(data[:2] + part + data[2:]) == ""


def test_other_sizes_in_an_mpo_are_previews(tmp_path):
    first, other = (Image.fromarray(picture[..., ::-1]) for picture in PICTURES[:2])
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[other.resize((32, 24))])
    assert several_note((tmp_path / "a.mpo").read_bytes()) == ""


def test_what_belongs_to_one_photo_is_not_counted():
    photo, other = (cv2.imencode(".jpg", picture)[1].tobytes() for picture in (PICTURES[0], PICTURES[1][:24, :32]))
    assert picture_count(photo + other) == 1, "a gain map or preview behind the photo, of another size"
    part = photo[:2] + b"\xff\xe2\x00\x08MPF\0zz" + photo[2:]
    assert picture_count(part + part) == 1
    assert picture_count(photo + b"\0" * 9 + photo) == 2
    assert picture_count(photo[:2] + b"\xff\xe1" + (len(photo) + 2).to_bytes(2, "big") + photo + photo[2:]) == 1
    for length in range(len(photo)):
        assert picture_count(photo[:length]) == 1


CODECS = {".mkv": "libx264", ".webm": "libvpx", ".ts": "libx264", ".flv": "flv1", ".avi": "mpeg4"}


@pytest.mark.parametrize("ending", CODECS)
@pytest.mark.parametrize("fault", ["whole", "cut", "hole"])
def test_what_is_missing_of_a_video_is_said_and_adds_up(tmp_path, ending, fault):
    options = {"deadline": "realtime"} if ending == ".webm" else {}
    path = write_video(tmp_path / f"a{ending}", moving(75), CODECS[ending], options=options)
    data = path.read_bytes()
    if fault == "cut":
        path.write_bytes(data[: int(0.7 * len(data)) // 188 * 188 + 60])
    if fault == "hole":
        path.write_bytes(data[: len(data) // 2] + bytes(3000) + data[len(data) // 2 + 3000 :])
    said: list[str] = []
    with Video(str(path), said.append) as source:
        used = sum(1 for _ in source)
    rejected = source.counts.rejected
    if fault == "whole":
        assert (used, rejected, said, cut_short(path)) == (75, 0, [], "")
        return
    assert used < 75
    assert f"{used} " in said[-1] or "is cut short" in said[-1]
    assert ("rejected" in said[-1]) == bool(rejected) or "all that is there was read" in said[-1]
    assert fault != "cut" or "is cut short" in said[-1]


def test_gaps_are_counted_where_the_pace_is_even_and_not_where_it_is_not():
    even, uneven = Times(), Times()
    for number in range(100):
        if not 40 <= number < 50:
            even.add(40 * number)
        uneven.add(40 * number + 100 * (number // 3))
    assert (even.missing(), even.missing(40 * 104)) == (10, 14)
    assert uneven.missing() == 0
    assert Times().missing() == 0
