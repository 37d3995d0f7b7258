"""Drift is said with the stated rate of false alarms, found when it is there, and dated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.statistics import wilson
from edge_tl_runtime.scene.drift_changes import BACK, LEARN, VALUES, Watched
from edge_tl_runtime.scene.events import DayCounts
from edge_tl_runtime.scene.martingale import (
    TAILS,
    ChangeDetector,
    bets,
    changed_days,
    conformal_p,
    dependence,
    in_spreads,
    parse_false_alarms,
    unusual,
)

DAY = 86400.0


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(0, 5), st.floats(0, 1, exclude_max=True))
def test_a_p_value_is_the_share_of_days_as_high_by_hand(scores, newest, tie):
    everyone = [*scores, newest]
    expected = sum(x > newest for x in everyone) + (1 - tie) * sum(x == newest for x in everyone)
    assert conformal_p(np.array(scores, float), newest, tie) == pytest.approx(expected / len(everyone))


@pytest.mark.parametrize("draw", ["numbers", "counts"])
def test_p_values_of_days_that_are_alike_are_uniform_and_say_nothing_of_each_other(draw):
    """Also where many days are equal, such as days without any unknown."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(4000):
        days = rng.normal(size=12) if draw == "numbers" else rng.poisson(0.7, 12).astype(float)
        found.append([conformal_p(days[:n], days[n], rng.random()) for n in (10, 11)])
    first, second = np.array(found).T
    for level in (0.05, 0.25, 0.5, 0.9):
        for values in (first, second, second[first < 0.5]):
            low, high = wilson(int((values <= level).sum()), len(values), 3.5)
            assert low <= level <= high
    assert first.min() > 0
    assert first.max() <= 1


@pytest.mark.parametrize("two_sided", [False, True])
def test_a_bet_wins_nothing_on_average(two_sided):
    middles = (np.arange(4800) + 0.5) / 4800
    won = np.array([bets(p, two_sided) for p in middles])
    assert won.shape[1] == len(TAILS) * (1 + two_sided)
    np.testing.assert_allclose(won.mean(0), 1, atol=1e-9)
    assert won[0, len(TAILS) - 1] == won.max()  # the narrowest tail pays most for the most unusual day


def test_a_stake_that_grows_twentyfold_by_chance_does_so_in_one_of_twenty_years_at_most():
    """Ville's inequality, for each bet by itself and at any time, on ranks of days that are alike."""
    rng = np.random.default_rng(2)
    years, reached = 400, np.zeros(8)
    for _ in range(years):
        days = rng.gamma(2.0, size=90)
        logs = [np.log(bets(conformal_p(days[:n], days[n], rng.random()), True)) for n in range(LEARN, 90)]
        reached += np.cumsum(logs, 0).max(0) >= np.log(20)
    for count in reached:
        assert wilson(int(count), years, 3.5)[0] <= 1 / 20


def test_days_until_a_false_alarm_are_as_many_as_stated_on_average():
    rng = np.random.default_rng(3)
    limit, until = 40.0, []
    for _ in range(200):
        detector, n = ChangeDetector(limit, two_sided=True), 0
        while not detector.update(float(rng.random())):
            n += 1
        until.append(n + 1)
    mean, error = np.mean(until), np.std(until) / np.sqrt(len(until))
    assert mean + 3 * error >= limit
    assert mean <= 6 * limit  # and the test is not so careful that it would never say anything


def test_evidence_is_the_sum_over_all_days_on_which_the_change_may_have_begun():
    p = np.random.default_rng(4).random(30) * 0.6
    detector = ChangeDetector(1e12, two_sided=True)
    for value in p:
        detector.update(float(value))
    won = np.array([bets(value, True) for value in p])
    by_hand = sum(np.prod(won[start:], 0) for start in range(len(p)))
    assert detector.evidence == pytest.approx(by_hand.mean(), rel=1e-9)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1/year", 31557600.0), ("2/month", 1314900.0), ("0.5/day", 172800.0), (" 3/hour", 1200.0)]
)
def test_a_rate_is_read(text, seconds):
    assert parse_false_alarms(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "1/decade", "0/year", "-1/year", "nan/year", "inf/year", "often", "1e9/day"])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(UsageError, match="no rate of false alarms"):
        parse_false_alarms(text)


def correlated(rng, n, rho):
    values = [rng.standard_normal()]
    for _ in range(n - 1):
        values.append(rho * values[-1] + np.sqrt(1 - rho**2) * rng.standard_normal())
    return np.array(values)


def test_dependence_is_the_rank_correlation_of_neighbours_less_its_error():
    rng = np.random.default_rng(5)
    for rho in (0.0, 0.5, 0.9):
        values = correlated(rng, 4000, rho)
        ranks = values.argsort().argsort()
        expected = np.corrcoef(ranks[1:], ranks[:-1])[0, 1] - 4000**-0.5
        assert dependence(values) == pytest.approx(max(0.0, min(0.9, expected)), abs=0.01)
    assert dependence(np.zeros(50)) < 0.2  # equal days tell nothing
    assert dependence(np.arange(3.0)) == 0


