"""A camera on the network that dies and returns, read by `edge-tl run`. Prints Markdown.

    python benchmarks/reconnect.py MODEL [PHOTOS] [--kills 20] [--flow 11]

The camera is a process that sends JPEG photos over HTTP (multipart, 640x480, 15 a second) on loopback; it is ended with SIGKILL
and started again on the same port after half a second to two. What it shows tells which life of it a frame is from: odd and
even lives show photos to which the model gives different labels. Without PHOTOS, photographs that scikit-image brings along.
Times are from the moment the server listens again until `edge-tl run --json` prints its first line. The default patience waits
0.5 to 1 s before the first try and doubles that with each, until frames have flowed for 10 s: --flow below that shows the
longer waits.
"""

from __future__ import annotations

import argparse
import itertools
import json
import queue
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from ratios import record

from edge_tl_runtime.core.errors import BadImage
from edge_tl_runtime.images.datasets.survey import photo_files
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.inference.classifier import Classifier

SIZE = (640, 480)
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 85]
EACH = 6
"""Photos that a server shows in turn; a picture that repeats would count as frozen."""
FLIGHT_S = 0.3
"""How long what a server had sent before it died may still take until it is printed."""


class CameraServer:
    """A process that serves a folder's JPEG files to whoever asks, for ever: `http://127.0.0.1:PORT/`."""

    def __init__(self, folder: Path, fps: float, port: int = 0) -> None:
        command = [sys.executable, __file__, "--serve", str(folder), str(fps), str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.ready_at = time.monotonic()
        self.url = f"http://127.0.0.1:{self.port}/"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def serve(folder: Path, fps: float, port: int) -> None:
    pictures = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            started = time.monotonic()
            try:
                for number, jpeg in enumerate(itertools.cycle(pictures)):
                    time.sleep(max(0.0, started + number / fps - time.monotonic()))
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
            except OSError:
                pass

        def log_message(self, *arguments: object) -> None:
            pass

    ThreadingHTTPServer.allow_reuse_address = True
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()


def pictures(photos: Path | None) -> list[np.ndarray]:
    """Photos as a camera would see them: 640x480, what is too much at the sides cut off."""
    if photos is None:
        from skimage import data

        found = [getattr(data, name)()[..., ::-1] for name in ("astronaut", "chelsea", "coffee", "rocket")]
        shifted = [np.roll(photo, shift, axis=1) for photo in found for shift in range(0, 8 * EACH, 8)]
        return [covering(photo) for photo in shifted]
    read = []
    for path in photo_files(photos):
        try:
            read.append(covering(read_photo(path)))
        except BadImage:
            continue
    return read


def covering(photo: np.ndarray) -> np.ndarray:
    scale = max(SIZE[0] / photo.shape[1], SIZE[1] / photo.shape[0])
    width, height = (max(least, round(scale * side)) for least, side in zip(SIZE, photo.shape[1::-1], strict=True))
    photo = cv2.resize(np.ascontiguousarray(photo), (width, height), interpolation=cv2.INTER_AREA)
    left, top = (width - SIZE[0]) // 2, (height - SIZE[1]) // 2
    return np.ascontiguousarray(photo[top : top + SIZE[1], left : left + SIZE[0]])


def write_jpegs(frames: list[np.ndarray], folder: Path) -> Path:
    folder.mkdir()
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{number:03d}.jpg"), frame, QUALITY)
    return folder


def sent(frame: np.ndarray) -> np.ndarray:
    """The frame as it is after JPEG."""
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", frame, QUALITY)[1], cv2.IMREAD_COLOR), np.uint8)


def two_scenes(classifier: Classifier, photos: Path | None, folder: Path) -> list[tuple[str, Path]]:
    """Two labels and a folder of photos for each, to all of which the model gives that label, surest first."""
    by_label: dict[str, list[tuple[float, np.ndarray]]] = {}
    for frame in pictures(photos):
        seen = classifier.classify(sent(frame))
        by_label.setdefault(seen.label, []).append((seen.confidence, frame))
    enough = [(label, found) for label, found in by_label.items() if len(found) >= EACH]
    if len(enough) < 2:
        raise SystemExit("the model does not tell these photos apart; give a folder of photos that it knows")
    scenes = []
    for label, found in sorted(enough, key=lambda item: -len(item[1]))[:2]:
        surest = [frame for _, frame in sorted(found, key=lambda pair: -pair[0])[:EACH]]
        scenes.append((label, write_jpegs(surest, folder / str(len(scenes)))))
    return scenes


class Run:
    """`edge-tl run --json --status` as a process, and its lines with the time at which each came."""

    def __init__(self, model: Path, url: str, status: Path) -> None:
        command = [sys.executable, "-m", "edge_tl", "run", model, "--source", url, "--headless", "--json"]
        self.process = subprocess.Popen(
            [*map(str, command), "--status", str(status)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.lines: queue.Queue[tuple[float, dict[str, Any]]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put((time.monotonic(), json.loads(line)))

    def until(self, moment: float) -> list[tuple[float, dict[str, Any]]]:
        """Lines that came before `moment`, which is waited for."""
        found = []
        while (left := moment - time.monotonic()) > 0:
            try:
                found.append(self.lines.get(timeout=left))
            except queue.Empty:
                break
        return found

    def usage(self) -> tuple[str, int]:
        """What it takes of the machine, in words, and its open handles."""
        process = psutil.Process(self.process.pid)
        megabytes = process.memory_info().rss / 2**20
        handles = process.num_fds()
        return f"{megabytes:.1f} MB, {handles} handles, {process.num_threads()} threads", handles

    def stop(self) -> tuple[float, int, int]:
        """Seconds from SIGTERM to the end, exit code, processes left."""
        captures = psutil.Process(self.process.pid).children(recursive=True)
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        took = time.monotonic() - started
        return took, code, len(psutil.wait_procs(captures, timeout=1)[1])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(model: Path, photos: Path | None, kills: int, flow: float) -> None:
    classifier = Classifier(model)
    draw = random.Random(0)
    returned: list[float] = []
    frames = dead = stale = neither = 0
    with tempfile.TemporaryDirectory() as name:
        scenes = two_scenes(classifier, photos, Path(name))
        status = Path(name, "status.json")
        server = CameraServer(scenes[0][1], 15, free_port())
        run = Run(model, server.url, status)
        run.lines.get(timeout=60)
        run.until(time.monotonic() + max(5.0, flow))
        before, handles_before = run.usage()
        for life in range(1, kills + 1):
            server.kill()
            died = time.monotonic()
            down = run.until(died + draw.uniform(0.5, 2.0))
            dead += sum(at > died + FLIGHT_S for at, _ in down)
            (label, folder), (before_it, _) = scenes[life % 2], scenes[1 - life % 2]
            server = CameraServer(folder, 15, server.port)
            first = run.lines.get(timeout=60)
            returned.append(first[0] - server.ready_at)
            after = [first, *run.until(first[0] + flow)]
            stale += sum(line["label"] == before_it for _, line in after)
            neither += sum(line["label"] not in (label, before_it) for _, line in after)
            frames += len(down) + len(after)
        usage, handles = run.usage()
        took, code, left = run.stop()
        tries = json.loads(status.read_text())["reconnects"]
        server.kill()
    print("| | |")
    print("|---|---|")
    print(f"| server killed and started again | {kills} times |")
    print(f"| connections tried for that | {tries} |")
    print(
        f"| from server up to first result, s | median {statistics.median(returned):.2f}, max {max(returned):.2f}, "
        f"min {min(returned):.2f} |"
    )
    print(f"| results | {frames} |")
    print(f"| results while no server lived (after {FLIGHT_S:g} s) | {dead} |")
    print(f"| results that show the life before | {stale} |")
    print(f"| results with a label of neither life's photos | {neither} |")
    print(f"| at the start | {before} |")
    print(f"| at the end | {usage} |")
    print(f"| SIGTERM | exit code {code} after {took:.2f} s, {left} processes left |")
    against = f"a camera killed {kills} times"
    for what, count in (
        ("results while no server lived", dead),
        ("results that show the life before", stale),
        ("results with a label of neither life", neither),
        ("processes left after SIGTERM", left),
        ("open handles more than at the start", handles - handles_before),
    ):
        record(what, against, count, kind="count", goal="<= 0")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
    else:
        parser = argparse.ArgumentParser()
        parser.add_argument("model", type=Path)
        parser.add_argument("photos", type=Path, nargs="?")
        parser.add_argument("--kills", type=int, default=20)
        parser.add_argument("--flow", type=float, default=11.0, help="Seconds of frames before each kill.")
        given = parser.parse_args()
        main(given.model, given.photos, given.kills, given.flow)
