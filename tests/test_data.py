"""Photos before training: manifests, data sets by name over a server that misbehaves, and the data check."""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import re
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from browsers import browser as browser
from conftest import write_photo
from flawed_photos import flawed as flawed
from page_audit import audit
from PIL import Image

from edge_tl.audit.check import Findings, check
from edge_tl.cli import invoke as run
from edge_tl.cli.console import silent
from edge_tl.data import download, named
from edge_tl.data.download import DownloadError, Remote, fetch
from edge_tl.data.duplicates import exact_groups, near_groups
from edge_tl.data.pictures import ImageRecord, look_at
from edge_tl.data.surfaces import write_surfaces
from edge_tl.report.data.page import write_data_page
from edge_tl_runtime.core.errors import DataError, OutputError
from edge_tl_runtime.images.datasets.dataset import load_labelled, load_splits
from edge_tl_runtime.images.datasets.survey import Unreadable
from edge_tl_runtime.images.decode import read_photo

CONTENT = np.random.default_rng(0).bytes(3_000_000)
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; `breaks` times it stops after `after` bytes, `errors` times it answers 503, and may ignore ranges."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.breaks, self.after, self.errors, self.ranges = 0, 0, 0, True
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.asked.append(wanted)
        content = self.server.files.get(self.path)
        if self.server.errors:
            self.server.errors -= 1
            self.send_error(503)
            return
        if content is None:
            self.send_error(404)
            return
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if first and first >= len(content):
            self.send_error(416)
            return
        body = content[first:]
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.breaks:
            self.server.breaks -= 1
            body = body[: self.server.after]
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()


def no_wait(seconds: float) -> None:
    pass


# Downloads


def test_a_broken_connection_goes_on_where_it_stopped(server, tmp_path):
    server.files["/f.bin"], server.breaks, server.after = CONTENT, 4, 700_000
    received = []
    path = fetch(Remote(server.url + "/f.bin", DIGEST), tmp_path / "f.bin", received.append, no_wait)
    assert path.read_bytes() == CONTENT
    assert server.asked == ["", *(f"bytes={700_000 * n}-" for n in (1, 2, 3, 4))]
    assert sum(received) == len(CONTENT)
    assert list(tmp_path.iterdir()) == [path]


def test_a_later_process_goes_on_too(server, tmp_path):
    server.files["/f.bin"] = CONTENT
    (tmp_path / "f.bin.part").write_bytes(CONTENT[:1_000_000])
    fetch(Remote(server.url + "/f.bin", DIGEST), tmp_path / "f.bin", wait=no_wait)
    assert server.asked == ["bytes=1000000-"]
    fetch(Remote(server.url + "/f.bin", DIGEST), tmp_path / "f.bin", wait=no_wait)
    assert len(server.asked) == 1


def test_a_server_without_ranges_starts_anew(server, tmp_path):
    server.files["/f.bin"], server.ranges = CONTENT, False
    (tmp_path / "f.bin.part").write_bytes(b"x" * 1000)
    assert fetch(Remote(server.url + "/f.bin", DIGEST), tmp_path / "f.bin", wait=no_wait).read_bytes() == CONTENT


@pytest.mark.parametrize("there", [CONTENT[:500_000] + b"?", CONTENT + b"too much"], ids=["wrong byte", "too long"])
def test_a_spoiled_part_is_fetched_again(server, tmp_path, there):
    server.files["/f.bin"] = CONTENT
    (tmp_path / "f.bin.part").write_bytes(there)
    assert fetch(Remote(server.url + "/f.bin", DIGEST), tmp_path / "f.bin", wait=no_wait).read_bytes() == CONTENT