def test_days_that_follow_each_other_raise_fewer_false_alarms_when_their_dependence_is_measured():
    """Without the discount days with correlation 0.7 would be called a change several times a year."""
    rng = np.random.default_rng(6)
    counts = {True: 0, False: 0}
    for _ in range(12):
        days = correlated(rng, LEARN + 365, 0.7)
        for guarded in counts:
            detector = ChangeDetector(365.0, two_sided=True)
            for n in range(LEARN, len(days)):
                depends = dependence(days[max(0, n - 180) : max(LEARN, n - 7)]) if guarded else 0.0
                if detector.update(conformal_p(days[max(0, n - 180) : n], days[n], rng.random()), depends):
                    counts[guarded] += 1
                    detector.reset()
    assert counts[False] > 3 * counts[True]
    assert counts[True] <= 3 * 12


def test_distances_are_those_of_numpy_by_hand():
    values = np.random.default_rng(7).normal(size=(9, 3)) * [1, 5, 0] + [0, 2, 3]
    z = (values[:, :2] - values[:, :2].mean(0)) / values[:, :2].std(0)
    np.testing.assert_allclose(unusual(in_spreads(values)), np.sqrt((z**2).sum(1)))
    order = np.random.default_rng(8).permutation(9)
    np.testing.assert_allclose(unusual(in_spreads(values[order])), unusual(in_spreads(values))[order])


@given(st.lists(st.floats(-9, 9), min_size=4, max_size=14), st.integers(1, 3))
def test_the_day_of_change_is_the_split_with_the_least_squared_error_by_hand(values, least):
    scores = np.array(values)
    errors = [
        sum(((part - part.mean()) ** 2).sum() for part in (scores[:-k], scores[-k:]))
        for k in range(1, len(scores) - least + 1)
    ]
    assert errors[changed_days(scores, least) - 1] == pytest.approx(min(errors), abs=1e-9)


def day(number, rng, unknown=0.05, cats=0.5, shift=0.0, events=200):
    n = int(rng.poisson(events)) + 20
    strange = int(rng.binomial(n, unknown * np.exp(0.3 * rng.standard_normal())))
    cat = int(rng.binomial(n - strange, np.clip(cats + 0.05 * rng.standard_normal(), 0, 1)))
    means = (rng.normal(size=16) * 0.3 + shift) * n
    return DayCounts(number * DAY, 1.7e9 + number * DAY, [cat, n - strange - cat], means.tolist(), DAY, n, strange)


def closed(watched, days, rng):
    """The days on which something was said."""
    blocks, said = [], []
    for number, block in enumerate(days):
        if watched.close(blocks, block, float(rng.random())):
            said.append((number, watched.since))
        blocks.append(block)
    return blocks, said


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("unknown", {"unknown": 0.35}, "of events are unlike the training photos"),
        ("labels", {"cats": 0.02}, "cat is "),
        ("picture", {"shift": 2.0}, "the picture itself"),
    ],
)
def test_a_change_is_found_in_days_dated_named_and_over_a_week_after_it_ends(name, change, words):
    rng = np.random.default_rng(9)
    start, end = 40, 60
    days = [day(n, rng, **(change if start <= n < end else {})) for n in range(80)]
    watched = Watched.of(name, 3 * 365)
    blocks, said = closed(watched, days[:50], rng)
    assert len(said) == 1
    number, since = said[0]
    assert start <= number <= start + 5
    assert abs(since / DAY - start) <= 1
    assert words in watched.words(blocks, days[50], ["cat", "dog"])
    ends = []
    for ended, block in enumerate(days[50:], 50):
        if watched.close(blocks, block, 0.5):
            ends.append(ended)
        blocks.append(block)
    assert len(ends) == 1
    assert end + BACK - 1 <= ends[0] <= end + BACK + 6
    assert watched.since is None
    assert watched.words(blocks, days[-1], ["cat", "dog"]) == ""
    assert not any(name in block.aside for block in blocks[-BACK:])  # they are usual again
    assert all(name in block.aside for block in blocks[start + 1 : end])


def test_nothing_is_said_while_it_is_learned_what_is_usual():
    rng = np.random.default_rng(10)
    days = [day(n, rng, unknown=0.02 if n < LEARN // 2 else 0.6) for n in range(LEARN)]
    for name in VALUES:
        assert closed(Watched.of(name, 1.0), days, rng)[1] == []


def test_fewer_unknowns_than_before_are_a_change_too():
    rng = np.random.default_rng(11)
    watched = Watched.of("unknown", 3 * 365)
    blocks, said = closed(watched, [day(n, rng, unknown=0.4 if n < 40 else 0.02) for n in range(50)], rng)
    assert len(said) == 1
    assert "before: 4" in watched.words(blocks, blocks[-1], ["cat", "dog"])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_days_before_says_nothing_to_the_score_of_the_newest(seed):
    """A conformal score may not know which day is the newest, or p-values would not be uniform."""
    rng = np.random.default_rng(seed)
    days = [day(n, rng) for n in range(10)]
    order = rng.permutation(10)
    for name in VALUES:
        watched = Watched.of(name, 1.0)
        np.testing.assert_allclose(watched.scores([days[i] for i in order]), watched.scores(days)[order], atol=1e-9)
