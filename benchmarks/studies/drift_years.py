"""How often drift is said by mistake, and how soon a real change is said: simulated years of a camera, from real features.

    python benchmarks/studies/drift_years.py MODEL KNOWN OTHER [--without 151-293] [--years 200] [--processes 1]

MODEL: an ONNX file with features. KNOWN: labelled photos of its classes, of which the validation part is used. OTHER: a folder of
photos of anything else; `--without` leaves out those whose names begin with these numbers. Each photo goes through the file as it
is, in little light (the night), and after each change of the lens. Years are made of what the file says of them: visitors by day
and by night, more on some days than on others and often the same one again and again; each site has regular visitors of its own
and a share of strangers. What a day gives is what `Block` counts of it.

Worlds. steady: days are drawn alike. weekly: two days of seven have three times the strangers and half as many visitors again.
weather: the share of strangers follows the day before with this correlation. False alarms: of all things watched together, after
the days of learning. Changes begin in the fifth week and in the fifteenth, in the weekly world with weather of 0.3.

The peers, ADWIN and Page-Hinkley of river with their own settings, get the same events one by one: unknown or not.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import _shared  # noqa: F401
import numpy as np
from numpy.typing import NDArray
from ratios import record
from unknown import numbers

from edge_tl_runtime.core.statistics import wilson
from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.images.datasets.dataset import load_labelled, load_unlabelled
from edge_tl_runtime.images.decode import Frame, read_photo
from edge_tl_runtime.inference.classifier import Classifier, SessionSettings
from edge_tl_runtime.robustness.corruptions import corrupt
from edge_tl_runtime.scene.drift import MOST_DAYS
from edge_tl_runtime.scene.drift_changes import LEARN, VALUES, Watched
from edge_tl_runtime.scene.events import Block, Look, means_of
from edge_tl_runtime.scene.martingale import parse_false_alarms

Array = NDArray[np.float64]
Day = tuple[Block, NDArray[np.bool_]]
"""What was counted, and which events were unknown, in their order."""
DAY = 86400.0
YEAR = 365
REGULARS, STRANGERS = 40, 60
EVENTS = 180
"""Of a day, on average."""
STRANGE = 0.04
NIGHT = 0.15
"""Of events."""
LENSES = {
    "clear": ("", 0),
    "lens, slightly": ("defocus_blur", 1),
    "lens, strongly": ("defocus_blur", 4),
    "dimmer": ("low_light", 2),
}
CHANGES = ("10 % of events", "30 % of events", "60 % of events", "a class is gone", *list(LENSES)[1:])
AT = (4 * 7 + 3, 14 * 7 + 3)
PATIENCE = 45
PEER_YEARS = 20


@dataclass(frozen=True)
class Looks:
    """What the file says of photos. label: (N,), -1 for unknown; means: (N, D), what days average."""

    label: NDArray[np.int64]
    means: Array

    def of(self, places: NDArray[np.int64]) -> Looks:
        return Looks(self.label[places], self.means[places])


@dataclass(frozen=True)
class World:
    name: str
    week: bool = False
    weather: float = 0.0


WORLDS = (
    World("steady"),
    World("weekly", week=True),
    World("weather 0.3", weather=0.3),
    World("weekly, weather 0.3", week=True, weather=0.3),
    World("weather 0.6", weather=0.6),
)
Pool = dict[tuple[str, bool], tuple[Looks, Looks]]
"""By lens and whether it is night: photos of the classes, and of anything else."""


def looked(classifier: Classifier, photos: Sequence[Frame], lens: str, night: bool) -> Looks:
    detector = classifier.detector
    assert detector is not None
    assert detector.distance is not None
    known = classifier.is_known(classifier.keep(None))
    labels, means = [], []
    for number, photo in enumerate(photos):
        name, severity = LENSES[lens]
        frame = corrupt(photo, name, severity, str(number)) if name else photo
        frame = corrupt(frame, "low_light", 1, str(number)) if night else frame
        logits = classifier.frame_logits(frame)
        labels.append(int(np.argmax(logits)) if known(classifier.evidence) else -1)
        row = classifier.evidence[None]
        look = Look(0.0, labels[-1], detector.distance.places(row)[0], float(detector.scores(row)[0]))
        means.append(means_of(look))
    return Looks(np.array(labels), np.array(means))


def days(pool: Pool, world: World, seed: int, change: str = "", at: int = 0) -> Iterator[Day]:
    """One site, day after day. change: what happens on day `at`; "": nothing."""
    rng = np.random.default_rng(seed)
    known, other = pool["clear", False]
    regulars, strangers = rng.choice(len(known.label), REGULARS, False), rng.choice(len(other.label), STRANGERS, False)
    often = np.concatenate([rng.dirichlet(np.full(count, 0.7)) for count in (REGULARS, STRANGERS)])
    first, weather = int(rng.integers(7)), rng.standard_normal()
    for day in range(10**9):
        weather = world.weather * weather + np.sqrt(1 - world.weather**2) * rng.standard_normal()
        busy = world.week and (day + first) % 7 >= 5
        strange = min(0.8, STRANGE * np.exp(0.4 * weather) * (3 if busy else 1))
        lens = change if change in LENSES and day >= at else "clear"
        if change.endswith("of events") and day >= at:
            strange += (1 - strange) * float(change.split()[0]) / 100
        count = rng.poisson(EVENTS * (1.5 if busy else 1) * rng.gamma(16) / 16)
        parts = rng.multinomial(max(20, count), [NIGHT / 3, 1 - NIGHT, NIGHT * 2 / 3])
        came = often * rng.gamma(1.0, size=len(often))  # who comes today comes again and again
        block, unknown = Block(day * DAY, 0.0, [0] * (int(known.label.max()) + 1)), []
        for events, night in zip(parts, (True, False, True), strict=True):
            here = [looks.of(places) for looks, places in zip(pool[lens, night], (regulars, strangers), strict=True)]
            labels, means = (np.concatenate([getattr(looks, name) for looks in here]) for name in ("label", "means"))
            chance = came.copy()
            if change == "a class is gone" and day >= at:
                chance[:REGULARS][known.label[regulars] == 0] = 0
            share = min(0.9, strange * (2 if night else 1))
            chance[:REGULARS] *= (1 - share) / chance[:REGULARS].sum()
            chance[REGULARS:] *= share / chance[REGULARS:].sum()
            times = rng.multinomial(events, chance / chance.sum())
            add(block, labels, means, times)
            order = rng.permutation(len(times))  # one visitor after the other
            unknown.append(np.repeat(labels[order] < 0, times[order]))
        block.means = [round(value, 6) for value in block.means]
        yield block, np.concatenate(unknown)


def add(block: Block, labels: NDArray[np.int64], means: Array, times: NDArray[np.int64]) -> None:
    """As `Block.add` for each event, `times` of each photo."""
    block.events += int(times.sum())
    block.unknown += int(times[labels < 0].sum())
    block.labels = [count + int(times[labels == label].sum()) for label, count in enumerate(block.labels)]
    total = times @ means
    block.means = (total + block.means if block.means else total).tolist()


class Watch:
    """The product's test over the days of one site, as `Drift` runs it."""

    def __init__(self, rate: str, seed: int) -> None:
        limit = parse_false_alarms(rate) / DAY * len(VALUES)
        self.watched = [Watched.of(name, limit) for name in VALUES]
        self.blocks: list[Block] = []
        self.rng = np.random.default_rng(seed)

    def update(self, block: Block) -> list[str]:
        """Names of what has changed today."""
        said = [
            watched.name
            for watched in self.watched
            if watched.close(self.blocks, block, float(self.rng.random())) and watched.since is not None
        ]
        self.blocks = [*self.blocks, block][-MOST_DAYS:]
        return said


