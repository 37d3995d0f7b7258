"""How often drift is said by mistake, and how soon a real change is said: simulated years of a camera, from real features.

    python benchmarks/studies/drift_years.py MODEL KNOWN OTHER [--without 151-293] [--years 300]

MODEL: an ONNX file with features. KNOWN: labelled photos of its classes, of which the validation part is used. OTHER: a folder of
photos of anything else; `--without` leaves out those whose names begin with these numbers. Each photo goes through the file as it
is, in little light (the night), and after each change of the lens. Years are made of what the file says of them: visitors by day
and by night, more on some days than on others and often the same one again and again; each site has regular visitors of its own
and a share of strangers. What a day gives is what `DayCounts` counts of it.

Worlds. steady: days are drawn alike. weekly: two days of seven have three times the strangers and half as many visitors again.
weather: the share of strangers follows the day before with this correlation. False alarms: of all things watched together, after
the days of learning; each site is watched until its first, and alarms are divided by the years that were watched. Changes begin
in the fifth week and in the fifteenth, in the weekly world with weather of 0.3. All sites are computed at once; one of each world
is run through the product's own code, which must say the same on the same day.

The peers, ADWIN and Page-Hinkley of river with their own settings, get the same events one by one: unknown or not.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
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
from edge_tl_runtime.scene.drift_changes import HOLD, LEARN, VALUES, Watched
from edge_tl_runtime.scene.events import DayCounts, Look, means_of
from edge_tl_runtime.scene.martingale import bets, dependence, parse_false_alarms

Array = NDArray[np.float64]
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
PEER_SITES = 20


@dataclass(frozen=True)
class Looks:
    """What the file says of photos. label: (N,), -1 for unknown; means: (N, D), what days average."""

    label: NDArray[np.int64]
    means: Array


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


@dataclass(frozen=True)
class Days:
    """What the days of S sites gave: events and unknown, (S, T); labels, (S, T, C); sums of means, (S, T, D)."""

    events: NDArray[np.int64]
    unknown: NDArray[np.int64]
    labels: NDArray[np.int64]
    means: Array

    @classmethod
    def empty(cls, sites: int, count: int, labels: int, means: int) -> Days:
        counts = [np.zeros((sites, count, *more), np.int64) for more in ((), (), (labels,))]
        return cls(*counts, np.zeros((sites, count, means)))

    def add(self, day: int, labels: NDArray[np.int64], means: Array, times: NDArray[np.int64]) -> None:
        """As `DayCounts.add` for each event. labels, times: (S, P); means: (S, P, D)."""
        self.events[:, day] += times.sum(1)
        self.unknown[:, day] += (times * (labels < 0)).sum(1)
        for label in range(self.labels.shape[2]):
            self.labels[:, day, label] += (times * (labels == label)).sum(1)
        self.means[:, day] += np.einsum("sp,spd->sd", times, means)

    def block(self, site: int, day: int) -> DayCounts:
        events, unknown = int(self.events[site, day]), int(self.unknown[site, day])
        labels, means = self.labels[site, day].tolist(), self.means[site, day].tolist()
        return DayCounts(day * DAY, 0.0, labels, means, DAY, events, unknown)


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


def simulated(pool: Pool, world: World, sites: int, count: int, seed: int, change: str = "", at: int = 0) -> Days:
    """`count` days of each site. change: what happens on day `at`; "": nothing."""
    rng = np.random.default_rng(seed)
    known, other = pool["clear", False]
    # Who comes to a site at all, and how often: (sites, REGULARS + STRANGERS).
    people = np.concatenate(
        [
            [rng.choice(len(known.label), REGULARS, False) for _ in range(sites)],
            len(known.label) + np.array([rng.choice(len(other.label), STRANGERS, False) for _ in range(sites)]),
        ],
        axis=1,
    )
    often = np.concatenate([rng.dirichlet(np.full(n, 0.7), sites) for n in (REGULARS, STRANGERS)], axis=1)
    first, weather = rng.integers(7, size=sites), rng.standard_normal(sites)
    found = Days.empty(sites, count, int(known.label.max()) + 1, known.means.shape[1])
    for day in range(count):
        weather = world.weather * weather + np.sqrt(1 - world.weather**2) * rng.standard_normal(sites)
        busy = ((day + first) % 7 >= 5) & world.week
        strange = np.minimum(0.8, STRANGE * np.exp(0.4 * weather) * np.where(busy, 3, 1))
        changed = change if day >= at else ""
        if changed.endswith("of events"):
            strange += (1 - strange) * float(changed.split()[0]) / 100
        visits = np.maximum(20, rng.poisson(EVENTS * np.where(busy, 1.5, 1) * rng.gamma(16, size=sites) / 16))
        parts = rng.multinomial(visits, [NIGHT, 1 - NIGHT])
        came = often * rng.gamma(1.0, size=often.shape)  # who comes today comes again and again
        if changed == "a class is gone":
            came[:, :REGULARS] *= known.label[people[:, :REGULARS]] != 0
        lens = changed if changed in LENSES else "clear"
        for events, night in zip(parts.T, (True, False), strict=True):
            share = np.minimum(0.9, strange * (2 if night else 1))[:, None]
            chance = came.copy()
            chance[:, :REGULARS] *= (1 - share) / chance[:, :REGULARS].sum(1, keepdims=True)
            chance[:, REGULARS:] *= share / chance[:, REGULARS:].sum(1, keepdims=True)
            times = rng.multinomial(events, chance / chance.sum(1, keepdims=True))
            both = pool[lens, night]
            labels, means = (
                np.concatenate([getattr(looks, name) for looks in both])[people] for name in ("label", "means")
            )
            found.add(day, labels, means, times)
    return found


def p_values(scores: Array, ties: Array) -> Array:
    """`conformal_p` of the last of each row, (S, N + 1) to (S,)."""
    newest = scores[:, -1:]
    higher, equal = (scores[:, :-1] > newest).sum(1), (scores[:, :-1] == newest).sum(1)
    return np.asarray((higher + (1 - ties) * (equal + 1)) / scores.shape[1])


def all_scores(found: Days, name: str, low: int, high: int) -> Array:
    """`Watched.scores` of days low to high - 1 of all sites, (S, high - low)."""
    if name == "unknown":
        return found.unknown[:, low:high] / found.events[:, low:high]
    if name == "labels":
        counts = found.labels[:, low:high] + 0.5
        values = np.sqrt(counts / counts.sum(2, keepdims=True))
    else:
        values = found.means[:, low:high] / found.events[:, low:high, None]
        values = (values - values.mean(1, keepdims=True)) / values.std(1, keepdims=True)
    return np.asarray(np.linalg.norm(values - values.mean(1, keepdims=True), axis=2))


def first_said(found: Days, rate: str, seed: int) -> dict[str, NDArray[np.int64]]:
    """The day on which each thing is first said to have changed, (S,); the number of days where it is not. `Watched.close` for
    all sites at once, up to there."""
    sites, count = found.events.shape
    limit = parse_false_alarms(rate) / DAY * len(VALUES)
    ties = np.random.default_rng(seed).random((len(VALUES), count, sites))
    said = {name: np.full(sites, count) for name in VALUES}
    for number, name in enumerate(VALUES):
        stakes = np.zeros((sites, len(bets(0.5, name == "unknown"))))
        for day in range(LEARN, count):
            low = max(0, day - MOST_DAYS)
            scores = all_scores(found, name, low, day + 1)
            before = scores[:, : max(LEARN, day - low - HOLD)]
            depends = np.array([dependence(row) for row in before])
            p = p_values(scores, ties[number, day])
            won = np.array([bets(float(value), name == "unknown") for value in p])
            stakes = (1 + stakes) * won ** ((1 - depends) / (1 + depends))[:, None]
            reached = (stakes.mean(1) >= limit) & (said[name] == count)
            said[name][reached] = day
    return said


def require_same(found: Days, rate: str, seed: int, said: dict[str, NDArray[np.int64]], site: int) -> None:
    """The product's own code on one site. Raises AssertionError where it says something on another day."""
    count = found.events.shape[1]
    ties = np.random.default_rng(seed).random((len(VALUES), count, found.events.shape[0]))
    for number, name in enumerate(VALUES):
        watched = Watched.of(name, parse_false_alarms(rate) / DAY * len(VALUES))
        blocks: list[DayCounts] = []
        day = 0
        for day in range(count):
            block = found.block(site, day)
            if watched.close(blocks, block, float(ties[number, day, site])):
                break
            blocks = [*blocks, block][-MOST_DAYS:]
        else:
            day = count
        assert day == said[name][site], f"{name}: day {day}, here {said[name][site]}"


