"""The window shows the camera, and whoever closes it or types q ends the run: with a real display, without a screen."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from stopwatch import HANGING, Stopwatch

from edge_tl_runtime.sinks.window import window_obstacle

TOOLS = ("Xvfb", "xdotool", "import")
needs_display = pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)) or "NONE" in cv2.getBuildInformation().split("GUI:")[1].split("\n")[0],
    reason=f"needs {', '.join(TOOLS)} and an OpenCV with windows",
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def display():
    """A display in memory; gives the environment to use it."""
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x960x24", "-nolisten", "tcp"],
        pass_fds=[write],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as number:
        name = f":{number.readline().strip()}"
    yield {**os.environ, "DISPLAY": name, "WAYLAND_DISPLAY": ""}
    server.terminate()
    server.wait()


@pytest.fixture
def run(display, color_model):
    """Starts the command with a window; whatever is left of it goes at the end."""
    made = []

    def start(source):
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_tl", "run", str(color_model), "--source", source],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=display,
        )
        made.append(process)
        return process

    yield start
    for process in made:
        process.kill()
        process.communicate()


def window_of(display, process, title="edge-tl"):
    limit = time.monotonic() + HANGING
    while time.monotonic() < limit:
        assert process.poll() is None, process.communicate()
        found = subprocess.run(
            ["xdotool", "search", "--onlyvisible", "--name", title],
            capture_output=True,
            text=True,
            env=display,
            check=False,
        ).stdout.split()
        if found:
            return found[0]
        time.sleep(0.1)
    raise AssertionError("no window")


def picture(display, window, tmp_path):
    path = tmp_path / "shot.png"
    subprocess.run(["import", "-window", window, str(path)], env=display, check=True, timeout=HANGING)
    return cv2.imread(str(path))


def ended(process, seconds=3.0):
    watch = Stopwatch()
    out, errors = process.communicate(timeout=HANGING)
    assert watch.quiet() < seconds
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    return out, errors


@needs_display
@pytest.mark.parametrize("key", ["q", "Escape"])
def test_the_window_shows_the_camera_and_a_key_ends_the_run(display, run, tmp_path, key):
    process = run("test://bars?size=320x240&fps=30")
    window = window_of(display, process)

    def bars() -> tuple[np.ndarray, set]:
        shot = picture(display, window, tmp_path)
        return shot, {
            tuple(colour) for colour in (shot[shot.shape[0] * 3 // 4 :: 8, ::8].reshape(-1, 3) // 64).tolist()
        }

    limit = time.monotonic() + HANGING
    shot, colours = bars()
    while len(colours) < 6:
        assert time.monotonic() < limit, "the bars are to be seen"
        shot, colours = bars()
    while np.abs(bars()[0].astype(int) - shot).mean() <= 1:
        assert time.monotonic() < limit, "and they move"
    subprocess.run(["xdotool", "windowfocus", "--sync", window, "key", key], env=display, check=True)
    _, errors = ended(process)
    assert "frames" in errors
    assert "did not finish" not in errors


@needs_display
def test_a_window_that_is_closed_ends_the_run(display, run):
    process = run("test://bars?size=320x240&fps=30")
    window = window_of(display, process)
    time.sleep(0.5)
    close(display, window)
    ended(process)


class ClientMessage(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong),
        ("message_type", ctypes.c_ulong),
        ("format", ctypes.c_int),
        ("data", ctypes.c_long * 5),
        ("padding", ctypes.c_long * 24),
    ]


def close(display, window):
    """As the cross in its corner does; xdotool can only destroy a window behind its owner's back."""
    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XInternAtom.restype = ctypes.c_ulong
    connection = ctypes.c_void_p(x11.XOpenDisplay(display["DISPLAY"].encode()))
    protocols, delete = (x11.XInternAtom(connection, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
    message = ClientMessage(33, 0, 1, connection, int(window), protocols, 32, (ctypes.c_long * 5)(delete))
    assert x11.XSendEvent(connection, ctypes.c_ulong(int(window)), 0, ctypes.c_long(0), ctypes.byref(message))
    x11.XCloseDisplay(connection)


@needs_display
def test_while_the_camera_is_gone_the_title_says_so_and_the_window_answers(display, run):
    process = run("test://bars?size=320x240&fps=30&script=30,end;refuse;refuse;refuse;refuse")
    window_of(display, process)
    window = window_of(display, process, "LOST")
    subprocess.run(["xdotool", "windowfocus", "--sync", window, "key", "q"], env=display, check=True)
    ended(process)


@needs_display
def test_the_title_is_plain_again_when_the_camera_is_back(display, run):
    process = run("test://bars?size=320x240&fps=30&script=20,end;")
    window_of(display, process, "LOST")
    window = window_of(display, process, "^edge-tl$")
    subprocess.run(["xdotool", "windowfocus", "--sync", window, "key", "q"], env=display, check=True)
    ended(process)


@needs_display
def test_photos_stay_long_enough_to_be_seen_and_q_is_heard_meanwhile(display, run, color_photos):
    process = run(str(color_photos))
    window = window_of(display, process)
    time.sleep(1.5)
    assert process.poll() is None, "six photos take six seconds"
    subprocess.run(["xdotool", "windowfocus", "--sync", window, "key", "q"], env=display, check=True)
    ended(process)


def test_a_display_that_does_not_answer_is_one_line_and_no_abort(color_model, color_photos):
    environment = {**os.environ, "DISPLAY": ":4711", "WAYLAND_DISPLAY": ""}
    done = subprocess.run(
        [sys.executable, "-m", "edge_tl", "run", str(color_model), "--source", str(color_photos)],
        capture_output=True,
        text=True,
        timeout=HANGING,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "no window: no display answers at DISPLAY=:4711" in done.stderr


def test_displays_are_found_wherever_they_are(monkeypatch, display):
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", display["DISPLAY"])
    assert "display" not in window_obstacle()
    monkeypatch.setenv("DISPLAY", f"{display['DISPLAY']}.0")
    assert "display" not in window_obstacle()
    for name in ("localhost:4711.0", ":4711", "unix:4711"):
        monkeypatch.setenv("DISPLAY", name)
        assert "no display answers" in window_obstacle()
    monkeypatch.setenv("DISPLAY", "")
    assert window_obstacle() == "there is no display"
