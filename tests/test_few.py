"""Few and unequal photos: the probe beside scikit-learn, figures that do not flatter, probabilities that stay modest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, log_loss

from edge_tl.training.calibrate import ENOUGH_TO_SHARPEN, calibrate
from edge_tl.training.model_selection import CandidateScore
from edge_tl.training.probe.balance import class_weights, weighs
from edge_tl.training.probe.cross_validation import cross_validate, wanted
from edge_tl.training.probe.probe import classes_of_one_group, fit_probe, make_folds
from edge_tl_runtime.core.statistics import mean_of_rates, wilson
from edge_tl_runtime.evaluation.evaluate import score, unequal

DIMENSIONS = 120


def clouds(counts: tuple[int, ...], seed: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Features like a backbone's: far more of them than photos, each class somewhat apart from the others, none below 0."""
    centres = np.random.default_rng(1).normal(size=(len(counts), DIMENSIONS)) * 0.3
    rng = np.random.default_rng(seed)
    targets = np.repeat(np.arange(len(counts)), counts)
    values = np.maximum(0.5 + centres[targets] + noise * rng.normal(size=(len(targets), DIMENSIONS)), 0)
    return values.astype(np.float32), targets


def probabilities(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


@pytest.mark.parametrize("counts", [(60, 2), (60, 5), (3, 60), (40, 10, 2)])
def test_small_classes_are_known_at_least_as_well_as_by_balanced_logistic_regression(counts):
    evaluated, truth = clouds((200,) * len(counts), 99)
    ours, theirs = [], []
    for seed in range(3):
        values, targets = clouds(counts, seed)
        names = [f"{seed}-{i}" for i in range(len(targets))]
        logits = fit_probe(values, targets, names, len(counts)).logits(evaluated)
        peer = LogisticRegression(class_weight="balanced", max_iter=2000).fit(values, targets)
        ours.append((balanced_accuracy_score(truth, logits.argmax(1)), -log_loss(truth, probabilities(logits))))
        theirs.append(
            (balanced_accuracy_score(truth, peer.predict(evaluated)), -log_loss(truth, peer.predict_proba(evaluated)))
        )
    assert (np.mean(ours, 0) >= np.mean(theirs, 0)).all()


def test_balance_acts_on_the_probe():
    values, targets = clouds((60, 3), 0)
    names = [str(i) for i in range(63)]
    evaluated, truth = clouds((200, 200), 5)
    recall = {
        how: (fit_probe(values, targets, names, 2, how).logits(evaluated).argmax(1)[truth == 1] == 1).mean()
        for how in ("none", "weights", "sampling", "auto")
    }
    assert recall["none"] + 0.2 < recall["weights"] == recall["sampling"] == recall["auto"]


def test_classes_of_like_size_are_left_as_they_are():
    values, targets = clouds((20, 11), 0)
    names = [str(i) for i in range(31)]
    assert not fit_probe(values, targets, names, 2).balanced
    np.testing.assert_array_equal(
        fit_probe(values, targets, names, 2).weight, fit_probe(values, targets, names, 2, "none").weight
    )


def test_two_to_one_is_the_border():
    assert not unequal(np.array([20, 10, 0]))
    assert unequal(np.array([21, 10]))
    assert weighs("auto", np.array([21, 10]))
    assert not weighs("none", np.array([100, 1]))
    weights = class_weights(np.array([100, 2]))
    assert weights @ [100, 2] == pytest.approx(102)
    assert weights[1] * 2 == pytest.approx(weights[0] * 100)


def test_folds_hold_each_photo_out_once_and_spread_every_class():
    targets = np.array([0] * 23 + [1] * 2 + [2] * 5)
    folds = make_folds(targets, [str(i) for i in range(30)])
    for target in range(3):
        sizes = np.bincount(folds[targets == target], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    assert (folds == make_folds(targets, [str(i) for i in range(30)])).all()


# What is said of it


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), min_size=1, max_size=6))
def test_the_mean_recall_lies_in_its_interval_and_one_class_is_wilsons(rows):
    right, sizes = np.array([min(a, b) for a, b in rows]), np.array([b for _, b in rows])
    mean, low, high = mean_of_rates(right, sizes)
    assert mean == pytest.approx(np.mean(right / sizes))
    assert 0 <= low <= mean <= high <= 1
    assert high - low > 0.02
    if len(rows) == 1:
        assert (low, high) == pytest.approx(wilson(int(right[0]), int(sizes[0])))


