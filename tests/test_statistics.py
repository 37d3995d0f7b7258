"""Intervals, against SciPy."""

import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import t as student

from edge_tl_runtime.core.statistics import _t95, group_dependence, wilson
from edge_tl_runtime.evaluation.accuracy_claim import AccuracyClaim
from edge_tl_runtime.evaluation.evaluate import score


@pytest.mark.parametrize("n", [1, 2, 10, 153, 1000])
def test_wilson_equals_scipy(n):
    for successes in {0, 1, n // 3, n // 2, n - 1, n}:
        expected = binomtest(successes, n).proportion_ci(method="wilson")
        assert wilson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_trials_say_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


def _bursts(
    rng: np.random.Generator, bursts: int, frames: int, rate: float, alike: float
) -> tuple[np.ndarray, list[str]]:
    """Which photos are right, and their bursts. alike: correlation of two frames of a burst (beta-binomial)."""
    sizes = 1 + rng.poisson(frames - 1, bursts)
    if alike == 0:
        rates = np.full(bursts, rate)
    elif alike == 1:
        rates = (rng.random(bursts) < rate).astype(float)
    else:
        rates = rng.beta(rate * (1 / alike - 1), (1 - rate) * (1 / alike - 1), bursts)
    right = np.concatenate([rng.random(size) < share for size, share in zip(sizes, rates, strict=True)])
    return right, [str(burst) for burst, size in enumerate(sizes) for _ in range(size)]


@pytest.mark.parametrize("alike", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("rate", [0.7, 0.9])
@pytest.mark.parametrize(("bursts", "frames"), [(5, 8), (20, 6), (100, 4)])
def test_the_interval_over_groups_holds_the_true_rate_as_often_as_it_says(bursts, frames, rate, alike):
    """Photo by photo it held it in 27 to 85 % of the draws where frames of a burst are alike."""
    rng = np.random.default_rng(7)
    held = []
    for _ in range(400):
        right, groups = _bursts(rng, bursts, frames, rate, alike)
        dependence = group_dependence(right, groups)
        low, high = wilson(right.sum() / dependence, len(right) / dependence)
        held.append(low - 1e-9 <= rate <= high + 1e-9)
    assert np.mean(held) > 0.915


def test_the_cost_is_small_where_frames_are_not_alike():
    rng = np.random.default_rng(3)
    found = [group_dependence(*_bursts(rng, 100, 4, 0.8, 0.0)) for _ in range(100)]
    assert 1 <= np.median(found) < 1.15


def test_photos_that_stand_alone_count_one_by_one():
    right = np.arange(9) % 2 == 0
    assert group_dependence(right, ()) == 1
    assert group_dependence(right, [""] * 9) == 1
    assert group_dependence(right, list("abcdefghi")) == 1
    assert group_dependence(np.zeros(0, bool), ()) == 1


def test_where_all_are_right_a_burst_counts_once():
    assert group_dependence(np.ones(12, bool), list("aaabbbcccddd")) == 3
    assert group_dependence(np.ones(12, bool), ["a"] * 12) == 12


def test_bursts_that_agree_count_once_but_for_the_correction_of_few():
    """Four bursts of equal size, three right: the variance between them is that of four photos, n - 1 below."""
    right = np.repeat([True, True, True, False], 5)
    expected = 5 * (4 / 3) * (student.ppf(0.975, 3) / 1.959963984540054) ** 2
    assert group_dependence(right, [g for g in "abcd" for _ in range(5)]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("freedom", [1, 2, 4, 5, 9, 30, 1000])
def test_the_point_of_student_equals_scipy(freedom):
    assert _t95(freedom) == pytest.approx(student.ppf(0.975, freedom), abs=4e-3)


def test_an_evaluation_says_how_much_grouped_photos_say():
    logits = np.eye(2, dtype=np.float32)[[0, 0, 0, 1, 1, 1, 0, 0]]
    targets = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    plain, grouped = (score(logits, targets, ("a", "b"), "", groups=groups) for groups in ((), list("aaabbbcc")))
    assert plain.effective_n == plain.n == grouped.n == 8
    assert "of different origins" not in plain.describe()
    assert f"which say as much as {grouped.effective_n:.0f} of different origins" in grouped.describe()
    assert grouped.ci95[0] < plain.ci95[0] <= plain.top1 == grouped.top1 <= plain.ci95[1] < grouped.ci95[1]
    assert grouped.balanced_ci95[0] < plain.balanced_ci95[0]
    assert grouped.to_dict()["effective_n"] == pytest.approx(grouped.effective_n, abs=4e-3)


def test_a_claim_about_grouped_photos_needs_more_of_them():
    plain, grouped = (AccuracyClaim(2, 1, 2000, 0.01, dependence) for dependence in (1.0, 8.0))
    assert plain.claim == "kept"
    assert grouped.claim == "undecided"
    assert "2,000 photos, which say as much as 250 of different origins, cannot tell" in grouped.words
    assert grouped.interval == AccuracyClaim(0.25, 0.125, 250, 0.01).interval