def peer_alarms(peer: Any, found: Days, at: int, site: int, seed: int) -> tuple[int, int | None]:
    """Alarms of a detector of river in the days before `at`, and days until one after it."""
    detector, early, rng = peer(), 0, np.random.default_rng(seed)
    for day in range(found.events.shape[1]):
        for value in rng.permutation(np.arange(found.events[site, day]) < found.unknown[site, day]):
            detector.update(int(value))
            if detector.drift_detected:
                if day >= at:
                    return early, day - at + 1
                early += day >= LEARN
    return early, None


def shown(found: Sequence[int | None]) -> str:
    """Median and 90th percentile of days; those that were not said count as longer than any."""
    values = sorted(value if value is not None else 10**6 for value in found)
    cells = (values[int(share * (len(values) - 1))] for share in (0.5, 0.9))
    return ", ".join(f"over {PATIENCE}" if value > PATIENCE else str(value) for value in cells)


def report_alarms(pool: Pool, rate: str, sites: int) -> None:
    print(f"False alarms a year, {sites} sites for a year after learning, each until its first; asked for {rate}\n")
    print("| world | a year, all together | " + " | ".join(VALUES) + " | sites without one |")
    print("|---|---|" + "---|" * (len(VALUES) + 1))
    for number, world in enumerate(WORLDS):
        found = simulated(pool, world, sites, LEARN + YEAR, number)
        said = first_said(found, rate, number)
        require_same(found, rate, number, said, int(np.argmin(np.min(list(said.values()), axis=0))))
        days = np.min(list(said.values()), axis=0)
        years = float((days - LEARN).sum()) / YEAR
        count = int((days < LEARN + YEAR).sum())
        low, high = poisson(count)
        each = " | ".join(f"{((said[name] == days) & (days < LEARN + YEAR)).sum() / years:.2f}" for name in VALUES)
        quiet = rate_of(sites - count, sites)
        print(
            f"| {world.name} | {count / years:.2f} ({low / years:.2f} to {high / years:.2f}) | {each} | {quiet} |",
            flush=True,
        )
        what, note = f"False alarms of drift a year, {world.name}", f"95 % interval, {years:.0f} years"
        goal = "<= 1" if world.weather < 0.5 else ""
        record(what, f"{rate} asked for", count / years, low=low / years, high=high / years, goal=goal, note=note)


