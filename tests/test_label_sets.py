"""Sets of labels hold the right one as often as they say, on photos that had no part in them."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from results import make_result
from stripes import SPEC, Made, write_stripes

import edge_tl as et
from edge_tl.cli import cli
from edge_tl.cli.console import silent
from edge_tl_export import ExportSettings, export_model
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.statistics import wilson
from edge_tl_runtime.evaluation.covered import coverage_of
from edge_tl_runtime.images.datasets.dataset import load_labelled
from edge_tl_runtime.inference.classifier import Prediction, Score
from edge_tl_runtime.inference.label_sets import (
    COVERAGES,
    LabelSetRule,
    coverage_threshold,
    fit_label_sets,
    in_words,
    photos_needed,
    probability_of_right,
)
from edge_tl_runtime.modelfile.sections import LabelSets
from edge_tl_runtime.modelfile.spec import ModelSpec, Normalization, ResizeRule
from edge_tl_runtime.pipeline.decision import Decider
from edge_tl_runtime.pipeline.smoothing import Ema
from edge_tl_runtime.sinks.draw.overlay import answer_line
from edge_tl_runtime.sinks.text import CSV_COLUMNS, SET_COLUMN, Changes, Csv, FileTarget

LABELS = ("cat", "cow", "dog", "pig")
ANYTHING = np.zeros(2, np.float32)


def make_spec(thresholds=None, **changes) -> ModelSpec:
    sets = None
    if thresholds is not None:
        sets = LabelSets(thresholds=thresholds, n=150, data="val of farm", method="least_probability")
    spec = ModelSpec(
        labels=LABELS,
        resize=ResizeRule(height=8, width=8, crop_pct=1.0, resample="area"),
        normalization=Normalization(mean=(0, 0, 0), std=(1, 1, 1)),
        arch="tiny",
        label_sets=sets,
    )
    return replace(spec, **changes)


def photos(rng, n, classes=4, sure=1.5):
    """Logits and classes of a model that is sometimes wrong, and surer than it should be."""
    targets = rng.integers(0, classes, n)
    logits = rng.normal(0, 1, (n, classes))
    logits[np.arange(n), targets] += sure
    return (2 * logits).astype(np.float32), targets


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [60, 400])
def test_sets_of_fresh_photos_hold_the_right_label_as_often_as_they_say(n, coverage):
    """Over many draws the mean is at least the coverage, and above it by no more than 1 / (n + 1) and what chance allows."""
    rng, spec, covered = np.random.default_rng(n), make_spec(), []
    for _ in range(400):
        logits, targets = photos(rng, n + 200)
        sets = fit_label_sets(logits[:n], targets[:n], (), spec, "val")
        rule = LabelSetRule.of(replace(spec, label_sets=sets), coverage, "model")
        fresh = spec.scores.probabilities(logits[n:])
        covered.append(rule.members(fresh)[np.arange(200), targets[n:]].mean())
    mean, error = np.mean(covered), np.std(covered) / math.sqrt(len(covered))
    assert coverage - 3 * error <= mean <= coverage + 1 / (n + 1) + 3 * error


def test_photos_of_one_origin_count_as_one():
    """Of bursts, a threshold that takes each photo for itself holds too seldom for new origins; by origins it holds."""
    rng, spec, coverage = np.random.default_rng(1), make_spec(), 0.9
    shares = {"by origin": [], "each for itself": []}
    for _ in range(300):
        hard = rng.random(60) < 0.2  # an origin that the model cannot tell has long bursts
        sizes = np.where(hard, 1, 12)
        origins = np.repeat(np.arange(60), sizes)
        logits, targets = photos(rng, len(origins), sure=6)
        swapped = hard[origins]
        targets = np.where(swapped, (targets + 1) % 4, targets)
        right = probability_of_right(spec.scores.probabilities(logits), targets)
        fresh_hard = rng.random(300) < 0.2  # new origins, one photo each
        fresh, truth = photos(rng, 300, sure=6)
        truth = np.where(fresh_hard, (truth + 1) % 4, truth)
        for name, groups in (("by origin", [str(key) for key in origins]), ("each for itself", ())):
            least = coverage_threshold(right, groups, coverage)
            members = LabelSetRule(coverage, coverage, least).members(spec.scores.probabilities(fresh))
            shares[name].append(members[np.arange(300), truth].mean())
    assert np.mean(shares["by origin"]) >= coverage - 0.01
    assert np.mean(shares["each for itself"]) < coverage - 0.05


@given(st.integers(1, 300), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]), st.integers(0, 2**32 - 1))
def test_without_origins_the_threshold_is_the_quantile_of_split_conformal_prediction(n, coverage, seed):
    right = np.round(np.random.default_rng(seed).random(n), 2)
    place = math.floor((1 - coverage) * (n + 1) + 1e-9)
    found = coverage_threshold(right, (), coverage)
    if place < 1:
        assert found is None
        assert n < photos_needed(coverage)
    else:
        assert n >= photos_needed(coverage)
        assert found == pytest.approx(np.sort(right)[place - 1], abs=1e-9)
        assert found <= np.sort(right)[place - 1]


@given(st.integers(2, 40), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_a_set_has_the_likeliest_label_and_all_from_the_threshold_on(classes, least, seed):
    row = np.random.default_rng(seed).dirichlet(np.full(classes, 0.3))
    rule = LabelSetRule(0.9, 0.9, least)
    places = rule.places(row)
    assert places[0] == row.argmax()
    assert set(places) == {place for place in range(classes) if row[place] >= least} | {int(row.argmax())}
    assert np.flatnonzero(rule.members(row[None])[0]).tolist() == sorted(places)
    assert rule.places(row) == places  # nothing is drawn


def test_a_coverage_that_is_not_stored_is_rounded_up_and_one_above_all_is_refused():
    spec = make_spec({"0.8": 0.6, "0.95": 0.2})
    rule = LabelSetRule.of(spec, 0.9, "m.onnx")
    assert (rule.stored, rule.least) == (0.95, 0.2)
    assert "those for 0.95 are used" in rule.note()
    assert LabelSetRule.of(spec, 0.95, "m.onnx").note() == ""
    assert LabelSetRule.of(spec, 0.1, "m.onnx").stored == 0.8
    with pytest.raises(UsageError, match=r"0\.99.*takes 99 validation photos .* had 150 .*it has: 0\.8, 0\.95"):
        LabelSetRule.of(spec, 0.99, "m.onnx")
    with pytest.raises(UsageError, match=r"coverage of 0\.999; it has: 0\.8, 0\.95"):
        LabelSetRule.of(spec, 0.999, "m.onnx")
    with pytest.raises(UsageError, match="holds no label sets"):
        LabelSetRule.of(make_spec(), 0.9, "m.onnx")
    for nonsense in (0, 1, 95, "0.9", True, float("nan")):
        with pytest.raises(UsageError, match="give a fraction between 0 and 1"):
            LabelSetRule.of(spec, nonsense, "m.onnx")


@pytest.mark.parametrize(
    ("n", "stored"), [(3, ()), (4, (0.8,)), (18, (0.8, 0.9)), (19, (0.8, 0.9, 0.95)), (99, COVERAGES)]
)
def test_what_photos_are_too_few_for_is_not_stored(n, stored):
    logits, targets = photos(np.random.default_rng(0), n)
    found = fit_label_sets(logits, targets, (), make_spec(), "val")
    assert (found is None) == (not stored)
    if found is not None:
        assert tuple(map(float, found.thresholds)) == stored
        assert LabelSets.from_dict(found.to_dict(), "label_sets") == found


def decide(decider, row, at=0.0):
    return decider.decide(ANYTHING, np.array(row, np.float64), at)


SETS = LabelSetRule(0.95, 0.95, 0.2)


def labels(decision):
    return [score.label for score in decision.label_set]


def test_a_decision_has_the_set_of_its_frame_and_unknown_has_none():
    decider = Decider(make_spec(), sets=SETS, threshold=0.3)
    several, one = decide(decider, [0.5, 0.1, 0.35, 0.05]), decide(decider, [0.9, 0.05, 0.03, 0.02])
    assert (labels(several), several.words) == (["cat", "dog"], "cat or dog")
    assert (labels(one), one.words, one.to_dict()["set"]) == (["cat"], "cat", ["cat"])
    unknown = decide(decider, [0.26, 0.25, 0.25, 0.24])
    assert (unknown.label, unknown.label_set, unknown.words) == ("unknown", None, "unknown")
    assert unknown.to_dict()["set"] is None
    assert "set" not in decide(Decider(make_spec()), [0.5, 0.1, 0.35, 0.05]).to_dict()


def test_labels_that_do_not_count_leave_the_set_and_it_is_never_empty():
    decider = Decider(make_spec(), sets=SETS, allow=("cow", "dog"))
    assert labels(decide(decider, [0.5, 0.05, 0.4, 0.05])) == ["dog"]
    assert labels(decide(decider, [0.9, 0.06, 0.03, 0.01])) == ["cow"]


def test_beside_smoothing_the_set_is_the_frames_own_and_holds_the_shown_label():
    decider = Decider(make_spec(), sets=SETS, smoother=Ema(10.0))
    decide(decider, [0.98, 0.0, 0.01, 0.01], 0.0)
    jump = decide(decider, [0.01, 0.45, 0.53, 0.01], 0.1)
    assert jump.label == "cat"
    assert labels(jump) == ["cat", "dog", "cow"]


def shown(result, *names):
    scores = tuple(Score(name, 0.4, place) for place, name in enumerate(names))
    return replace(result, decision=replace(result.decision, label_set=scores, with_set=True))


def test_sinks_say_the_set(tmp_path):
    result = shown(make_result("bee"), "bee", "ant|'\"wasp", "fly, or not")
    lines = []
    target = type("Lines", (), {"lost": 0, "write": lines.append, "flush": lambda: None, "close": lambda: None})
    changes = Changes(target)
    assert changes.wants(result)
    assert not changes.wants(result)
    assert changes.wants(shown(result, "bee", "fly"))  # the label is the same, the set is not
    changes.write(result)
    assert lines[0].endswith("frame 0: bee, ant|'\"wasp or fly, or not 75.0 %")
    path = tmp_path / "a.csv"
    columns = (*CSV_COLUMNS, SET_COLUMN)
    for some in (CSV_COLUMNS, columns):  # the file of the run before has other columns: it is put aside
        sink = Csv(FileTarget(path, head=",".join(some)), some)
        sink.write(result)
        sink.close()
    (row,) = csv.DictReader(path.open(newline="", encoding="utf-8"))
    assert json.loads(row["set"]) == ["bee", "ant|'\"wasp", "fly, or not"]
    (old,) = csv.DictReader((tmp_path / "a.csv.1").open(newline="", encoding="utf-8"))
    assert "set" not in old
    assert answer_line(shown(result, "bee", "\U0001f41c\n").decision) == "bee or class 1"


def test_a_prediction_says_its_set_where_it_was_asked():
    top = (Score("cat", 0.6, 0), Score("dog", 0.4, 2))
    assert Prediction(top, 1.0, True, top, True).to_dict()["set"] == ["cat", "dog"]
    assert Prediction(top, 1.0, False, None, True).to_dict()["set"] is None
    assert "set" not in Prediction(top, 1.0).to_dict()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("a", "a"),
        ("ab", "a or b"),
        ("abcd", "a, b, c or d"),
        ("abcde", "a, b, c, d or e"),
        ("abcdefg", "a, b, c, d or 3 others"),
    ],
)
def test_a_set_in_words(names, words):
    assert in_words(list(names)) == words


def test_an_evaluation_counts_the_photos_that_are_new_to_the_file():
    rng, spec = np.random.default_rng(3), make_spec()
    logits, targets = photos(rng, 50)
    probabilities = spec.scores.probabilities(logits)
    roles = ["new"] * 30 + ["validation"] * 20
    found = coverage_of(SETS, probabilities, targets, LABELS, [""] * 50, roles)
    held = [bool(p[t] >= 0.2 or p.argmax() == t) for p, t in zip(probabilities[:30], targets[:30], strict=True)]
    assert (found.covered, found.n, found.placed) == (sum(held), 30, False)
    assert found.ci95 == wilson(sum(held), 30)
    worst = min(
        {int(t) for t in targets[:30]},
        key=lambda t: np.mean([h for h, x in zip(held, targets, strict=False) if x == t]),
    )
    assert found.worst[0] == LABELS[worst]
    all_placed = coverage_of(SETS, probabilities, targets, LABELS, [""] * 50, ["validation"] * 50)
    assert (all_placed.n, all_placed.placed) == (50, True)
    assert "placed the threshold" in all_placed.describe()


@pytest.mark.slow
def test_a_written_file_holds_the_sets_of_its_own_answers(stripes: Made, tmp_path, one_thread):
    for part, seed in (("train", 1), ("val", 2)):
        write_stripes(tmp_path / "photos" / part, 60, seed)
    parts = [load_labelled(tmp_path / "photos", SPEC.labels, part) for part in ("train", "val")]
    report = export_model(
        stripes.network,
        replace(SPEC, training={"data": "photos"}),
        tmp_path / "files",
        ExportSettings(),
        calibration=parts[0],
        validation=parts[1],
        stage=silent,
    )
    (file,) = report.files
    assert tuple(file.sets.sizes) == (0.8, 0.9, 0.95)
    assert "99 % takes 99 validation photos" in file.sets.describe()
    model = et.load(file.path)
    frames = [cv2.imread(str(path)) for path in parts[1].paths]
    rows = np.stack([model.spec.scores.probabilities(model.classifier.frame_logits(frame).copy()) for frame in frames])
    right = np.sort([1 if r.argmax() == t else r[t] for r, t in zip(rows, parts[1].targets, strict=True)])
    for level, least in model.spec.label_sets.thresholds.items():
        assert least == pytest.approx(right[math.floor((1 - float(level)) * 61 + 1e-9) - 1], abs=1e-6)
    answer = model.predict(parts[1].paths[0], coverage=0.9, unknown=0)
    assert answer.label_set[0].label == answer.label
    found = model.evaluate(tmp_path / "photos", coverage=0.9).coverage
    assert found.n == 60
    assert found.covered >= 0.9 * 60
    with pytest.raises(UsageError, match="takes 99 validation photos"):
        model.predict(parts[1].paths[0], coverage=0.99)
    run = CliRunner().invoke(
        cli, ["predict", str(file.path), str(parts[1].paths[0]), "--coverage", "0.9", "--json", "--unknown", "0"]
    )
    assert json.loads(run.stdout)["set"] == [score.label for score in answer.label_set]
