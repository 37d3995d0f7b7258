"""A camera that is not what it was: what is noticed, after how long, and what is taken for a fault that is none. Prints Markdown.

    python benchmarks/tamper.py IMAGENET CATS_DOGS [--places 5] [--hours 0.5]

Recordings from photographs (480x270, a frame a second): before each place a camera learns its view for a minute with people and
animals that pass; then each kind of fault begins after 10 s and stays for 45 s. Half of the places are coded as JPEG, half as
H.264. A hit is the right condition within 45 s; another condition that says that something is wrong counts as noticed. Kinds
without a fault (light, flicker, noise, night, people, a parked car) last 120 s; every condition told there is a false alarm.

`--hours`: quiet recordings of all places together, with passing animals, light that changes, and flicker.
"""

from __future__ import annotations

import argparse
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from _scenes import HEIGHT, WIDTH, Animals, Camera, places
from ratios import record

from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.scene.condition import LEARNING_LOOKS, CameraWatch, Condition

BEFORE_S, FAULT_S, FINE_S = 10, 45, 120
Shown = Callable[["Stage", float], Frame]
"""The frame of a kind, `now` seconds after it began; negative before that."""


@dataclass
class Stage:
    """A place with its camera. x: a number of the place, for what differs between places."""

    camera: Camera
    animals: Animals
    x: int

    def frame(self, now: float, view: Frame | None = None, **shot: float) -> Frame:
        picture = self.camera.view() if view is None else view
        return self.camera.shot(picture, now, **{"quality": 0, **shot})

    def busy(self, now: float) -> Frame:
        """Somebody passes every 15 s."""
        picture = self.camera.view()
        phase = (now + 3 * self.x) % 15
        if phase < 5:
            self.animals.paste(
                picture, int(now // 15) + self.x, (phase / 5 * 1.4 - 0.2) * WIDTH, 0.6 * HEIGHT, round(0.8 * HEIGHT)
            )
        return picture


def soft_hand(share: float, level: float) -> np.ndarray:
    """Where a hand before the lens is, from 0 to 1: out of focus, over `share` of the picture."""
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    mask[:, : round(share * WIDTH)] = level
    return cv2.GaussianBlur(mask, (0, 0), 25 if share < 1 else 60)[..., None]


def covered(share: float, tone: tuple[float, float, float], level: float = 1.0) -> Shown:
    hand, colour = soft_hand(share, level), np.array(tone, np.float32)
    shade = (1 + 0.15 * np.linspace(-1, 1, WIDTH, dtype=np.float32))[None, :, None]

    def shown(stage: Stage, now: float) -> Frame:
        picture = stage.busy(now)
        if now >= 0:
            picture = (picture * (1 - hand) + hand * colour * shade).astype(np.uint8)
        return stage.frame(now, picture)

    return shown


def defocused(radius: int) -> Shown:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)).astype(np.float32)

    def shown(stage: Stage, now: float) -> Frame:
        picture = stage.busy(now)
        return stage.frame(now, cv2.filter2D(picture, -1, disc / disc.sum()) if now >= 0 else picture)

    return shown


def greased(stage: Stage, now: float) -> Frame:
    """A wet or greasy lens: the picture, and a veil of its light."""
    picture = stage.busy(now)
    veil = cv2.GaussianBlur(picture, (0, 0), 8)
    return stage.frame(now, cv2.addWeighted(picture, 0.12, veil, 0.88, 8) if now >= 0 else picture)


def turned(**view: float) -> Shown:
    def shown(stage: Stage, now: float) -> Frame:
        return stage.frame(now, stage.camera.view(**view) if now >= 0 else stage.busy(now))

    return shown


def elsewhere(stage: Stage, now: float) -> Frame:
    """The camera was turned right round: another place."""
    return stage.frame(
        now, np.ascontiguousarray(stage.camera.place[::-1, ::-1][:HEIGHT, :WIDTH]) if now >= 0 else stage.busy(now)
    )