def test_the_interval_of_balanced_accuracy_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    sizes, rates = np.array([60, 8]), np.array([0.97, 0.7])
    drawn = rng.binomial(sizes, rates, size=(2000, 2))
    held = [low <= rates.mean() <= high for _, low, high in (mean_of_rates(right, sizes) for right in drawn)]
    assert 0.93 < np.mean(held) < 0.99


def lopsided(hits: int) -> np.ndarray:
    """Logits for 40 photos of one class, all right, and 4 of the other, of which `hits` are right."""
    answers = np.array([0] * 40 + [1] * hits + [0] * (4 - hits))
    return np.eye(2, dtype=np.float32)[answers]


def test_balanced_accuracy_is_said_where_classes_are_unequal_and_chooses_there():
    targets = np.array([0] * 40 + [1] * 4)
    poor, good = (score(lopsided(hits), targets, ("ant", "bee"), "") for hits in (0, 3))
    assert "balanced accuracy 50.0 %" in poor.describe()
    assert good.to_dict()["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(targets, lopsided(3).argmax(1)))
    equal = score(lopsided(0)[:8], np.array([0, 0, 0, 0, 1, 1, 1, 1]), ("ant", "bee"), "")
    assert "balanced" not in equal.describe()
    # 39 + 4 right of 44 are as many as 40 + 3, and better balanced.
    spared = lopsided(4)
    spared[0] = [0, 1]
    fair = score(spared, targets, ("ant", "bee"), "")
    assert fair.correct == good.correct
    assert CandidateScore("fair", fair, 1.0).beats(CandidateScore("good", good, 0.1))
    json.dumps(good.to_dict())


def test_cross_validation_judges_no_photo_by_a_probe_that_saw_it():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 200)).astype(np.float32)  # noise, which any probe learns by heart
    targets = np.arange(40) % 2
    found = cross_validate(values, targets, [str(i) for i in range(40)], 2)
    assert found.ci95[0] < 0.5 < found.ci95[1]
    assert (
        fit_probe(values, targets, [str(i) for i in range(40)], 2).logits(values).argmax(1).tolist() == targets.tolist()
    )
    assert found.ci95[1] - found.ci95[0] > np.ptp(wilson(int(found.right.sum()), 40))


def test_a_single_photo_of_a_class_cannot_be_held_out():
    values, targets = clouds((6, 1), 0)
    assert cross_validate(values, targets, [str(i) for i in range(7)], 2) is None


def test_the_smallest_class_decides_whether_validation_photos_are_few():
    assert wanted(np.array([0] * 500 + [1] * 19), 1000)
    assert not wanted(np.array([0] * 20 + [1] * 20), 200)


# Probabilities


@pytest.mark.parametrize("photos", [2, 10, ENOUGH_TO_SHARPEN - 2])
def test_few_photos_sharpen_nothing(photos):
    targets = np.arange(photos) % 2
    found = calibrate(np.eye(2, dtype=np.float32)[targets] * 0.5, targets)
    assert found.temperature == 1.0
    assert "too few" in found.kept


def test_many_photos_do():
    targets = np.arange(400) % 2
    assert calibrate(np.eye(2, dtype=np.float32)[targets] * 0.5, targets).temperature < 0.5


@given(st.integers(0, 200))
def test_a_temperature_that_new_photos_do_not_confirm_is_not_taken(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(24, 3)) * 1.5
    chances = probabilities(logits)
    targets = (chances.cumsum(1) > rng.random((24, 1))).argmax(1)  # honest already
    assert calibrate(logits.astype(np.float32), targets).temperature >= 1


