"""Thresholds of what is unknown: against SciPy's arithmetic, on fresh photos, with odd and related photos among them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edge_tl_runtime.inference.feature_distance import EXACT, fit_feature_distance
from edge_tl_runtime.inference.ood import KEPT
from edge_tl_runtime.inference.ood_fit import KnownPhotos, _student, fit_detector, out_of_fold, tail_bound

WIDTH, CLASSES = 40, 2


def photos(rng, count: int, spread: float = 1.0) -> KnownPhotos:
    """Features as a network has them: positive, of two classes that share directions, with photos that are odder than others."""
    world = np.random.default_rng(5)
    middles, mixing = world.gamma(2, 1, (CLASSES, WIDTH)), world.normal(0, 0.3, (6, WIDTH))
    targets = np.arange(count) % CLASSES
    own = rng.normal(0, spread, (count, 6)) @ mixing + rng.normal(0, 0.25 * spread, (count, WIDTH))
    oddness = np.exp(rng.normal(0, 0.15, (count, 1)))
    return KnownPhotos(np.abs(middles[targets] + oddness * own), targets)


def strange(rng, count: int) -> np.ndarray:
    return rng.gamma(2, 1, (count, WIDTH)).astype(np.float32)


def kept(detector, features) -> float:
    return float((detector.scores(features) >= detector.thresholds.threshold(KEPT)).mean())


@pytest.mark.parametrize("freedom", [19, 39, 152, 2000])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.99])
def test_the_quantile_of_student_is_scipys(share, freedom):
    assert _student(share, freedom) == pytest.approx(stats.t.ppf(share, freedom), abs=1e-3)


@given(st.integers(20, 3000), st.floats(0.05, 0.6), st.sampled_from([0.95, 0.99]), st.integers(0, 2**31))
def test_a_fitted_tail_is_that_of_the_distribution(count, spread, keep, seed):
    """Log-normal distances, of which SciPy knows every quantile: the bound is near it, the further the fewer photos."""
    drawn = np.exp(np.random.default_rng(seed).normal(6, spread, count))
    right = stats.lognorm.ppf(keep, spread, scale=np.exp(6))
    assert abs(np.log(tail_bound(drawn, keep) / right)) < spread * (0.15 + 9 / np.sqrt(count))


@given(st.integers(300, 2000), st.sampled_from([0.95, 0.99]), st.booleans(), st.integers(0, 2**31))
def test_whatever_the_distribution_the_photos_themselves_are_kept(count, keep, heavy, seed):
    """Of a tail that is heavier, or lighter, than that of the fit: within a point of the fraction on either side."""
    rng = np.random.default_rng(seed)
    drawn = rng.pareto(1.2, count) + 1 if heavy else rng.uniform(1, 2, count)
    share = (drawn <= tail_bound(drawn, keep)).mean()
    assert keep - 0.01 - 1 / count <= share <= keep + 2 / count


@pytest.mark.parametrize("count", [80, 153, 300, 1200])
def test_of_fresh_photos_99_percent_stay_known_and_strange_ones_do_not(count):
    rng = np.random.default_rng(count)
    found, noticed = [], []
    for _ in range(4 if count > 1000 else 12):
        half = count // 2
        fitted = fit_detector(photos(rng, count - half), photos(rng, half), "", 8, frozen=True)
        assert fitted.pooled
        found.append(kept(fitted.detector, photos(rng, 2000).features))
        noticed.append(1 - kept(fitted.detector, strange(rng, 300)))
    assert 0.98 <= np.mean(found) <= 1
    assert np.mean(noticed) > 0.9


@pytest.mark.parametrize("odd", ["blank", "huge", "strange"])
def test_one_odd_photo_moves_the_threshold_little_and_is_named(odd):
    rng = np.random.default_rng(1)
    training, held = photos(rng, 60), photos(rng, 60)
    before = fit_detector(training, held, "", 8, frozen=True)
    spoilt = held.features.copy()
    spoilt[7] = {"blank": np.zeros(WIDTH), "huge": np.eye(WIDTH)[0] * 1e4, "strange": strange(rng, 1)[0]}[odd]
    after = fit_detector(training, KnownPhotos(spoilt, held.targets), "", 8, frozen=True)
    assert (after.set_aside + after.unknown)[0] == 7
    fresh, others = photos(rng, 3000).features, strange(rng, 500)
    assert kept(after.detector, fresh) > 0.975
    assert abs(kept(after.detector, others) - kept(before.detector, others)) < 0.1
    assert 7 in after.set_aside or odd == "strange"
    assert after.n == 120 - len(after.set_aside)


def test_a_photo_is_scored_without_itself_and_without_its_origin():
    rng = np.random.default_rng(2)
    known = photos(rng, 200)
    twins = known.features.copy()
    twins[10] = twins[12] = strange(rng, 1)[0]
    outside = fit_feature_distance(twins, known.targets, 8).outside
    alone = [f"{place}" for place in range(200)]
    related = ["pair" if place in (10, 12) else name for place, name in enumerate(alone)]
    apart = out_of_fold(twins, known.targets, 8, outside, alone)
    together = out_of_fold(twins, known.targets, 8, outside, related)
    # By hand: the distance from a fit on every photo that is in neither pair nor fold is at least that of a fit without the pair
    # alone, and both find the pair far away.
    without = np.setdiff1d(np.arange(200), [10, 12])
    fitted = fit_feature_distance(twins[without], known.targets[without], 8)
    assert together[10] == together[12]
    assert together[10] > 0.5 * -fitted.scores(twins[10:11])[0]
    assert together[10] > np.median(together) * 3
    assert np.isfinite(apart).all()


def test_training_photos_that_the_network_knows_by_heart_place_no_threshold():
    rng = np.random.default_rng(3)
    training, held = photos(rng, 300, spread=0.5), photos(rng, 100)
    for frozen in (True, False):
        fitted = fit_detector(training, held, "val", 8, frozen=frozen)
        assert (fitted.pooled, fitted.n, fitted.detector.thresholds.data) == (False, 100, "val")
        assert kept(fitted.detector, photos(rng, 2000).features) > 0.95
    assert not fit_detector(photos(rng, 300), held, "val", 8, frozen=False).pooled
    fitted = fit_detector(photos(rng, 300), held, "val", 8, frozen=True)
    assert (fitted.pooled, fitted.detector.thresholds.data) == (True, "val and 300 training photos")


@given(st.integers(2, 60), st.integers(30, 90), st.integers(1, 9), st.integers(1, 30), st.integers(0, 2**31))
@settings(deadline=None)
def test_one_picture_scores_as_it_does_among_others(width, count, classes, rank, seed):
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % classes
    features = rng.gamma(1.0, 1.0, (count, width)) + rng.gamma(1.0, 1.0, (classes, width))[targets]
    fitted = fit_feature_distance(features, targets, rank)
    rows = np.concatenate([features, 5 * rng.gamma(0.3, 1.0, (20, width)), np.zeros((1, width))]).astype(np.float32)
    rows[0, 0] = np.nan
    among = fitted.scores(rows)
    alone = np.array([fitted.score(row) for row in rows])
    np.testing.assert_array_equal(np.isfinite(among), np.isfinite(alone))
    usable = np.isfinite(among)
    largest = fitted.whiten.max() ** 2 + 1 / fitted.outside
    np.testing.assert_allclose(alone[usable], among[usable], rtol=1e-3, atol=1e-6 * largest)


def test_directions_of_many_photos_are_those_of_a_decomposition_in_full(monkeypatch):
    rng = np.random.default_rng(4)
    count, width = EXACT + 60, EXACT + 20
    shared = rng.normal(0, 1, (count, 12)) * np.linspace(3, 1, 12) @ rng.normal(0, 1, (12, width))
    features = 10 + shared + rng.normal(0, 1, (count, width))
    targets = np.arange(len(features)) % 3
    quick = fit_feature_distance(features, targets, 12).scores(features[:80])
    monkeypatch.setattr("edge_tl_runtime.inference.feature_distance.EXACT", 10**9)
    full = fit_feature_distance(features, targets, 12).scores(features[:80])
    np.testing.assert_allclose(quick, full, rtol=0.02)
