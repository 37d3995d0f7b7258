"""Intervals, against SciPy."""

import pytest
from scipy.stats import binomtest

from edge_tl_runtime.core.statistics import wilson


@pytest.mark.parametrize("n", [1, 2, 10, 153, 1000])
def test_wilson_equals_scipy(n):
    for successes in {0, 1, n // 3, n // 2, n - 1, n}:
        expected = binomtest(successes, n).proportion_ci(method="wilson")
        assert wilson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_trials_say_nothing():
    assert wilson(0, 0) == (0.0, 1.0)