def test_weights_decide_which_classes_probabilities_are_calibrated_for():
    # The common class is overrated; seen with equal say, the answers are far too sure.
    targets = np.array([0] * 150 + [1] * 30)
    logits = np.stack([np.full(180, 4.0), np.zeros(180)], 1).astype(np.float32)
    weights = class_weights(np.bincount(targets))[targets]
    assert calibrate(logits, targets, weights).temperature > calibrate(logits, targets).temperature


def _bursts(seed: int, bursts: int, frames: int) -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """Frames of bursts whose features say which burst, and nothing of the class: features, targets, names, groups."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 1, (bursts, 64))
    values = (centres[:, None] + rng.normal(0, 0.05, (bursts, frames, 64))).reshape(-1, 64).astype(np.float32)
    names = [f"{burst:02d}/{frame}" for burst in range(bursts) for frame in range(frames)]
    return values, np.repeat(np.arange(bursts) % 2, frames), names, [name[:2] for name in names]


def test_the_interval_of_grouped_photos_is_that_of_their_groups():
    values, targets, names, groups = _bursts(0, bursts=20, frames=6)
    found = cross_validate(values, targets, names, 2, groups=groups)
    assert found is not None
    assert found.groups > 2
    assert replace(found, groups=1.0).ci95[0] > found.ci95[0]
    assert "of different origins" in found.describe()


def test_frames_of_a_burst_are_held_out_together():
    """What tells bursts apart tells nothing of new bursts: photo by photo the figure is near 100 %, by group near chance."""
    shown = []
    for seed in range(3):
        values, targets, names, groups = _bursts(seed, bursts=20, frames=6)
        flattering = cross_validate(values, targets, names, 2)
        honest = cross_validate(values, targets, names, 2, groups=groups)
        assert flattering is not None
        assert honest is not None
        assert flattering.top1 > 0.95
        shown.append(honest.top1)
        probe = fit_probe(values, targets, names, 2, groups=groups)
        assert probe.held_out is not None
        shown.append(float((probe.held_out.argmax(1) == targets).mean()))
    assert np.mean(shown) < 0.7


@given(st.data())
def test_folds_keep_groups_whole_and_every_class_in_two(data):
    count = data.draw(st.integers(2, 60))
    targets = np.array(data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)))
    groups = data.draw(st.lists(st.sampled_from(["", *"abcdefgh"]), min_size=count, max_size=count))
    names = [f"{place}.jpg" for place in range(count)]
    # Of one class each, as groups usually are; across classes the last check still holds.
    single = data.draw(st.booleans())
    if single:
        groups = [group and f"{group}{target}" for group, target in zip(groups, targets, strict=True)]
    folds = make_folds(targets, names, groups=groups)
    assert (folds == make_folds(targets, names, groups=groups)).all()
    one_group = classes_of_one_group(targets, groups)
    for target in set(targets.tolist()):
        own = folds[targets == target]
        assert len(own) == 1 or len(set(own.tolist())) > 1
    if single:
        for group in {group for group, target in zip(groups, targets, strict=True) if target not in one_group} - {""}:
            assert len({fold for fold, own in zip(folds.tolist(), groups, strict=True) if own == group}) == 1
    assert (make_folds(targets, names, groups=[""] * count) == make_folds(targets, names)).all()


def test_photos_without_groups_are_folded_as_ever():
    """Every class in turn over the folds, in the order of SHA-256 of the names."""
    rng = np.random.default_rng(0)
    targets, names = rng.integers(0, 3, 50), [f"photo{i}.jpg" for i in range(50)]
    expected = np.zeros(50, np.int64)
    for target in range(3):
        own = sorted(np.flatnonzero(targets == target), key=lambda i: hashlib.sha256(names[i].encode()).digest())
        expected[own] = np.arange(len(own)) % 5
    assert (make_folds(targets, names) == expected).all()