def poisson(count: int) -> tuple[float, float]:
    """95 % interval of a Poisson mean, by Byar's approximation."""
    low = count * (1 - 1 / (9 * count) - 1.96 / (3 * count**0.5)) ** 3 if count else 0.0
    more = count + 1
    return low, more * (1 - 1 / (9 * more) + 1.96 / (3 * more**0.5)) ** 3


def rate_of(count: int, n: int) -> str:
    low, high = wilson(count, n)
    return f"{100 * count / n:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def report_delays(pool: Pool, rate: str, sites: int) -> None:
    world = WORLDS[3]
    print(f"\nDays until a change is said, {world.name}: median, 90th percentile of {sites} sites\n")
    print("| change | in week 5 | in week 15 |\n|---|---|---|")
    for change in CHANGES:
        cells = []
        for at in AT:
            found = simulated(pool, world, sites, at + PATIENCE, at, change, at)
            day = np.min(list(first_said(found, rate, at).values()), axis=0)
            told = [int(x) - at + 1 if x < at + PATIENCE else None for x in day[day >= at]]
            cells.append(shown(told))
        print(f"| {change} | {' | '.join(cells)} |", flush=True)


def report_peers(pool: Pool) -> None:
    try:
        from river.drift import ADWIN, PageHinkley
    except ImportError as error:
        print(f"\nriver is left out: {error}")
        return
    print(f"\nriver, own settings, unknown or not, event by event; {PEER_SITES} sites\n")
    print("| detector | alarms a year without a change: steady | " + WORLDS[3].name + " | days until 30 % is said |")
    print("|---|---|---|---|")
    at = AT[1]
    for peer in (ADWIN, PageHinkley):
        cells, after = [], []
        for world in (WORLDS[0], WORLDS[3]):
            found = simulated(pool, world, PEER_SITES, at + PATIENCE, 7, CHANGES[1], at)
            alarms = [peer_alarms(peer, found, at, site, site) for site in range(PEER_SITES)]
            cells.append(f"{np.mean([early for early, _ in alarms]) * YEAR / (at - LEARN):.1f}")
            after = [days for _, days in alarms]
        print(f"| {peer.__name__} | {' | '.join(cells)} | {shown(after)} |", flush=True)


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
    parser.add_argument("--years", type=int, default=300)
    parser.add_argument("--sites", type=int, default=60)
    parser.add_argument("--false-alarms", default="1/year")
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
    report_alarms(pool, options.false_alarms, options.years)
    report_delays(pool, options.false_alarms, options.sites)
    report_peers(pool)


if __name__ == "__main__":
    main()