def lit(gain: Callable[[float], float], noise: float = 4.0, bands: float = 0.05) -> Shown:
    """Passers-by in a light that changes; now counts from the beginning of the change."""

    def shown(stage: Stage, now: float) -> Frame:
        return stage.frame(
            now, stage.busy(now), gain=gain(max(now, 0.0)), noise=noise if now >= 0 else 4.0, bands=bands
        )

    return shown


def infrared(stage: Stage, now: float) -> Frame:
    """Night mode: grey, lit by the camera's own lamp from its place, dark at the edges, other materials, more noise."""
    picture = stage.busy(now)
    if now < 0:
        return stage.frame(now, picture)
    blue, green, red = (picture[..., channel].astype(np.float32) for channel in range(3))
    grey = 0.15 * blue + 0.25 * green + 0.6 * red
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    grey *= np.exp(-0.9 * (x**2 + y**2)).astype(np.float32)
    return stage.frame(now, cv2.cvtColor(np.clip(grey, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR), noise=9.0)


def shadows(stage: Stage, now: float) -> Frame:
    """The sun: a hard shadow whose edge walks through the picture in two minutes."""
    picture = stage.busy(now).astype(np.float32)
    edge = (max(now, 0) / FINE_S * 1.4 - 0.2) * WIDTH
    x = np.arange(WIDTH)[None, :] + 0.5 * np.arange(HEIGHT)[:, None]
    return stage.frame(now, (picture * np.where(x < edge, 0.45, 1.0)[..., None]).astype(np.uint8))


def glare(strength: float, size: float) -> Shown:
    """The sun in the picture: a white disc, and its veil."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    distance = np.hypot(x - 0.7 * WIDTH, y - 0.25 * HEIGHT)
    light = (strength * np.exp(-((distance / (size * WIDTH)) ** 2)))[..., None].astype(np.float32)

    def shown(stage: Stage, now: float) -> Frame:
        picture = stage.busy(now)
        return stage.frame(now, np.clip(picture + light, 0, 255).astype(np.uint8) if now >= 0 else picture)

    return shown


def parked(stage: Stage, now: float) -> Frame:
    """Something large comes and stays: a quarter of the picture."""
    picture = stage.busy(now)
    if now >= 0:
        photo = stage.animals._photos[stage.x]
        picture[HEIGHT // 2 :, WIDTH // 3 : WIDTH // 3 + WIDTH // 2] = cv2.resize(
            photo, (WIDTH // 2, HEIGHT - HEIGHT // 2)
        )
    return stage.frame(now, picture)


def crowd(stage: Stage, now: float) -> Frame:
    picture = stage.busy(now)
    if now >= 0:
        for number in range(4):
            x = ((now / 12 + number / 4) % 1.0) * 1.4 - 0.2
            stage.animals.paste(
                picture, stage.x + number, x * WIDTH, (0.5 + 0.1 * number) * HEIGHT, round(0.6 * HEIGHT)
            )
    return stage.frame(now, picture)


def specks(stage: Stage, now: float) -> Frame:
    """Rain, snow or insects: bright streaks, others in each frame."""
    picture = stage.busy(now)
    if now >= 0:
        draw = np.random.default_rng(int(now * 10))
        for x, y in draw.integers(0, (WIDTH, HEIGHT), (150, 2)):
            cv2.line(picture, (int(x), int(y)), (int(x) + 2, int(y) + 12), (220, 220, 220), 1)
    return stage.frame(now, picture)


def nudged(stage: Stage, now: float) -> Frame:
    """Wind: the mount sways by up to 1 % of the width."""
    sway = 0.01 * np.sin(2.1 * now) if now >= 0 else 0.0
    return stage.frame(now, stage.camera.view(right=float(sway)))


KINDS: dict[str, tuple[Condition | None, Shown]] = {
    "hand over the lens, bright": (Condition.COVERED, covered(1.0, (90, 110, 150))),
    "hand over the lens, dim": (Condition.COVERED, covered(1.0, (25, 35, 60))),
    "hand over 60 % of the lens": (Condition.COVERED, covered(0.6, (60, 75, 110))),
    "cloth, lets a tenth through": (Condition.COVERED, covered(1.0, (120, 120, 120), 0.93)),
    "lens cap, black": (Condition.DARK, covered(1.0, (2, 2, 2))),
    "lamp off": (Condition.DARK, lit(lambda now: 0.03 if now > 0 else 1.0, 5.0)),
    "defocus, 4 pixels": (Condition.BLURRED, defocused(4)),
    "defocus, 9 pixels": (Condition.BLURRED, defocused(9)),
    "greasy lens": (Condition.BLURRED, greased),
    "bump, 5 %": (Condition.MOVED, turned(right=0.05)),
    "bump, 20 %, down 10 %": (Condition.MOVED, turned(right=-0.13, down=0.1)),
    "rotation by 8 degrees": (Condition.MOVED, turned(turn=8)),
    "zoom by 1.2": (Condition.MOVED, turned(zoom=1.2)),
    "turned right round": (Condition.MOVED, elsewhere),
    "sun into the lens": (Condition.OVEREXPOSED, glare(900, 0.7)),
    "exposure stuck at the top": (Condition.OVEREXPOSED, lit(lambda now: 6.0 if now > 0 else 1.0)),
    "nothing, people pass": (None, lit(lambda now: 1.0)),
    "four people at a time": (None, crowd),
    "a parked car": (None, parked),
    "sunrise, from 0.15 to 1.5": (None, lit(lambda now: 0.15 + 1.35 * min(1, now / 100))),
    "exposure jumps": (None, lit(lambda now: (0.5, 1.0, 1.5)[int(now / 7) % 3])),
    "flicker of 25 %": (None, lit(lambda now: 1.0, bands=0.25)),
    "lamp dimmed to 0.25": (None, lit(lambda now: 0.25 if now > 0 else 1.0)),
    "noise of a night, 12": (None, lit(lambda now: 0.5 if now > 0 else 1.0, noise=12.0)),
    "infrared at night": (None, infrared),
    "shadow of the sun": (None, shadows),
    "sun glare, a third": (None, glare(300, 0.25)),
    "rain and insects": (None, specks),
    "wind, sways 1 %": (None, nudged),
}


def coded(frames: list[Frame], codec: str) -> Iterator[Frame]:
    """As a decoder gives them back."""
    if codec == "jpeg":
        for frame in frames:
            yield np.asarray(
                cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], cv2.IMREAD_COLOR)
            )
        return
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.gop_size = Fraction(1, 25), Fraction(25), 50
    encoder.options = {"preset": "veryfast", "tune": "zerolatency", "crf": "26"}
    decoder = av.CodecContext.create("h264", "r")
    for number, frame in enumerate([*frames, None]):
        picture = None
        if frame is not None:
            picture = av.VideoFrame.from_ndarray(frame, "bgr24")
            picture.pts = number
        for packet in encoder.encode(picture):
            for decoded in decoder.decode(packet):
                yield decoded.to_ndarray(format="bgr24")
    for decoded in decoder.decode(None):
        yield decoded.to_ndarray(format="bgr24")


def learned(stage: Stage, codec: str) -> CameraWatch:
    watch = CameraWatch("camera", None, lambda: 0.0)
    begin = -LEARNING_LOOKS - BEFORE_S - 2
    frames = [stage.frame(now, stage.busy(now)) for now in range(begin, -BEFORE_S)]
    for now, frame in zip(range(begin, -BEFORE_S), coded(frames, codec), strict=True):
        watch.look(frame, now)
    assert watch.reference is not None
    return watch


def told(watch: CameraWatch, stage: Stage, shown: Shown, seconds: int, codec: str) -> list[tuple[int, Condition]]:
    """(seconds after the fault began, condition) at each change."""
    watch, found = copy.deepcopy(watch), []
    times = range(-BEFORE_S, seconds)
    for now, frame in zip(times, coded([shown(stage, float(now)) for now in times], codec), strict=True):
        before = watch.condition
        if watch.look(frame, now) is not before:
            found.append((now, watch.condition))
    return found


def print_kinds(stages: list[Stage]) -> list[CameraWatch]:
    watches = [learned(stage, codec_of(stage)) for stage in stages]
    hits, noticed, faults, alarms, calm = 0, 0, 0, 0, 0
    print("| kind | must be | recordings | right | otherwise noticed | after, s | told |")
    print("|---|---|---|---|---|---|---|")
    for name, (wanted, shown) in KINDS.items():
        seconds = FAULT_S if wanted else FINE_S
        runs = [
            told(watch, stage, shown, seconds, codec_of(stage)) for watch, stage in zip(watches, stages, strict=True)
        ]
        first = [next(((at, condition) for at, condition in run if condition.wrong), None) for run in runs]
        counted = Counter(found[1].value for found in first if found)
        said = ", ".join(f"{condition} {count}" for condition, count in counted.items()) or "nothing"
        if wanted is None:
            calm, alarms = calm + len(runs), alarms + sum(counted.values())
            print(f"| {name} | fine | {len(runs)} | {len(runs) - sum(counted.values())} | | | {said} |", flush=True)
            continue
        right = [found[0] for found in first if found and found[1] is wanted]
        other = sum(counted.values()) - len(right)
        faults, hits, noticed = faults + len(runs), hits + len(right), noticed + other
        after = f"{np.median(right):.0f}" if right else ""
        print(f"| {name} | {wanted.value} | {len(runs)} | {len(right)} | {other} | {after} | {said} |", flush=True)
    print(
        f"\nFaults: {faults} recordings, {hits} named right, {noticed} noticed by another name, {faults - hits - noticed} missed."
    )
    print(f"Without a fault: {calm} recordings, {alarms} false alarms.\n")
    record(
        "faults of a camera that are told",
        f"{faults} recordings",
        (hits + noticed) / faults,
        better="higher",
        goal=">= 0.95",
    )
    record("faults of a camera named right", f"{faults} recordings", hits / faults, better="higher", goal=">= 0.9")
    record("false alarms where the camera is fine", f"{calm} recordings", alarms, kind="count", goal="<= 0")
    return watches


def print_quiet(stages: list[Stage], watches: list[CameraWatch], hours: float) -> None:
    alarms, looks = 0, 0
    for stage, watch in zip(stages, watches, strict=True):
        for now in range(round(3600 * hours / len(stages))):
            before = watch.condition
            gain = 1 + 0.35 * np.sin(now / 200 + stage.x)
            frame = stage.frame(now, stage.busy(now), gain=gain, quality=80, bands=0.1)
            alarms += watch.look(frame, float(now)) is not before and watch.condition.wrong
            looks += 1
    print(f"{looks} s of quiet recordings: {alarms} false alarms, {3600 * alarms / looks:.2f} an hour.")
    record(
        "false alarms an hour, quiet recordings", f"{hours:g} hours", 3600 * alarms / looks, kind="count", goal="<= 0"
    )


def codec_of(stage: Stage) -> str:
    return ("jpeg", "h264")[stage.x % 2]


def main(imagenet: Path, cats_dogs: Path, count: int, hours: float) -> None:
    paths = sorted(cats_dogs.glob("val/*/*.jpg"))
    pasted = Animals(paths[:: max(1, len(paths) // 40)])
    stages = [Stage(Camera(place, seed=x), pasted, x) for x, place in enumerate(places(imagenet, count))]
    watches = print_kinds(stages)
    print_quiet(stages, watches, hours)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("imagenet", type=Path)
    parser.add_argument("cats_dogs", type=Path)
    parser.add_argument("--places", type=int, default=5)
    parser.add_argument("--hours", type=float, default=0.5, help="Of quiet recordings.")
    given = parser.parse_args()
    main(given.imagenet, given.cats_dogs, given.places, given.hours)
