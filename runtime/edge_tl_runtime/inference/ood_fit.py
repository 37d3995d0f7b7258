"""Fits what tells known pictures from others: the statistics of features, and the thresholds that keep most known photos.

All photos take part in both. Each is scored by statistics that were fitted without it and without the photos of its origin, so
its score is that of a photo not seen before (cross-conformal prediction, Vovk 2015). Of training photos that holds only where the
network was not trained on them; elsewhere the held-out photos alone place the thresholds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.inference import feature_distance
from edge_tl_runtime.inference.feature_distance import FeatureDistance, fit_feature_distance
from edge_tl_runtime.inference.ood import KEEP, KEPT, MIN_PHOTOS, OODDetector, OODThresholds

FOLDS, FEWER_FOLDS = 10, 5
"""Of up to MANY photos, and of more, where a fifth of them is missed little and each fit takes longer."""
MANY = 500
MIDDLE = (0.25, 0.95)
"""Quantiles between which the tail is fitted: the oddest photos have no part in where it goes."""
SPARED, SPARED_OF = 0.01, 300
"""How far below the fraction to keep the fitted tail may fall of the photos themselves: up to so many photos, and of more in
proportion less."""
ENOUGH_BEYOND = 3
"""Photos beyond a place from which on their number bounds the fitted tail: fewer are chance."""
SET_ASIDE = 4.5
"""Spreads of the logarithm of the distance beyond which a photo is no known photo: one of 300,000 would be."""
DIFFERS = 3.0
"""Standard errors of the rank sum beyond which training photos are not like held-out ones."""


@dataclass(frozen=True)
class KnownPhotos:
    """features: (N, D). targets: class of each, (N,). origins: photos with the same text are of one origin; () for none known."""

    features: NDArray[np.floating]
    targets: NDArray[np.integer]
    origins: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class FittedDetector:
    """kept, n: photos that stay known at KEPT, of those that placed the thresholds. pooled: training photos are among these.
    set_aside, unknown: places of held-out photos, the oddest first: those that are too odd to have a part in the thresholds, and
    the others that are called unknown."""

    detector: OODDetector = field(repr=False)
    kept: int
    n: int
    pooled: bool
    set_aside: tuple[int, ...]
    unknown: tuple[int, ...]


def fit_detector(
    training: KnownPhotos, held_out: KnownPhotos, data: str, rank: int, *, frozen: bool
) -> FittedDetector | None:
    """A detector from features of training photos and of photos that trained nothing. None where either are too few.

    The numbers are those that the contract will hold, so that thresholds fit what the device computes. data: where the held-out
    photos come from, in words; rank: directions to keep at most. frozen: the training photos did not change the features, so they
    may place thresholds too; even then they do not where the held-out ones are further away than chance explains.
    """
    if min(len(training), len(held_out)) < MIN_PHOTOS:
        return None
    features = np.concatenate([training.features, held_out.features])
    targets = np.concatenate([training.targets, held_out.targets])
    distance = _as_stored(fit_feature_distance(features, targets, rank))
    if distance is None:
        return None
    found = out_of_fold(features, targets, rank, distance.outside, _origins(training, held_out))
    before, held = found[: len(training)], found[len(training) :]
    pooled = frozen and not _further(held, before)
    placing = found if pooled else held
    doubt = _beyond_doubt(placing)
    placing = placing[placing < doubt]
    if len(placing) < MIN_PHOTOS:
        return None
    thresholds = {keep: _rounded(-tail_bound(placing, keep)) for keep in KEEP}
    least = thresholds[KEPT]
    more = len(placing) - int((held < doubt).sum())
    named = OODThresholds(
        score=feature_distance.NAME,
        thresholds=thresholds,
        n=len(placing),
        data=f"{data} and {more} training photos" if pooled else data,
    )
    oddest = np.argsort(-held)
    return FittedDetector(
        detector=OODDetector(named, distance),
        kept=int((-placing >= least).sum()),
        n=len(placing),
        pooled=pooled,
        set_aside=tuple(int(place) for place in oddest if held[place] >= doubt),
        unknown=tuple(int(place) for place in oddest if -held[place] < least and held[place] < doubt),
    )


def out_of_fold(
    features: NDArray[np.floating],
    targets: NDArray[np.integer],
    rank: int,
    outside: float,
    origins: Sequence[str] = (),
) -> NDArray[np.float64]:
    """Squared distance of each photo from statistics that were fitted without it, float64 (N,); infinite without features.

    outside: that of the fit on all photos. A fit on fewer photos has another, in which distances would have another unit.
    """
    fold = _folds(targets, origins)
    found = np.full(len(features), np.inf)
    for part in np.unique(fold):
        there = fold == part
        fitted = _as_stored(fit_feature_distance(features[~there], targets[~there], rank))
        if fitted is not None:
            found[there] = -replace(fitted, outside=outside).scores(features[there])
    return found


def tail_bound(distances: NDArray[np.float64], keep: float) -> float:
    """The squared distance within which a fraction `keep` of new photos like these is expected.

    distances: (N,), positive, N >= MIN_PHOTOS. Their logarithms are close to normal: a line through their quantiles within MIDDLE
    gives mean and spread, Student's t what N photos leave open of both. Where enough photos lie beyond, the bound is not looser
    than the one that split conformal prediction sets for `keep`, and not tighter than that for a little less.
    """
    logs = np.sort(np.log(np.maximum(distances, 1e-9)))
    mean, spread = _line(logs)
    n = len(logs)
    bound = mean + spread * math.sqrt(1 + 1 / n) * _student(keep, n - 1)
    for spared, nearer in ((0.0, min), (SPARED * min(1, SPARED_OF / n), max)):
        beyond = math.floor((1 - keep + spared) * (n + 1) + 1e-9)
        if beyond >= ENOUGH_BEYOND:
            bound = nearer(bound, float(logs[-beyond]))
    return math.exp(bound) * (1 + 1e-9)


def _line(logs: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and spread of a normal distribution by the quantiles within MIDDLE. logs: sorted."""
    place = (np.arange(len(logs)) + 0.5) / len(logs)
    chosen = (place >= MIDDLE[0]) & (place <= MIDDLE[1])
    normal = np.array([NormalDist().inv_cdf(p) for p in place[chosen]])
    spread, mean = np.polyfit(normal, logs[chosen], 1)
    return float(mean), float(spread)