def false_alarms(pool: Pool, world: World, rate: str, seed: int) -> dict[str, int]:
    """Of one year after learning, by what is watched."""
    watch, said = Watch(rate, seed), []
    for block, _ in islice(days(pool, world, seed), LEARN + YEAR):
        said += watch.update(block)
    return {name: said.count(name) for name in VALUES}


def delay(pool: Pool, world: World, rate: str, change: str, at: int, seed: int) -> int | None:
    """Days until the change is said, 1 on the first; None: not in PATIENCE days."""
    watch = Watch(rate, seed)
    for number, (block, _) in enumerate(islice(days(pool, world, seed, change, at), at + PATIENCE)):
        if watch.update(block) and number >= at:
            return number - at + 1
        if number == at - 1 and any(watched.since is not None for watched in watch.watched):
            watch = Watch(rate, seed)  # a false alarm stands: this site tells nothing
            return None
    return None


def peer_alarms(peer: Any, pool: Pool, world: World, change: str, at: int, seed: int) -> tuple[int, int | None]:
    """Alarms of a detector of river in the days before `at`, and days until one after it."""
    detector, early = peer(), 0
    for number, (_, unknown) in enumerate(islice(days(pool, world, seed, change, at), at + PATIENCE)):
        for value in unknown:
            detector.update(int(value))
            if detector.drift_detected:
                if number >= at:
                    return early, number - at + 1
                early += number >= LEARN
    return early, None


def shown(found: Sequence[int | None]) -> str:
    """Median and 90th percentile of days; those that were not said count as longer than any."""
    values = sorted(value if value is not None else 10**6 for value in found)
    cells = (values[int(share * (len(values) - 1))] for share in (0.5, 0.9))
    return ", ".join(f"over {PATIENCE}" if value > PATIENCE else str(value) for value in cells)


