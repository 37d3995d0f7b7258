"""What is claimed of accuracy is what the interval allows, and the number of photos that would tell does."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tl_runtime.core.statistics import paired_interval
from edge_tl_runtime.evaluation.accuracy_claim import CLAIMS, KEPT, LOWER, TOO_LOW, UNDECIDED, AccuracyClaim, photos_for

COUNTS = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 5000)).map(
    lambda drawn: (drawn[0], drawn[1], sum(drawn) + 1)
)
ALLOWED = st.sampled_from([0.0, 0.002, 0.005, 0.01, 0.05, 1.0])


@pytest.mark.parametrize(
    ("counts", "allowed", "claim", "words"),
    [
        ((0, 0, 16), 0.005, UNDECIDED, "not shown to be worse; 16 photos cannot tell, about 2,500 could"),
        ((0, 0, 600), 0.005, KEPT, "accuracy kept: at most 0.5 points lost (95 %, 600 photos)"),
        ((0, 0, 16), 0.0, UNDECIDED, "not shown to be worse; 16 photos cannot tell, no number of photos could"),
        ((1, 0, 16), 0.005, TOO_LOW, "6.2 points LESS ACCURATE than FP32 on 16 photos, which chance could explain"),
        ((50, 2, 1000), 0.005, TOO_LOW, "4.8 points LESS ACCURATE than FP32"),
        (
            (9, 0, 500),
            0.02,
            LOWER,
            "1.8 points less accurate (0.5 to 3.1); 500 photos cannot tell whether more than 2 points are lost, "
            "about 18,000 could",
        ),
        ((0, 0, 1), 0.005, UNDECIDED, "not shown to be worse; 1 photo cannot tell, about 3,200 could"),
    ],
)
def test_the_words_follow_the_interval(counts, allowed, claim, words):
    found = AccuracyClaim(*counts, allowed)
    assert (found.claim, found.words) == (claim, words)
    assert found.to_dict()["claim"] == claim


@given(counts=COUNTS, allowed=ALLOWED)
def test_kept_is_said_only_where_the_whole_interval_is_allowed(counts, allowed):
    found = AccuracyClaim(*counts, allowed)
    low, high = paired_interval(*counts)
    lost = (counts[0] - counts[1]) / counts[2]
    assert found.claim in CLAIMS
    assert ("accuracy kept" in found.words) == (high <= allowed + 1e-9 and lost <= allowed + 1e-9)
    assert ("LESS ACCURATE" in found.words) == (lost > allowed + 1e-9)
    if "not shown to be worse" in found.words:
        assert low <= 0 <= high
        assert high > allowed


@given(counts=COUNTS, allowed=ALLOWED)
def test_the_photos_that_would_tell_are_more_than_there_are(counts, allowed):
    needed = AccuracyClaim(*counts, allowed).photos_needed
    assert needed is None or needed > counts[2]


@given(margin=st.floats(0.002, 0.2), disagreement=st.floats(0, 0.3))
def test_so_many_photos_are_enough_and_one_less_is_not(margin, disagreement):
    def half(n: int) -> float:
        """Of the interval of Bonett and Price, written out anew."""
        share = (n * disagreement / 2 + 1) / (n + 2)
        return 1.959963984540054 * math.sqrt(2 * share / (n + 2))

    needed = photos_for(margin, disagreement)
    assert needed is not None
    assert half(needed) <= margin + 1e-9
    assert needed == 1 or half(needed - 1) > margin - 1e-9


def test_no_number_of_photos_shows_that_nothing_at_all_is_lost():
    assert photos_for(0.0, 0.02) is None
    assert photos_for(1e-9, 0.5) is None
