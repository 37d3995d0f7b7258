"""Which files are photos: by content, and every other file below a folder is named. Real files, folders made at random."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edge_tl_runtime.core.errors import BadImage, DataError, SourceError
from edge_tl_runtime.images.datasets.dataset import load_labelled
from edge_tl_runtime.images.datasets.junk import is_junk
from edge_tl_runtime.images.datasets.survey import photo_files, survey
from edge_tl_runtime.images.datasets.tally import say_counts
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.images.formats import heif
from edge_tl_runtime.images.formats.kinds import HEAD, FileGroup, kind_of
from edge_tl_runtime.sources import Photos, source_kind


def encoded(format: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(24 * 32 * 3).reshape(24, 32, 3).astype(np.uint8)).convert(mode).save(
        buffer, format, **options
    )
    return buffer.getvalue()


def boxes(brand: bytes, *others: bytes) -> bytes:
    body = b"ftyp" + brand + bytes(4) + b"".join(others)
    return (len(body) + 4).to_bytes(4, "big") + body + bytes(40)


PHOTOS = {
    "JPEG": encoded("JPEG"),
    "progressive JPEG": encoded("JPEG", progressive=True),
    "grey JPEG": encoded("JPEG", "L"),
    "CMYK JPEG": encoded("JPEG", "CMYK"),
    "PNG": encoded("PNG"),
    "PNG with alpha": encoded("PNG", "RGBA"),
    "palette": encoded("PNG", "P"),
    "bitmap": encoded("PNG", "1"),
    "WebP": encoded("WEBP"),
    "BMP": encoded("BMP"),
    "TIFF": encoded("TIFF"),
    "PPM": encoded("PPM"),
    "PGM": encoded("PPM", "L"),
}
OTHERS = {
    "GIF": (encoded("GIF"), FileGroup.OTHER_PICTURE, "GIF"),
    "SVG": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', FileGroup.OTHER_PICTURE, "drawing"),
    "JPEG 2000": (encoded("JPEG2000"), FileGroup.OTHER_PICTURE, "JPEG 2000"),
    "JPEG XL": (b"\xff\x0a" + bytes(50), FileGroup.OTHER_PICTURE, "JPEG XL"),
    "JPEG XL in boxes": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50), FileGroup.OTHER_PICTURE, "JPEG XL"),
    "DNG": (
        b"II*\0\x08\0\0\0\x01\0" + (50706).to_bytes(2, "little") + b"\x01\0\x04\0\0\0\x01\x04\0\0" + bytes(40),
        FileGroup.OTHER_PICTURE,
        "camera raw",
    ),
    "CR2": (b"II*\0\x10\0\0\0CR\x02\0" + bytes(60), FileGroup.OTHER_PICTURE, "camera raw"),
    "CR3": (boxes(b"crx "), FileGroup.OTHER_PICTURE, "camera raw"),
    "RAF": (b"FUJIFILMCCD-RAW 0201" + bytes(60), FileGroup.OTHER_PICTURE, "camera raw"),
    "ORF": (b"IIRO\x08\0\0\0" + bytes(60), FileGroup.OTHER_PICTURE, "camera raw"),
    "PSD": (b"8BPS\0\x01" + bytes(60), FileGroup.OTHER_PICTURE, "Photoshop"),
    "PDF": (b"%PDF-1.7\n", FileGroup.OTHER_PICTURE, "PDF"),
    "icon": (encoded("ICO"), FileGroup.OTHER_PICTURE, "icon"),
    "PPM as text": (b"P3\n1 1\n255\n1 2 3\n", FileGroup.OTHER_PICTURE, "text"),
    "HEIF of JPEG": (boxes(b"mif1", b"mif1", b"jpeg"), FileGroup.OTHER_PICTURE, "HEIF of JPEG"),
    "MP4": (boxes(b"isom", b"avc1"), FileGroup.VIDEO, "video"),
    "QuickTime": (boxes(b"qt  "), FileGroup.VIDEO, "video"),
    "Matroska": (b"\x1aE\xdf\xa3" + bytes(60), FileGroup.VIDEO, "video"),
    "AVI": (b"RIFF\x10\0\0\0AVI LIST", FileGroup.VIDEO, "video"),
    "MPEG-TS": ((b"G" + bytes(187)) * 3, FileGroup.VIDEO, "video"),
    "web page": (b"\r\n<!DOCTYPE html>\n<html><head>", FileGroup.NO_PICTURE, "web page"),
    "Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        FileGroup.NO_PICTURE,
        "git lfs pull",
    ),
    "annex": (b"/annex/objects/SHA256E-s1--00.jpg\n", FileGroup.NO_PICTURE, "git annex get"),
    "text": (b"a note\n", FileGroup.NO_PICTURE, "text"),
    "Thai text": ("บันทึก".encode() * 40, FileGroup.NO_PICTURE, "text"),
    "old text": (("Mein Käfer ist größer\n" * 3).encode("latin-1"), FileGroup.NO_PICTURE, "text"),
    "UTF-16": ("a note".encode("utf-16"), FileGroup.NO_PICTURE, "text"),
    "text that starts as a bitmap": (b"BMW, Audi and others of the list", FileGroup.NO_PICTURE, "text"),
    "text that starts as netpbm": (b"P5 is the fifth photo", FileGroup.NO_PICTURE, "text"),
    "JSON": (b'{"label": "cat"}', FileGroup.NO_PICTURE, "text"),
    "ZIP": (b"PK\x03\x04" + bytes(60), FileGroup.NO_PICTURE, "unpack"),
    "database": (b"SQLite format 3\0" + bytes(60), FileGroup.NO_PICTURE, "database"),
    "noise": (bytes(range(1, 200)), FileGroup.NO_PICTURE, "unknown"),
    "resource fork": (b"\0\x05\x16\x07\0\x02\0\0Mac OS X", FileGroup.SYSTEM, "system"),
    "empty": (b"", FileGroup.EMPTY, "empty"),
}
SUFFIXES = (".jpg", ".jpeg", ".JPG", ".jfif", ".jpe", ".png", ".heic", ".tif", ".gif", ".txt", ".mp4", ".bak", "")


@pytest.mark.parametrize("kind", PHOTOS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_photo_is_one_whatever_its_name_says(kind, suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(PHOTOS[kind])
    assert photo_files(tmp_path) == [path]
    assert read_photo(path).shape == (24, 32, 3)


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_photo_is_named_with_the_reason(kind, tmp_path):
    content, group, words = OTHERS[kind]
    for suffix in (".jpg", "", ".txt"):
        (tmp_path / f"x{suffix}").write_bytes(content)
    found = survey(tmp_path)
    assert found.photos == ()
    assert {item.group for item in found.passed_over} == {group}
    assert all(words in item.reason for item in found.passed_over), found.passed_over
    with pytest.raises(BadImage, match=words):
        read_photo(tmp_path / "x.jpg")
    named = next(item.reason for item in found.passed_over if item.path.suffix == ".jpg")
    assert ";" in named or group in (FileGroup.SYSTEM, FileGroup.EMPTY) or kind == "SVG"  # what to do next


@pytest.mark.parametrize("suffix", [".nef", ".ARW", ".dng", ".pef"])
def test_camera_raw_that_looks_like_a_tiff_is_known_by_its_name_too(suffix, tmp_path):
    (tmp_path / f"x{suffix}").write_bytes(PHOTOS["TIFF"])
    assert "camera raw" in survey(tmp_path).passed_over[0].reason


JUNK = (
    ".DS_Store", "._IMG_1.jpg", "Thumbs.db", "desktop.ini", "DESKTOP.INI", "Icon\r", ".picasa.ini", "Picasa.ini",
    "ZbThumbnail.info", "@eaDir", "__MACOSX", ".ipynb_checkpoints", ".thumbnails", "$RECYCLE.BIN", "#recycle",
    "System Volume Information", "lost+found", "Catalog Previews.lrdata", "Catalog.lrcat", ".git", ".Trash-1000",
    "Photos Library.photoslibrary", "thumbnails-digikam.db", "SYNOFILE_THUMB_M.jpg", "~$list.docx",
)  # fmt: skip


@pytest.mark.parametrize("name", JUNK)
def test_what_systems_leave_is_no_photo_and_is_counted_as_what_it_is(name, tmp_path):
    assert is_junk(name)
    for path in (tmp_path / "a" / name / "x.jpg", tmp_path / "b" / name):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PHOTOS["JPEG"])
    found = survey(tmp_path)
    assert found.photos == ()
    assert [item.group for item in found.passed_over] == [FileGroup.SYSTEM] * 2


@pytest.mark.parametrize(
    "name", ["photo.jpg", "cat", "recycle", "lost", "system", "thumbs", "eaDir", "desktop", "IMG_1.HEIC", "~x.jpg"]
)
def test_ordinary_names_are_no_junk(name):
    assert not is_junk(name)


def test_links_pipes_sockets_and_folders_are_named(tmp_path):
    (tmp_path / "z").mkdir()
    photo = tmp_path / "z" / "x.jpg"
    photo.write_bytes(PHOTOS["JPEG"])
    (tmp_path / "a").symlink_to("z")  # sorts first: the folder keeps its own place all the same
    (tmp_path / "dead.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "round.jpg").symlink_to("round.jpg")
    (tmp_path / "up").symlink_to(tmp_path)
    (tmp_path / "file.jpg").symlink_to(photo)
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        found = survey(tmp_path)
    assert found.photos == (tmp_path / "file.jpg", photo)
    assert {item.path.name: item.group for item in found.passed_over} == {
        "a": FileGroup.LINK,
        "dead.jpg": FileGroup.LINK,
        "round.jpg": FileGroup.LINK,
        "up": FileGroup.LINK,
        "pipe.jpg": FileGroup.SPECIAL,
        "socket": FileGroup.SPECIAL,
    }
    reasons = {item.path.name: item.reason for item in found.passed_over}
    assert "nowhere.jpg" in reasons["dead.jpg"]
    assert "circle" in reasons["round.jpg"]
    assert "pipe" in reasons["pipe.jpg"]


def test_a_link_to_photos_elsewhere_is_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.jpg").write_bytes(PHOTOS["JPEG"])
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "elsewhere")
    assert photo_files(tmp_path / "photos") == [tmp_path / "photos" / "link" / "x.jpg"]


@pytest.mark.skipif(
    os.geteuid() == 0 and not Path("/usr/bin/setpriv").exists(), reason="a superuser may read everything"
)
def test_files_and_folders_that_may_not_be_read_are_named():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        root = Path(folder)
        root.chmod(0o755)
        for name in ("a/x.jpg", "b/y.jpg"):
            (root / name).parent.mkdir()
            (root / name).write_bytes(PHOTOS["JPEG"])
        (root / "a" / "x.jpg").chmod(0)
        (root / "b").chmod(0)
        program = (
            "import sys; from pathlib import Path; from edge_tl_runtime.images.datasets.survey import survey\n"
            "for item in survey(Path(sys.argv[1])).passed_over: print(item.path.name, item.group.value, item.reason, sep='|')"
        )
        drop = ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        path = os.pathsep.join(sys.path)
        done = subprocess.run(
            [*drop, sys.executable, "-c", program, folder],
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONPATH": path},
        )
        (root / "b").chmod(0o755)
        if done.returncode:
            pytest.skip(f"cannot run as another user here: {done.stderr[-200:]}")
    assert done.stdout.splitlines() == [
        "x.jpg|unreadable|Permission denied",
        "b|folder|a folder that cannot be listed: Permission denied",
    ]


CONTENTS = {**PHOTOS, **{name: content for name, (content, _, _) in OTHERS.items()}}
NAMES = st.sampled_from(["x", "IMG_1", "แมว", "a b", "new\nline", ".hidden", "Thumbs", "~$x", "ß"])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_file_is_lost_unmentioned(data):
    """used + named = all, in folders made at random."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        folders = [root]
        for number in range(data.draw(st.integers(0, 4))):
            name = data.draw(st.sampled_from(["sub", "@eaDir", ".git", "__MACOSX", "class", "train"])) + str(
                number
            ) * data.draw(st.booleans())
            inner = data.draw(st.sampled_from(folders)) / name
            inner.mkdir(exist_ok=True)
            folders.append(inner)
        for _ in range(data.draw(st.integers(0, 12))):
            path = data.draw(st.sampled_from(folders)) / (data.draw(NAMES) + data.draw(st.sampled_from(SUFFIXES)))
            what = data.draw(st.sampled_from(["file", "file", "file", "link", "pipe"]))
            if path.exists() or path.is_symlink():
                continue
            if what == "file":
                path.write_bytes(CONTENTS[data.draw(st.sampled_from(sorted(CONTENTS)))])
            elif what == "link":
                path.symlink_to(data.draw(st.sampled_from([*folders, root / "nowhere", path])))
            else:
                os.mkfifo(path)
        every = {Path(at, name) for at, _, names in os.walk(root) for name in names}
        links = {path for path in root.rglob("*") if path.is_symlink() and path.is_dir()}
        found = survey(root)
        named = [item.path for item in found.passed_over]
        assert len({*found.photos, *named}) == len(found.photos) + len(named)
        assert {*found.photos, *named} - links == every - links
        for path in found.photos:
            assert read_photo(path).ndim == 3
        assert sum("\n" in line for line in say_counts(len(found.photos), found.passed_over)) == 0
        assert photo_files(root) == list(found.photos)


