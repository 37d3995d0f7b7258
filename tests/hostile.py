"""What tests of hostile files share: limits of time and memory, and what an error message must be."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image
from stopwatch import HANGING

from edge_tl_runtime.core.errors import EdgeTLError
from edge_tl_runtime.modelfile.spec import ModelSpec, Normalization, ResizeRule, SelfTest

NOBODY = 65534


def replaced(document: Any, way: tuple[Any, ...], value: Any) -> Any:
    """A copy of a JSON document with `value` at the end of a way of keys and places."""
    document = copy.deepcopy(document)
    inner = document
    for part in way[:-1]:
        inner = inner[part]
    inner[way[-1]] = value
    return document


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail when the block computes for longer; the clock counts only against hanging, a blocking open() too.

    Nothing is raised in the middle of a computation that merely takes long: a tracer or native code may be in its way.
    """

    def late(*_: object) -> None:
        raise AssertionError(f"hangs: took longer than {HANGING} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, HANGING)
    started = time.process_time()
    try:
        yield
        computed = time.process_time() - started
        # A tracer, as of coverage, makes each line several times as long.
        assert computed < seconds * (10 if sys.gettrace() else 1), f"computed for {computed:.1f} s, not {seconds} s"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def refused(error: type[EdgeTLError], call: Callable[[], object], seconds: float = 3.0) -> str:
    """The message of a call that must raise exactly `error`, soon, in one line that a terminal prints and does not obey."""
    with within(seconds), pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    return checked(caught.value)


def checked(error: EdgeTLError | str) -> str:
    """The text of an error, found to be one short line without control characters that can be encoded."""
    text = str(error)
    assert text
    assert len(text) < 1500
    assert len(text.splitlines()) == 1
    assert not any(unicodedata.category(c) in ("Cc", "Cs") for c in text), ascii(text)
    return text


def measured(code: str, *arguments: object, limit_mb: int = 0) -> list[str]:
    """Lines that `code` prints in a process of its own; the last is how far its memory rose in `rise()`'s MB.

    limit_mb: its address space; 0 for no limit. VmHWM is used since ru_maxrss counts the parent of the process too.
    """
    prelude = f"""
        import sys, resource, re
        from pathlib import Path
        import cv2, numpy, onnxruntime
        from edge_tl_runtime.core.errors import EdgeTLError
        from edge_tl_runtime.images.decode import read_photo
        from edge_tl_runtime.modelfile.onnx import read_spec
        from edge_tl_runtime.inference.classifier import Classifier, SessionSettings
        def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
        before = peak()
        if {limit_mb}: resource.setrlimit(resource.RLIMIT_AS, ({limit_mb} << 20, {limit_mb} << 20))
        def attempt(call):
            try:
                call()
                print("read")
            except EdgeTLError as error:
                print(type(error).__name__, error)
    """
    program = textwrap.dedent(prelude) + textwrap.dedent(code) + "\nprint(round(peak() - before))\n"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [*done.stdout.splitlines()]


SPEC = ModelSpec(
    labels=("a", "b", "c"),
    resize=ResizeRule(height=4, width=4, crop_pct=1.0, resample="area-cubic"),
    normalization=Normalization(mean=(0, 0, 0), std=(1, 1, 1)),
    arch="hostile",
    self_test=SelfTest(
        thumbnail=SelfTest.encode(np.zeros((2, 2, 3), np.uint8)), side=2, top1=0, logits=(0.0,) * 3, tolerance=1e-3
    ),
)


def changed(spec: ModelSpec, **changes: Any) -> ModelSpec:
    return dataclasses.replace(spec, **changes)


def mutated(data: st.DataObject, good: bytes) -> bytes:
    """`good` with a few bytes changed, taken out or put in, or its end cut off."""
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(bad)))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "take", "copy"]))
        if kind == "flip" and at < len(bad):
            bad[at] ^= data.draw(st.integers(1, 255))
        elif kind == "cut":
            del bad[at:]
        elif kind == "insert":
            bad[at:at] = data.draw(st.binary(max_size=12))
        elif kind == "take":
            del bad[at : at + data.draw(st.integers(1, 40))]
        elif kind == "copy":
            bad[at:at] = bad[: data.draw(st.integers(0, 60))]
    return bytes(bad)


def scene(height: int = 24, width: int = 32) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([255 * x / width, 255 * y / height, 128 + 0 * x], 2).astype(np.uint8))


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's name is limited to 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


NOT_REGULAR: dict[str, Callable[[Path], object]] = {
    "a pipe": _fifo,
    "a link to a pipe": lambda path: (_fifo(path.with_name("p")), path.symlink_to("p")),
    "a socket": _socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a terminal": lambda path: path.symlink_to("/dev/tty"),
    "a link to itself": _loop,
    "a broken link": lambda path: path.symlink_to("nowhere"),
    "a folder": lambda path: path.mkdir(),
    "an empty file": lambda path: path.write_bytes(b""),
    "a file of the kernel": lambda path: path.symlink_to("/proc/self/pagemap"),
}
