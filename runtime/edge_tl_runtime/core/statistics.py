"""Confidence intervals of rates, and comparisons of pairs. NumPy only, so the device prints them too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from edge_tl_runtime.core.documents import RateDocument

Z95 = 1.959963984540054
SIGNIFICANT = 0.05


def wilson(successes: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Score interval of a binomial rate (Wilson 1927). Returns (low, high) within [0, 1]; (0, 1) when n is 0.

    Fractions are effective counts, of items that depend on each other.
    """
    if n == 0:
        return 0.0, 1.0
    rate = successes / n
    centre = rate + z * z / (2 * n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if successes == n else min(1.0, (centre + half) / scale)
    return low, high


def mean_of_rates(
    successes: NDArray[np.int64] | NDArray[np.float64],
    sizes: NDArray[np.int64] | NDArray[np.float64],
    z: float = Z95,
) -> tuple[float, float, float]:
    """The mean of independent rates, and its interval: (mean, low, high), within [0, 1].

    The rates' own score intervals are combined as variances are (Zou and Donner 2008, "MOVER"), so that rates of 0 and 1, and
    groups of a few items, keep a width. successes, sizes: (G,), sizes above 0; sizes may be effective ones.
    (0, 0, 1) when there is no group.
    """
    if len(sizes) == 0:
        return 0.0, 0.0, 1.0
    rates = np.asarray(successes, np.float64) / sizes
    bounds = np.asarray([wilson(s, n, z) for s, n in zip(successes, sizes, strict=True)])
    mean = float(rates.mean())
    below, above = (math.sqrt(float(((rates - bound) ** 2).sum())) / len(rates) for bound in bounds.T)
    return mean, max(0.0, mean - below), min(1.0, mean + above)


def rate(count: int, n: int, *, bound: bool | None = None) -> RateDocument:
    """A share as documents hold it, with its Wilson interval; the rate is None when n is 0. bound: whether the rate is only a
    bound (an attack was cut short); None leaves that out."""
    low, high = wilson(count, n)
    share: RateDocument = {"rate": None if not n else count / n, "count": count, "n": n, "ci95": [low, high]}
    return share if bound is None else {**share, "bound": bound}


def group_dependence(values: NDArray[Any], groups: Sequence[str]) -> float:
    """How many photos count as one because photos of one origin (a burst, a video) are right or wrong together; 1 or more.

    values: (N,), bool, or -1, 0 and 1 for who is right of two. groups: of each photo its origin, "" for one that stands alone;
    () where nothing is known. The design effect of cluster sampling with the correction for few clusters of Korn and Graubard
    1998 (Survey Methodology 24:2): the variance of the mean between origins over that of independent photos. Where all photos are
    alike nothing can be estimated, and those of an origin are taken to agree.
    """
    if not len(values) or len(set(groups) - {""}) == len(groups) - list(groups).count(""):
        return 1.0
    alone = (f"\0{place}" for place in range(len(groups)))
    _, places = np.unique([group or own for group, own in zip(groups, alone, strict=True)], return_inverse=True)
    sizes = np.bincount(places).astype(np.float64)
    sums = np.bincount(places, weights=values)
    n, count, mean = len(values), len(sizes), float(np.mean(values))
    alone_variance = float(np.var(np.asarray(values, np.float64))) / n
    together = float((sizes**2).sum() / n)
    if count < 2 or alone_variance == 0:
        return together
    between = count / (count - 1) * float(((sums - mean * sizes) ** 2).sum()) / n**2
    effect = max(1.0, between / alone_variance)
    return effect * (_t95(count - 1) / Z95) ** 2


def _t95(freedom: int) -> float:
    """The two-sided 95 % point of Student's t; from 5 degrees of freedom on by the expansion about the normal one, to 4e-3."""
    exact = (12.7062, 4.3027, 3.1824, 2.7764)
    if freedom <= len(exact):
        return exact[freedom - 1]
    z = Z95
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def discordant(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[int, int]:
    """For how many items only the first is true, and for how many only the second. Both bool (N,), of the same items."""
    return int((first & ~second).sum()), int((second & ~first).sum())


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p value of a paired difference (McNemar 1947): photos that only one of two classifiers gets right.

    The chance, were both equally good, of a split at least as uneven. 1.0 when they never disagree.
    """
    n = only_first + only_second
    tail = sum(math.comb(n, k) for k in range(min(only_first, only_second) + 1))
    return float(min(1.0, 2 * tail / 2**n))


def significantly_more(gained: int, lost: int) -> bool:
    """Whether one of two wins more often on the same items, by more than chance (McNemar). gained, lost: as `discordant`."""
    return gained > lost and mcnemar(gained, lost) < SIGNIFICANT


def paired_interval(only_first: float, only_second: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Interval of the difference of two rates on the same n items (Bonett and Price 2012): first minus second, in [-1, 1].

    only_first, only_second: items that only one of the two got right, or how many are expected. (-1, 1) when n is 0.
    """
    if n == 0:
        return -1.0, 1.0
    first, second = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    half = z * math.sqrt((first + second - (first - second) ** 2) / (n + 2))
    return max(-1.0, first - second - half), min(1.0, first - second + half)