def _student(share: float, freedom: int) -> float:
    """Quantile of Student's t distribution: Cornish and Fisher's expansion, within 0.001 from 19 degrees of freedom on."""
    z = NormalDist().inv_cdf(share)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _beyond_doubt(distances: NDArray[np.float64]) -> float:
    """The distance from which on a photo is set aside; infinite where too few photos have features."""
    logs = np.sort(np.log(np.maximum(distances[np.isfinite(distances)], 1e-9)))
    if len(logs) < MIN_PHOTOS:
        return math.inf
    mean, spread = _line(logs)
    return math.exp(min(mean + SET_ASIDE * max(spread, 1e-3), 600))


def _further(held: NDArray[np.float64], before: NDArray[np.float64]) -> bool:
    """Whether held-out photos lie further away than training photos do (Mann and Whitney's test)."""
    place = np.concatenate([held, before]).argsort().argsort()[: len(held)]
    m, n = len(held), len(before)
    above = (place.sum() - m * (m - 1) / 2) / (m * n) - 0.5
    return bool(above > DIFFERS * math.sqrt((m + n + 1) / (12 * m * n)))


def _folds(targets: NDArray[np.integer], origins: Sequence[str]) -> NDArray[np.int64]:
    """The fold of each photo: classes are spread over all, an origin lies in one. The same on every machine.

    Of an origin that is half of its class or more the photos count one by one: without it the class would hardly be there.
    """
    count = FOLDS if len(targets) <= MANY else FEWER_FOLDS
    sizes, classes = Counter(origins), Counter(targets.tolist())
    named = [
        origins[place] if origins and 2 * sizes[origins[place]] < classes[target] else f"/{place}"
        for place, target in enumerate(targets.tolist())
    ]
    first = {origin: place for place, origin in reversed(list(enumerate(named)))}
    shuffled = np.random.default_rng(0).permutation(len(targets))
    ordered = sorted(first, key=lambda origin: (targets[first[origin]], shuffled[first[origin]]))
    fold = {origin: place % count for place, origin in enumerate(ordered)}
    return np.array([fold[origin] for origin in named], np.int64)


def _origins(*parts: KnownPhotos) -> list[str]:
    return [
        part.origins[place] if part.origins and part.origins[place] else f"/{number}/{place}"
        for number, part in enumerate(parts)
        for place in range(len(part))
    ]


def _as_stored(fitted: FeatureDistance | None) -> FeatureDistance | None:
    return None if fitted is None else FeatureDistance.from_parameters(fitted.parameters())


def _rounded(score: float) -> float:
    """Down to a millionth, so that a photo at the threshold stays known."""
    return math.floor(score * 1e6) / 1e6 if abs(score) < 1e9 else score
