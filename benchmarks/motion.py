"""When to look: processor time of `--on-motion` and `--every 5s`, and what they miss. Prints Markdown.

    python benchmarks/motion.py MODEL IMAGENET CATS_DOGS [--seconds 20] [--minutes 10]

Processor time: `edge-tl run --headless --threads 1` with its capture process on an MJPEG stream over HTTP (1280x720, 25 frames a
second) of a quiet room, and of one that an animal crosses for 6 of 20 seconds; the server's own time is not counted. Each run is
measured for `--seconds` after 12 s of start and learning. The same for H.264 over RTSP, whose frames must all be decoded.

Missed: animals of 8 to 40 % of the frame's height that come, stay for a while and go, in front of eight places, at 10 frames a
second. One is missed if no frame is classified while it is there. Between them nothing moves: frames classified there because
something seemed to move are false.

Events: an empty scene with cats and dogs that come and go for `--minutes`, classified by MODEL (which knows cats and dogs) with
the defaults of `run`. An event is a change of the label to a known one; it is right where an animal is there.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from _scenes import HEIGHT, WIDTH, Animals, Camera, covering, places
from ratios import record
from reconnect import CameraServer, write_jpegs

from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.images.geometry import seen_part
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.pipeline.decision import Decider
from edge_tl_runtime.scene.motion import EVERY_S, MotionGate

ROOT = Path(__file__).resolve().parent.parent
FPS, BIG = 25, (1280, 720)
SETTLE_S = 12.0
RATE = 10
WAYS = {"every frame": [], "--on-motion": ["--on-motion"], "--every 5s": ["--every", "5s"]}


def animals(cats_dogs: Path, count: int = 40) -> Animals:
    paths = sorted(cats_dogs.glob("val/*/*.jpg"))
    return Animals(paths[:: max(1, len(paths) // count)])


def tree_seconds(process: psutil.Process) -> float:
    """User and system time of a process and its children until now."""
    return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))


def processor_share(model: Path, url: str, options: list[str], seconds: float) -> float:
    """Of one core, once it has started and learned."""
    command = [
        sys.executable,
        "-m",
        "edge_tl",
        "run",
        str(model),
        "--source",
        url,
        "--headless",
        "--threads",
        "1",
        *options,
    ]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ})
    try:
        process = psutil.Process(started.pid)
        time.sleep(SETTLE_S)
        before, at = tree_seconds(process), time.monotonic()
        time.sleep(seconds)
        return (tree_seconds(process) - before) / (time.monotonic() - at)
    finally:
        started.send_signal(signal.SIGINT)
        started.wait(20)


def shown(place: Frame, shown_animals: Animals, crossing: bool) -> list[Frame]:
    """20 s of a room; with `crossing` an animal goes through it in the last 6."""
    camera = Camera(place, *BIG)
    empty = camera.view()
    frames = []
    for number in range(20 * FPS if crossing else 4 * FPS):
        now, picture = number / FPS, empty
        if crossing and now >= 14:
            picture = empty.copy()
            shown_animals.paste(picture, 3, 240 + (now - 14) / 6 * 800, 450, 260)
        frames.append(camera.shot(picture, now, quality=0))
    return frames


def print_processor_time(model: Path, place: Frame, pasted: Animals, seconds: float) -> None:
    print(f"| {FPS} frames a second, {BIG[0]}x{BIG[1]} | " + " | ".join(f"{way}, s/h" for way in WAYS) + " | ratios |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, crossing in (("quiet, MJPEG", False), ("animal for 6 of 20 s, MJPEG", True)):
            server = CameraServer(write_jpegs(shown(place, pasted, crossing), Path(folder, name)), FPS)
            try:
                shares = [processor_share(model, server.url, options, seconds) for options in WAYS.values()]
            finally:
                server.kill()
            tell_shares(name, shares)
    sys.path.insert(0, str(ROOT / "tests"))
    from rtsp_camera import RtspCamera, encoded

    with RtspCamera(encoded(shown(place, pasted, False), gop=2 * FPS), fps=FPS) as camera:
        tell_shares(
            "quiet, H.264", [processor_share(model, camera.url(), options, seconds) for options in WAYS.values()]
        )
    print()


def tell_shares(name: str, shares: list[float]) -> None:
    ratios = [share / shares[0] for share in shares]
    hours = " | ".join(f"{3600 * share:.0f}" for share in shares)
    print(f"| {name} | {hours} | {ratios[1]:.3f}, {ratios[2]:.3f} |", flush=True)
    goal = "<= 0.15" if name.startswith("quiet, M") else ""
    for way, ratio in zip(list(WAYS)[1:], ratios[1:], strict=True):
        record(f"CPU seconds of {way}, {name}", "every frame", ratio, goal=goal)


@dataclass(frozen=True)
class Visit:
    """An animal: when it is there, which, how large (pixels), where it comes in and stops, in fractions of the frame."""

    begin: float
    end: float
    which: int
    size: int
    start: tuple[float, float]
    stop: tuple[float, float]

    def place(self, now: float) -> tuple[float, float] | None:
        """Where its middle is, None while it is away. It walks in for 2 s, stays, and walks out for 2 s."""
        if not self.begin <= now < self.end:
            return None
        share = min(1.0, (now - self.begin) / 2, (self.end - now) / 2)
        x, y = (a + share * (b - a) for a, b in zip(self.start, self.stop, strict=True))
        return x * WIDTH, y * HEIGHT


def visits(draw: np.random.Generator, seconds: float, count: int, sizes: tuple[float, float]) -> list[Visit]:
    """One after another, with at least 12 s in between; they end up within the square in the middle."""
    found, each = [], (seconds - 15) / count
    for number in range(count):
        begin = 15 + number * each + draw.uniform(0, 0.2 * each)
        end = begin + draw.uniform(4, max(5.0, each - 0.2 * each - 12))
        side = draw.choice((0.0, 1.0))
        height = float(draw.uniform(0.35, 0.7))
        size = round(HEIGHT * draw.uniform(*sizes))
        stop = (float(draw.uniform(0.35, 0.65)), height)
        found.append(Visit(begin, end, int(draw.integers(1000)), size, (side * 1.3 - 0.15, height), stop))
    return found


def recording(
    camera: Camera, pasted: Animals, made: list[Visit], seconds: float
) -> Iterator[tuple[float, Frame, bool]]:
    """(time, frame, whether an animal is there)."""
    empty = camera.view()
    for number in range(round(seconds * RATE)):
        now, picture = number / RATE, empty
        for visit in made:
            place = visit.place(now)
            if place is not None:
                picture = empty.copy()
                # It breathes and looks around where it sits.
                pasted.paste(picture, visit.which, place[0] + 2 * np.sin(3 * now), place[1], visit.size)
        present = any(visit.begin <= now < visit.end for visit in made)
        yield now, camera.shot(picture, now, gain=1 + 0.1 * np.sin(now / 60)), present


def print_missed(where: list[Frame], pasted: Animals, rule: object) -> None:
    sizes = {"8 to 15 %": (0.08, 0.15), "15 to 25 %": (0.15, 0.25), "25 to 40 %": (0.25, 0.4)}
    print(
        "| animals, of the frame's height | shown | missed | seen after, s (median) | quiet frames classified | for motion |"
    )
    print("|---|---|---|---|---|---|")
    for name, bounds in sizes.items():
        missed, total, late, quiet, classified, false = 0, 0, [], 0, 0, 0
        for number, place in enumerate(where):
            draw = np.random.default_rng(number)
            made = visits(draw, 100, 3, bounds)
            gate, seen = MotionGate(), {}
            for now, frame, present in recording(Camera(place, seed=number), pasted, made, 100):
                wanted = gate.wants(seen_part(frame, rule), now)
                if present and wanted:
                    seen.setdefault(next(v.begin for v in made if v.begin <= now < v.end), now)
                # An animal that left is motion for a while, which is as it should be.
                if now > 15 and not any(v.begin <= now < v.end + 5 for v in made):
                    quiet, classified, false = quiet + 1, classified + wanted, false + (wanted and gate.moving)
            total, missed = total + len(made), missed + len(made) - len(seen)
            late += [at - begin for begin, at in seen.items()]
        shares = f"{100 * classified / quiet:.1f} % | {100 * false / quiet:.1f} %"
        print(f"| {name} | {total} | {missed} | {np.median(late):.1f} | {shares} |", flush=True)
        record(f"animals of {name} missed by --on-motion", f"{total} shown", missed, kind="count")
    print()


def print_events(model: Path, where: list[Frame], pasted: Animals, minutes: float) -> None:
    """Label events against the truth, over several places that share the minutes."""
    classifier = Classifier(model)
    keep = classifier.keep(None)
    frames, false, right, visited, recognised, looked = 0, {"all": 0, "motion": 0}, 0, 0, 0, 0
    for number, place in enumerate(where):
        seconds = 60 * minutes / len(where)
        made = visits(np.random.default_rng(100 + number), seconds, max(1, round(seconds / 35)), (0.6, 0.95))
        known = classifier.is_known(keep) if keep else None
        deciders = {name: Decider(classifier.spec, is_known=known) for name in false}
        gate, last, found = MotionGate(), dict.fromkeys(false, "unknown"), set()
        for now, frame, present in recording(Camera(place, seed=50 + number), pasted, made, seconds):
            frames += 1
            wanted = gate.wants(seen_part(frame, classifier.spec.resize), now)
            looked += wanted
            logits = classifier.frame_logits(frame)
            probabilities = classifier.probabilities(logits)
            for name, decider in deciders.items():
                if name == "motion" and not wanted:
                    continue
                label = decider.decide(classifier.evidence, probabilities, now).label
                if label not in ("unknown", last[name]):
                    false[name] += not present
                    right += present and name == "all"
                if label != "unknown" and present and name == "motion":
                    found.add(next(v.begin for v in made if v.begin <= now < v.end))
                last[name] = label
        visited, recognised = visited + len(made), recognised + len(found)
    print(f"| {frames} frames, {len(where)} empty scenes | events with an animal | events without | animals named |")
    print("|---|---|---|---|")
    print(f"| every frame | {right} | {false['all']} | |")
    print(
        f"| --on-motion ({100 * looked / frames:.0f} % of the frames) | | {false['motion']} | {recognised} of {visited} |"
    )
    record(
        "label events without an animal, --on-motion",
        f"{minutes:g} minutes of frames",
        false["motion"],
        kind="count",
        goal="<= 0",
    )
    record(
        "label events without an animal, every frame",
        f"{minutes:g} minutes of frames",
        false["all"],
        kind="count",
        goal="<= 0",
    )


def main(model: Path, imagenet: Path, cats_dogs: Path, seconds: float, minutes: float) -> None:
    where, pasted = places(imagenet), animals(cats_dogs)
    print(f"A quiet scene is classified at least every {EVERY_S:g} s.\n")
    print_processor_time(model, covering(where[1], round(1.3 * BIG[0]), round(1.3 * BIG[1])), pasted, seconds)
    print_missed(where, pasted, Classifier(model).spec.resize)
    print_events(model, where, pasted, minutes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("imagenet", type=Path)
    parser.add_argument("cats_dogs", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0, help="How long the processor time of a run is measured.")
    parser.add_argument("--minutes", type=float, default=10.0, help="Of the scenes with cats and dogs.")
    given = parser.parse_args()
    main(given.model, given.imagenet, given.cats_dogs, given.seconds, given.minutes)