def test_a_corrupt_file_is_refused(server, tmp_path):
    server.files["/f.bin"] = CONTENT[:-1] + b"?"
    with pytest.raises(DownloadError, match="checksum differs"):
        fetch(Remote(server.url + "/f.bin", DIGEST), tmp_path / "f.bin", wait=no_wait)
    assert len(server.asked) == 2
    assert not list(tmp_path.iterdir())


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(server, tmp_path):
    server.files["/f.bin"], server.errors = CONTENT, 2
    fetch(Remote(server.url + "/f.bin", DIGEST), tmp_path / "f.bin", wait=no_wait)
    with pytest.raises(DownloadError, match="404"):
        fetch(Remote(server.url + "/gone", DIGEST), tmp_path / "gone", wait=no_wait)
    assert len(server.asked) == 4


def test_without_a_network_there_is_one_clear_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(named.MIRROR_VARIABLE, "http://127.0.0.1:9")
    monkeypatch.setenv("EDGE_TL_CACHE", str(tmp_path))
    monkeypatch.setattr(download.time, "sleep", no_wait)
    monkeypatch.setattr(download.fetch, "__defaults__", (*download.fetch.__defaults__[:-1], no_wait))
    assert run(["train", "hymenoptera", "-o", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "cannot download" in error
    assert "give the folder instead of the name 'hymenoptera'" in error
    assert not (tmp_path / "run" / "resume.json").exists()


def picture_bytes(seed: int) -> bytes:
    return cv2.imencode(".jpg", np.random.default_rng(seed).integers(0, 255, (40, 40, 3), np.uint8))[1].tobytes()


def published(server, monkeypatch, tmp_path, name: str, archives: dict[str, bytes]) -> None:
    """Let the data set's files be those of `archives`, by their names, on our server."""
    monkeypatch.setenv(named.MIRROR_VARIABLE, server.url + "/mirror")
    monkeypatch.setenv("EDGE_TL_CACHE", str(tmp_path / "cache"))
    remotes = []
    for remote in named.DATA_SETS[name].files:
        content = archives[remote.name]
        server.files[remote.mirrored(named.MIRROR_VARIABLE).url.removeprefix(server.url)] = content
        remotes.append(Remote(remote.url, "sha256:" + hashlib.sha256(content).hexdigest() if remote.checksum else ""))
    monkeypatch.setitem(named.DATA_SETS, name, replace(named.DATA_SETS[name], files=tuple(remotes)))


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in members.items():
            archive.writestr(path, content)
    return buffer.getvalue()


def tarred(members: dict[str, bytes], *links: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for link in links:
            archive.addfile(link)
        for path, content in members.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_hymenoptera_and_cats_dogs_become_class_folders(server, monkeypatch, tmp_path):
    members = {f"hymenoptera_data/{part}/{label}/{n}.jpg": picture_bytes(n) for part in ("train", "val")
               for label in ("ants", "bees") for n in range(2)}  # fmt: skip
    published(server, monkeypatch, tmp_path, "hymenoptera", {"hymenoptera_data.zip": zipped(members)})
    root = named.resolve("hymenoptera", silent, print)
    train, val, _ = load_splits(root)
    assert (train.labels, len(train), len(val)) == (("ants", "bees"), 4, 4)
    named.resolve("hymenoptera", silent, print)
    assert len(server.asked) == 1
    members = {f"PetImages/{label}/{n}.jpg": picture_bytes(n) for label in ("Cat", "Dog") for n in range(5)}
    members["PetImages/Cat/666.jpg"] = b""  # as in the original
    published(server, monkeypatch, tmp_path, "cats-dogs", {"kagglecatsanddogs_5340.zip": zipped(members)})
    assert load_splits(named.resolve("cats-dogs", silent, print)).train.labels == ("Cat", "Dog")


def test_oxford_pets_keeps_the_published_test_list(server, monkeypatch, tmp_path):
    names = [f"{breed}_{n}" for breed in ("Bombay", "great_pyrenees") for n in range(10)]
    lists = {"trainval": [n for n in names if int(n[-1]) < 6], "test": [n for n in names if int(n[-1]) >= 6]}
    annotations = {f"annotations/{part}.txt": "\n".join(f"{n} 1 1 1" for n in part_names).encode()
                   for part, part_names in lists.items()}  # fmt: skip
    images = {f"images/{n}.jpg": picture_bytes(i) for i, n in enumerate(names)}
    archives = {"images.tar.gz": tarred(images), "annotations.tar.gz": tarred(annotations)}
    published(server, monkeypatch, tmp_path, "oxford-pets", archives)
    train, val, test = load_splits(named.resolve("oxford-pets", silent, print))
    assert train.labels == ("Bombay", "great_pyrenees")
    assert {path.stem for path in test.paths} == set(lists["test"])
    assert {path.stem for path in train.paths + val.paths} == set(lists["trainval"])
    assert len(val) == 2


def test_a_damaged_archive_leaves_no_data_set(server, monkeypatch, tmp_path):
    content = bytearray(zipped({"hymenoptera_data/train/ants/1.jpg": picture_bytes(1)}))
    content[60] ^= 255
    published(server, monkeypatch, tmp_path, "hymenoptera", {"hymenoptera_data.zip": bytes(content)})
    with pytest.raises(DownloadError, match=r"damaged|other files than expected"):
        named.resolve("hymenoptera", silent, print)
    assert not list((tmp_path / "cache" / "data").iterdir())


@pytest.mark.parametrize("place", ["../../evil.txt", "{outside}/evil.txt", "way/evil.txt"])
def test_an_archive_cannot_write_outside(server, monkeypatch, tmp_path, place):
    outside = tmp_path / "outside"
    outside.mkdir()
    link = tarfile.TarInfo("way")
    link.type, link.linkname = tarfile.SYMTYPE, str(outside)
    evil = tarred({place.format(outside=outside): b"x", "annotations/trainval.txt": b""}, link)
    published(server, monkeypatch, tmp_path, "oxford-pets", {"images.tar.gz": evil, "annotations.tar.gz": evil})
    with pytest.raises((DownloadError, OutputError)):
        named.resolve("oxford-pets", silent, print)
    assert not list(tmp_path.rglob("evil.txt"))


@pytest.mark.parametrize("name", ["hymenoptera", "oxford-pets"])
def test_an_archive_that_grows_without_measure_is_not_unpacked(server, monkeypatch, tmp_path, name):
    megabyte = bytes(1_000_000)
    bomb = {f"{number}.jpg": megabyte for number in range(9)}
    archives = {"hymenoptera_data.zip": zipped(bomb), "images.tar.gz": tarred(bomb), "annotations.tar.gz": tarred({})}
    published(server, monkeypatch, tmp_path, name, archives)
    monkeypatch.setitem(named.DATA_SETS, name, replace(named.DATA_SETS[name], megabytes=2))
    written = []
    for kind, name_of in ((zipfile.ZipFile, "extract"), (tarfile.TarFile, "extractfile")):
        extract = getattr(kind, name_of)

        def counted(*args, extract=extract):
            written.append(args[1])
            return extract(*args)

        monkeypatch.setattr(kind, name_of, counted)
    with pytest.raises(DownloadError, match="more than 8 MB, so it is not the published file"):
        named.resolve(name, silent, print)
    assert len(written) == 8
    assert not list((tmp_path / "cache" / "data").iterdir())
    assert len(list((tmp_path / "cache" / "downloads").iterdir())) == (name == "oxford-pets")


# Manifests


@pytest.fixture
def listed(tmp_path):
    """A folder of photos 0.png to 11.png and a function that writes a manifest beside them."""
    for number in range(12):
        write_photo(tmp_path / f"{number}.png", np.full((20, 20, 3), 20 * number, np.uint8))

    def write(text: str, name: str = "photos.csv") -> Path:
        (tmp_path / name).write_text(text, "utf-8")
        return tmp_path / name

    return write


@pytest.mark.parametrize(("name", "mark"), [("p.csv", ","), ("p.tsv", "\t"), ("p.csv", ";")])
def test_a_manifest_is_a_data_set(listed, name, mark):
    rows = [f"{n}.png{mark}{'แมว' if n % 2 else 'dog, big' if mark != ',' else 'dog'}" for n in range(12)]
    path = listed("\ufeff" + "\n".join([f"path{mark}label", *rows]), name)
    train, val, test = load_splits(path)
    assert (len(train), len(val), test) == (10, 2, None)
    assert train.labels[1] == "แมว"
    assert load_splits(path) == load_splits(path)
    assert load_labelled(path, train.labels, val_fraction=0.2).paths == val.paths


def test_a_column_gives_the_splits(listed):
    parts = ["train"] * 6 + ["validation"] * 4 + ["test"] * 2
    path = listed("\n".join(["file,class,split", *(f"{n}.png,{'ab'[n % 2]},{part}" for n, part in enumerate(parts))]))
    splits = load_splits(path)
    assert [len(part) for part in splits] == [6, 4, 2]
    assert load_labelled(path, ("a", "b"), "test").paths == splits.test.paths


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("photo,remark\n0.png,a", "has no column 'label'"),
        ("path,label\n", "lists no photos"),
        ("path,label\n0.png,a\n99.png,b", r"single class, .a. .*no such file .listed in"),
        ("path,label\n0.png,a\n1.png,", "line 3 of .*has no label"),
        ("path,label\n0.png,a\n1.png", "line 3 of .*columns"),
        ("path,label,split\n0.png,a,train\n1.png,b,sometimes", "'sometimes'"),
        ("path,label\n0.png,a\n1.png,a", "a single class"),
        ("path,label\n0.png,a\n1.png,b\n2.png,b", "only one photo"),
    ],
)
def test_a_wrong_manifest_says_which_line(listed, text, message):
    with pytest.raises(DataError, match=message):
        load_splits(listed(text))


def test_a_test_part_never_moves_the_others(tmp_path):
    root = write_surfaces(tmp_path, train=20, val=1) / "train"
    plain, tested = load_splits(root), load_splits(root, test="0.2")
    assert plain.val.paths == tested.val.paths
    assert set(tested.train.paths) | set(tested.test.paths) == set(plain.train.paths)
    assert not set(tested.train.paths) & set(tested.test.paths)
    folder = load_splits(root, test=str(tmp_path / "val"))
    assert len(folder.test) == 3


# Data check


@pytest.fixture(scope="module")
def findings(flawed) -> Findings:
    return check(flawed, "efficientnet_lite0", "pretrained", silent, torch.device("cpu"))


@pytest.mark.slow
def test_the_page_holds_in_a_browser(findings, tmp_path, browser):
    audit(browser, write_data_page(findings, tmp_path / "page.html").as_uri())


def test_every_flaw_is_found_and_no_more(findings, tmp_path):
    found = findings
    leaks = [{photo.path.name for photo in group.photos} for group in found.leaks]
    assert len(leaks) == 2
    assert any("leak.png" in names for names in leaks)
    assert any("again.jpg" in names for names in leaks)
    assert sum(group.exact for group in found.repeated) == 1
    assert "wrong.png" in {item.photo.path.name for item in found.suspects}
    assert next(s for s in found.suspects if s.photo.path.name == "wrong.png").suggestion == "grass"
    odd = {item.photo.path.name: " ".join(item.why) for item in found.odd}
    assert set(odd) == {"tiny.png", "flat.png"}
    assert "tiny" in odd["tiny.png"]
    assert all(words in odd["flat.png"] for words in ("single colour", "very bright", "very long"))
    assert [item.path.name for item in found.unreadable] == ["broken.jpg"]
    page = write_data_page(found, tmp_path / "page.html").read_text()
    assert all(name in page for name in ("again.jpg", "wrong.png", "tiny.png", "broken.jpg"))
    assert page.count("data:image/jpeg;base64,") >= 7
    assert "http" not in page.replace("http-equiv", "")


def test_clean_photos_have_no_findings(tmp_path):
    root = write_surfaces(tmp_path, train=10, val=4)
    found = check(root, "efficientnet_lite0", "pretrained", silent, torch.device("cpu"))
    assert (found.repeated, found.odd, found.unreadable) == ((), (), ())


CHANGES = {
    "recompressed": lambda f: cv2.imdecode(cv2.imencode(".jpg", f, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], 1),
    "shrunk": lambda f: cv2.resize(f, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA),
    "mirrored": lambda f: f[:, ::-1],
    "lighter": lambda f: cv2.convertScaleAbs(f, alpha=1.1, beta=15),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_a_near_duplicate(change, tmp_path):
    root = write_surfaces(tmp_path, train=4, val=1)
    pictures = [look_at(path) for path in sorted((root / "train").rglob("*.*"))]
    frame = read_photo(sorted((root / "train" / "brick").iterdir())[0])
    copy = look_at(write_photo(tmp_path / "copy.png", np.ascontiguousarray(CHANGES[change](frame))))
    assert near_groups([*pictures, copy], None) == [[0, len(pictures)]]
    assert exact_groups([*pictures, copy]) == []


def test_a_file_that_is_no_photo_is_said(tmp_path):
    (tmp_path / "x.png").write_bytes(b"GIF89a")
    assert isinstance(look_at(tmp_path / "x.png"), Unreadable)
    assert isinstance(look_at(write_photo(tmp_path / "y.png", np.zeros((3, 3, 3), np.uint8))), ImageRecord)


def test_the_command_checks_and_lists(flawed, tmp_path, capsys):
    assert run(["data", "check", str(flawed), "-o", str(tmp_path / "p.html")]) == 0
    output = capsys.readouterr().out
    assert "the same photo in more than one part" in output
    assert (tmp_path / "p.html").exists()
    assert run(["data", "get", "imagenet"]) == 2
    assert run(["train", "hymenoptra", "-o", str(tmp_path / "run")]) == 1
    assert "did you mean hymenoptera?" in capsys.readouterr().err


def test_the_page_shows_photos_spread_over_each_class(tmp_path):
    root = write_surfaces(tmp_path / "photos", train=30, val=2)
    (root / "train" / "brick").rename(root / "train" / "อิฐ")
    (root / "val" / "brick").rename(root / "val" / "อิฐ")
    said: list[str] = []
    found = check(root, "efficientnet_lite0", "pretrained", silent, torch.device("cpu"), said.append)
    assert said == [found.layout.replace("photos: ", "photos: found ")]  # the page tells what could be decoded
    assert {label: len(photos) for label, photos in found.examples.items()} == dict.fromkeys(found.labels, 24)
    assert all(photo.label == label for label, photos in found.examples.items() for photo in photos)
    assert {photo.split for photo in found.examples["อิฐ"]} == {"train", "val"}
    page = write_data_page(found, tmp_path / "page.html").read_text("utf-8")
    sheets = re.findall(r'<p class="label"><b>(\S+)</b> .*?<div class="sheet">(.*?)</div>', page, re.DOTALL)
    assert [label for label, _ in sheets] == list(found.labels)
    for label, sheet in sheets:
        pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)"', sheet)
        assert [name for _, name in pictures] == [photo.name for photo in found.examples[label]]
        shown = cv2.imdecode(np.frombuffer(base64.b64decode(pictures[0][0]), np.uint8), cv2.IMREAD_COLOR)
        centre = _centre(read_photo(found.examples[label][0].path))
        assert shown.shape == (96, 96, 3)
        assert np.abs(shown.astype(int) - centre).mean() < 12  # of 255; JPEG and another resize


def _centre(frame: np.ndarray) -> np.ndarray:
    """By Pillow: the largest centred square at 96 px."""
    side = min(frame.shape[:2])
    top, left = ((length - side) // 2 for length in frame.shape[:2])
    square = Image.fromarray(np.ascontiguousarray(frame[top : top + side, left : left + side]))
    return np.asarray(square.resize((96, 96), Image.Resampling.BOX)).astype(int)