@given(head=st.binary(max_size=HEAD))
def test_any_bytes_have_a_kind(head):
    kind = kind_of(head)
    assert (kind.group is FileGroup.PHOTO) == (kind.reason == "")


def test_a_folder_of_heic_alone_points_to_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(heif, "heic_lacks", lambda: heif.HEIC_EXTRA)
    for label in ("red", "blue"):
        (tmp_path / label).mkdir()
        for number in range(3):
            (tmp_path / label / f"{number}.HEIC").write_bytes(boxes(b"heic", b"mif1"))
    found = survey(tmp_path)
    assert [item.group for item in found.passed_over] == [FileGroup.EXTRA] * 6
    line = "pip install 'edge-tl[heic]'"
    for error, call in (
        (DataError, lambda: load_labelled(tmp_path, ("red", "blue"))),
        (SourceError, lambda: Photos(str(tmp_path))),
        (SourceError, lambda: Photos(str(tmp_path / "**" / "*.HEIC"))),
    ):
        with pytest.raises(error) as caught:
            call()
        assert line in str(caught.value)
        assert "\n" not in str(caught.value)


def test_lines_for_a_person_group_by_reason(tmp_path):
    for number in range(5):
        (tmp_path / f"{number}.gif").write_bytes(OTHERS["GIF"][0])
    (tmp_path / "notes.txt").write_text("a note")
    gif, text = say_counts(7, survey(tmp_path).passed_over)[1:]
    assert say_counts(7, survey(tmp_path).passed_over)[0] == "used 7 photos, passed over 6 files:"
    assert gif.startswith("  5: GIF holds")
    assert gif.count(".gif") == 3
    assert text == f"  1: not a photo (text) ({tmp_path.name}/notes.txt)"
    assert say_counts(7, ()) == []