def per_year(counts: Sequence[int]) -> tuple[float, float, float]:
    """Mean, and its 95 % interval by Student's t, for counts of alarms that differ more than Poisson's would."""
    values = np.asarray(counts, np.float64)
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), max(0.0, float(values.mean() - half)), float(values.mean() + half)


def report_alarms(pool: Pool, rate: str, years: int, run: Any) -> None:
    print(f"False alarms a year, {years} years in each world, asked for {rate}\n")
    print("| world | all together | " + " | ".join(VALUES) + " | years without one |")
    print("|---|---|" + "---|" * (len(VALUES) + 1))
    for world in WORLDS:
        found = list(run(partial(false_alarms, pool, world, rate), range(years)))
        mean, low, high = per_year([sum(one.values()) for one in found])
        each = " | ".join(f"{np.mean([one[name] for one in found]):.2f}" for name in VALUES)
        quiet = sum(not any(one.values()) for one in found)
        bounds = wilson(quiet, years)
        print(
            f"| {world.name} | {mean:.2f} ({low:.2f} to {high:.2f}) | {each} | {100 * quiet / years:.0f} % "
            f"({100 * bounds[0]:.0f} to {100 * bounds[1]:.0f}) |",
            flush=True,
        )
        what = f"False alarms of drift a year, {world.name}"
        goal = "<= 1" if world.weather < 0.5 else ""
        record(what, f"the rate asked for, {rate}", mean, low=low, high=high, goal=goal, note="95 % interval")


def report_delays(pool: Pool, rate: str, sites: int, run: Any) -> None:
    world = WORLDS[3]
    print(f"\nDays until a change is said: median, 90th percentile of {sites} sites\n")
    print("| change | in week 5 | in week 15 |\n|---|---|---|")
    for change in CHANGES:
        cells = []
        for at in AT:
            found = list(run(partial(delay, pool, world, rate, change, at), range(10_000, 10_000 + sites)))
            cells.append(shown(found))
        print(f"| {change} | {' | '.join(cells)} |", flush=True)


def report_peers(pool: Pool) -> None:
    try:
        from river.drift import ADWIN, PageHinkley
    except ImportError as error:
        print(f"\nriver is left out: {error}")
        return
    print(f"\nriver, own settings, the same events one by one; {PEER_YEARS} sites\n")
    print("| detector | alarms a year without a change: steady | " + WORLDS[3].name + " | days until 30 % is said |")
    print("|---|---|---|---|")
    for peer in (ADWIN, PageHinkley):
        cells = []
        for world in (WORLDS[0], WORLDS[3]):
            found = [
                peer_alarms(peer, pool, world, CHANGES[1], AT[1], seed) for seed in range(20_000, 20_000 + PEER_YEARS)
            ]
            cells.append(f"{np.mean([early for early, _ in found]) * YEAR / (AT[1] - LEARN):.1f}")
        print(f"| {peer.__name__} | {' | '.join(cells)} | {shown([after for _, after in found])} |", flush=True)


def read(classifier: Classifier, folder: Path, without: set[int], part: str) -> list[Frame]:
    spec = classifier.spec
    if part:
        fraction, seed = spec.training.get("val_fraction"), spec.training.get("seed", 0)
        paths = list(load_labelled(folder, spec.labels, part, val_fraction=fraction, seed=seed).paths)
    else:
        left_out = {f"{number:04d}" for number in without}
        paths = [path for path in load_unlabelled(folder).paths if path.name.partition("_")[0] not in left_out][::3]
    return [crop_resize(read_photo(path), spec.resize) for path in paths]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("known", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--without", type=numbers, default=set(), metavar="NUMBERS")
    parser.add_argument("--years", type=int, default=200)
    parser.add_argument("--sites", type=int, default=60)
    parser.add_argument("--false-alarms", default="1/year")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    classifier = Classifier(options.model, SessionSettings(spin=True))
    if classifier.detector is None or not classifier.detector.by_features:
        parser.error(f"{options.model} holds no features; export it again")
    photos = [read(classifier, options.known, set(), "val"), read(classifier, options.other, options.without, "")]
    pool: Pool = {
        (lens, night): (looked(classifier, photos[0], lens, night), looked(classifier, photos[1], lens, night))
        for lens in LENSES
        for night in (False, True)
    }
    print("| photos | called unknown: known photos | other photos |\n|---|---|---|")
    for (lens, night), looks in pool.items():
        shares = " | ".join(f"{100 * np.mean(part.label < 0):.1f} %" for part in looks)
        print(f"| {lens}{', night' if night else ''} | {shares} |")
    print()
    with ProcessPoolExecutor(options.processes) as workers:
        run = partial(workers.map, chunksize=5) if options.processes > 1 else map
        report_alarms(pool, options.false_alarms, options.years, run)
        report_delays(pool, options.false_alarms, options.sites, run)
    report_peers(pool)


if __name__ == "__main__":
    main()
