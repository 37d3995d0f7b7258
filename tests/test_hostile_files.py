"""Pipes, devices, links and folders where a file should be: refused at once, in one line."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import NOBODY, NOT_REGULAR, _loop, encoded, refused, scene

from edge_tl_runtime.core.errors import BadImage, BadModelError
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.machine.tuning_profile import profile_path, profiled_settings
from edge_tl_runtime.modelfile.onnx import read_spec


@pytest.mark.parametrize("kind", NOT_REGULAR)
def test_what_is_no_file_is_refused_without_waiting(kind, tmp_path):
    photo, model = tmp_path / "x.jpg", tmp_path / "x.onnx"
    NOT_REGULAR[kind](photo)
    refused(BadImage, lambda: read_photo(photo))
    photo.rename(model)
    if kind == "a link to itself":
        model.unlink()
        _loop(model)
    refused(BadModelError, lambda: read_spec(model))


@pytest.mark.parametrize("name", ["x" * 5000, "nul\0byte", "half \ud83d pair", "/dev/null/x.jpg"], ids=ascii)
def test_names_that_no_file_can_have_are_refused(name):
    for error, read in ((BadImage, read_photo), (BadModelError, read_spec)):
        with pytest.raises(error):
            read(name)


@pytest.fixture
def as_nobody() -> Iterator[tuple[Path, Callable[[], contextlib.AbstractContextManager[None]]]]:
    """A folder that all may enter, and a way to lose the privileges of root, to whom every file is readable."""

    @contextlib.contextmanager
    def unprivileged() -> Iterator[None]:
        root = os.geteuid() == 0
        if root:
            os.seteuid(NOBODY)
        try:
            yield
        finally:
            if root:
                os.seteuid(0)

    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder, unprivileged
    for path in folder.iterdir():
        path.chmod(0o700)
    shutil.rmtree(folder)


@pytest.mark.parametrize("locked", ["the file", "its folder"])
def test_what_may_not_be_read_says_so(locked, as_nobody, color_model):
    folder, unprivileged = as_nobody
    inner = folder / "inner"
    inner.mkdir(mode=0o755)
    photo, model = inner / "x.png", inner / "x.onnx"
    photo.write_bytes(encoded(scene(), "PNG"))
    model.write_bytes(color_model.read_bytes())
    profile_path(model).write_text("{}")
    for path in [photo, model, profile_path(model)] if locked == "the file" else [inner]:
        path.chmod(0)
    with unprivileged():
        assert "Permission denied" in refused(BadImage, lambda: read_photo(photo))
        assert "Permission denied" in refused(BadModelError, lambda: read_spec(model))
        found, reason = profiled_settings(model)
    assert found is None
    assert "Permission denied" in reason


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "x.jpg"
    path.write_bytes(encoded(scene(), "JPEG"))
    real = os.stat

    def replaced(target: Any, **options: Any) -> os.stat_result:
        status = real(target, **options)
        if Path(target) == path and stat.S_ISREG(status.st_mode):
            path.unlink()
            os.mkfifo(path)
        return status

    monkeypatch.setattr(os, "stat", replaced)
    assert "regular" in refused(BadImage, lambda: read_photo(path))


def test_a_file_that_shrinks_and_grows_while_read_is_a_photo_or_refused(tmp_path):
    path = tmp_path / "x.bmp"
    whole = encoded(scene(400, 400), "BMP")
    path.write_bytes(whole)
    stop = threading.Event()

    def rewrite() -> None:
        with open(path, "r+b") as file:
            while not stop.is_set():
                file.truncate(random.randrange(len(whole)))
                file.seek(0)
                file.write(whole)
                file.flush()

    thread = threading.Thread(target=rewrite)
    thread.start()
    outcomes = set()
    try:
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            try:
                outcomes.add(read_photo(path).shape)
            except BadImage:
                outcomes.add("refused")
    finally:
        stop.set()
        thread.join()
    assert outcomes <= {(400, 400, 3), "refused"}
    assert outcomes