def test_what_a_name_opens_is_decided_by_content(tmp_path):
    for name, content, kind in (
        ("clip.jpg", OTHERS["MP4"][0], "video"),
        ("photo", PHOTOS["JPEG"], "photos"),
        ("photo.jfif", PHOTOS["JPEG"], "photos"),
        ("photo.mp4", PHOTOS["PNG"], "photos"),
        ("page.jpg", OTHERS["web page"][0], "photos"),  # which says what it is
        ("x.heic", boxes(b"heic"), "photos"),
        ("x.gif", OTHERS["GIF"][0], "video"),
    ):
        (tmp_path / name).write_bytes(content)
        assert source_kind(str(tmp_path / name)) == kind, name


@pytest.fixture
def mixed(color_photos):
    """Eight photos in four classes, and of most kinds one that is none."""
    folder = next(path for path in sorted(color_photos.iterdir()) if path.is_dir())
    for number, (content, _, _) in enumerate(OTHERS.values()):
        (folder / f"other{number}").write_bytes(content)
    (folder / "cut.jpg").write_bytes(PHOTOS["JPEG"][:300])
    (folder / "@eaDir").mkdir()
    (folder / "@eaDir" / "thumb.jpg").write_bytes(PHOTOS["JPEG"])
    return color_photos


def test_every_command_tells_the_same_counts_of_the_same_folder(mixed, color_model):
    def told(*arguments: object) -> tuple[str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "edge_tl", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        at = done.stderr.index("used ")
        counts, _, _ = done.stderr[at:].partition("\nto have every picture")
        return done.stdout, counts.split("\n  1: left by")[0]

    evaluated, first = told("evaluate", color_model, mixed, "--json")
    predicted, second = told("predict", color_model, mixed, "--json")
    ran, third = told("run", color_model, "--source", mixed, "--headless", "--json")
    used = json.loads(evaluated)["n"]
    passed_over = len(json.loads(evaluated)["skipped"])
    everything = sum(path.is_file() for path in mixed.rglob("*"))
    assert used + passed_over == everything
    assert first.startswith(f"used {used} photos, passed over {passed_over} files:")
    assert (
        sorted(first.splitlines())
        == sorted(second.splitlines())
        == sorted(third.splitlines()[: len(first.splitlines())])
    )
    assert len(predicted.splitlines()) == used
    assert len(ran.splitlines()) >= used
