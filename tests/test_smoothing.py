"""A steadied label follows the scene, not its noise, at the pace of the clock and not of the camera."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.pipeline.smoothing import GAP_S, SMOOTHERS, Ema, Vote, parse_smoothing

A, B = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def feed(smoother, frames, fps=10.0, start=100.0):
    """The means and labels over the frames."""
    out = [smoother.update(frame, start + number / fps) for number, frame in enumerate(frames)]
    return np.array([mean for mean, _ in out]), [label for _, label in out]


def changes(labels):
    return sum(one != two for one, two in pairwise(labels))


def test_ema_is_the_closed_form_by_hand():
    """Half-life 1 s, frames 1 s apart: each mean is half the one before and half the new."""
    means, _ = feed(Ema(1.0), [[1, 0], [0, 1], [0, 1], [1, 0]], fps=1)
    np.testing.assert_allclose(means[:, 0], [1, 0.5, 0.25, 0.625])


@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.0, 2.0])
def test_ema_of_a_step_is_the_same_at_any_rate(seconds):
    ends = []
    for fps in (10, 30, 60):
        ema = Ema(0.5)
        ema.update(A, 0.0)
        for number in range(round(seconds * fps)):
            mean, _ = ema.update(B, (number + 1) / fps)
        ends.append(mean[1])
    np.testing.assert_allclose(ends, 1 - 0.5 ** (seconds / 0.5), rtol=1e-9)


def test_ema_changes_its_label_half_a_life_after_the_scene_at_10_and_at_30_frames_a_second():
    for fps in (10, 30):
        _, labels = feed(Ema(0.5, margin=0.05), [A] * fps + [B] * (2 * fps), fps)
        after = (labels.index(1) - fps + 1) / fps
        assert 0.5 <= after <= 0.5 + 0.04 * 2 + 2 / fps


def test_what_was_before_a_gap_counts_for_nothing():
    for smoother in (Ema(3600.0), Vote(4, 6)):
        feed(smoother, [A] * 20, start=0)
        mean, label = smoother.update(B, 1.9 + GAP_S + 0.01)
        assert label == 1
        np.testing.assert_array_equal(mean, B)
        _, label = smoother.update(A, 1.9 + 2 * GAP_S)  # within the gap of the last one
        assert label == 1


def test_a_clock_that_stands_or_goes_back_changes_nothing_and_breaks_nothing():
    ema = Ema(0.5)
    ema.update(A, 10.0)
    for now in (10.0, 9.0, 9.0):
        mean, label = ema.update(B, now)
        np.testing.assert_array_equal(mean, A)
        assert label == 0


def test_hysteresis_holds_a_label_until_another_leads_by_the_margin_twice_in_a_row():
    ema = Ema(1e-6, margin=0.1)  # as good as no memory
    leads = [0.6, 0.46, 0.46, 0.46, 0.44, 0.44, 0.54, 0.54, 0.56, 0.44, 0.56, 0.56]
    shown = [ema.update(np.array([p, 1 - p]), float(i))[1] for i, p in enumerate(leads)]
    assert shown == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0]


def test_two_challengers_in_turn_are_no_challenger():
    ema = Ema(1e-6)
    rows = np.eye(3)[[0, 1, 2, 1, 2, 2]]
    assert [ema.update(row, float(i))[1] for i, row in enumerate(rows)] == [0, 0, 0, 0, 0, 2]


@pytest.mark.parametrize("text", ["ema:0.5", "ema", "vote:4/6", "vote:3/4", "vote:3/3"])
@pytest.mark.parametrize("fps", [5, 10, 30])
def test_labels_that_alternate_change_at_most_once(text, fps):
    _, labels = feed(parse_smoothing(text), [A, B] * 200, fps)
    assert changes(labels) <= 1


def test_a_vote_waits_for_k_of_n():
    frames = [A, A, A, A, B, B, B, A, B, B, B, B]
    _, labels = feed(Vote(4, 6), frames)
    #  of the last six:  4A        3B          4B
    assert labels == [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_a_vote_keeps_its_label_where_nobody_has_k():
    frames = np.eye(4)[[0, 0, 0, 1, 2, 3, 1, 2, 3, 1, 2, 3]]
    _, labels = feed(Vote(3, 4), frames)
    assert labels == [0] * 12


def test_another_number_of_classes_begins_anew():
    for smoother in (Ema(10.0), Vote(3, 4)):
        feed(smoother, [A] * 5, start=0)
        mean, label = smoother.update(np.array([0.1, 0.2, 0.7]), 0.6)
        assert (label, mean.shape) == (2, (3,))


def test_what_was_given_is_neither_kept_nor_changed_later():
    for smoother in (Ema(0.5), Vote(3, 4)):
        frame = np.array([0.9, 0.1])
        first, _ = smoother.update(frame, 0.0)
        kept = first.copy()
        frame[:] = 0.5  # the caller's buffer is used again
        smoother.update(B, 0.1)
        np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("kind", list(SMOOTHERS))
@given(
    rows=arrays(np.float64, st.tuples(st.integers(1, 30), st.just(4)), elements=st.floats(0.001, 1)),
    steps=st.lists(st.floats(-0.5, 8), min_size=30, max_size=30),
)
def test_steadied_probabilities_stay_a_distribution_and_the_label_is_one_that_led(kind, rows, steps):
    smoother = parse_smoothing(kind)
    rows = rows / rows.sum(axis=1, keepdims=True)
    leaders, now = set(), 0.0
    for row, step in zip(rows, steps, strict=False):
        now += step
        mean, label = smoother.update(row, now)
        leaders |= {int(row.argmax()), int(mean.argmax())}  # the label is one whose turn it was
        assert mean.sum() == pytest.approx(1)
        assert (mean >= 0).all()
        assert label in leaders


REFUSED = """x ema:0 ema:-1 ema:nan ema:inf ema:a ema:1e9 vote:4 vote:3/6 vote:2/3 vote:1/1 vote:3/5 vote:7/6 vote:0/0
    vote:4/6/8 vote:a/b vote:1/1001 vote:600/1001 none:1 EMA vote:-1/1 vote:4.0/6"""


@pytest.mark.parametrize("text", ["", *REFUSED.split()])
def test_anything_else_is_refused_in_one_line(text):
    with pytest.raises(UsageError) as caught:
        parse_smoothing(text)
    assert "\n" not in str(caught.value)


def test_what_the_help_names_is_understood():
    assert parse_smoothing("none") is None
    assert parse_smoothing("ema:2").half_life_s == 2
    vote = parse_smoothing("vote:5/8")
    assert (vote.k, vote.n) == (5, 8)
