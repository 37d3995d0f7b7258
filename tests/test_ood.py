"""Unlike the training data: the score is the paper's, a threshold keeps what it says, and both travel in the file."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.special import logsumexp
from tiny_network import SPEC, silent, tiny, write_patches

from edge_tl.cli.inspect import command
from edge_tl_export import Comparison, ExportSettings, FileEvaluator, export_model, quantize, to_onnx
from edge_tl_export.search.compare import open_model
from edge_tl_runtime.core.errors import BadModelError, UsageError
from edge_tl_runtime.evaluation.evaluate import PixelReader
from edge_tl_runtime.images.datasets.dataset import load_training
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.inference.ood import (
    KEEP,
    MIN_PHOTOS,
    OODThresholds,
    energy,
    fit_ood_thresholds,
    ood_thresholds_of,
    threshold,
)
from edge_tl_runtime.modelfile.onnx import parse_spec, with_checksum
from edge_tl_runtime.modelfile.sections import OODScore
from edge_tl_runtime.modelfile.spec import ModelSpec

EXAMPLE = OODThresholds(thresholds={0.95: 2.5, 0.99: 1.25}, n=153, data="val of hymenoptera")

rows = arrays(np.float32, array_shapes(min_dims=1, max_dims=3, min_side=1), elements=st.floats(-200, 200, width=32))
temperatures = st.floats(0.05, 20)


@given(rows, temperatures)
def test_energy_is_scipys_logsumexp(logits, temperature):
    expected = temperature * logsumexp(logits.astype(np.float64) / temperature, axis=-1)
    got = energy(logits, temperature)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-9)


@given(rows, temperatures)
def test_energy_lies_within_its_bounds(logits, temperature):
    above = energy(logits, temperature) - logits.max(-1)
    assert (above >= -1e-9).all()
    assert (above <= temperature * np.log(logits.shape[-1]) + 1e-9).all()


@given(rows, temperatures, st.floats(0, 50), st.data())
def test_a_higher_logit_never_looks_less_known(logits, temperature, more, data):
    place = data.draw(st.integers(0, logits.shape[-1] - 1))
    raised = logits.astype(np.float64)
    raised[..., place] += more
    assert (energy(raised, temperature) >= energy(logits, temperature) - 1e-9).all()


@given(rows, st.floats(-100, 100), st.randoms(use_true_random=False))
def test_energy_follows_a_shift_and_ignores_the_order_of_classes(logits, shift, random):
    order = list(range(logits.shape[-1]))
    random.shuffle(order)
    np.testing.assert_allclose(energy(logits.astype(np.float64) + shift), energy(logits) + shift, atol=1e-9)
    np.testing.assert_allclose(energy(logits[..., order]), energy(logits), atol=1e-9)


@pytest.mark.parametrize("size", [1e4, 3e38])
def test_large_logits_do_not_overflow(size):
    logits = np.array([size, -size], np.float32)
    assert energy(logits) == pytest.approx(float(logits[0]))


@pytest.mark.parametrize(
    ("n", "keep", "place"),
    [
        (199, 0.95, 9),  # (1 - 0.95) * 200 = 10: the tenth lowest
        (153, 0.95, 6),  # 7.7
        (153, 0.99, 0),  # 1.54
        (20, 0.95, 0),  # 1.05
        (20, 0.99, 0),  # below one: the lowest all the same
        (1, 0.5, 0),
    ],
)
def test_a_threshold_is_the_photo_counted_by_hand(n, keep, place):
    scores = np.random.default_rng(0).permutation(n).astype(np.float64)
    assert threshold(scores, keep) == place


@given(
    arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e6, 1e6, allow_subnormal=False)),
    st.floats(0.01, 0.99),
)
def test_a_threshold_keeps_at_least_its_share_and_falls_when_more_is_kept(scores, keep):
    bound = threshold(scores, keep)
    assert (scores >= bound).mean() >= keep - 1e-9
    assert threshold(scores, min(0.999, keep + 0.01)) <= bound


def test_new_photos_of_the_same_kind_are_kept_as_often_as_promised():
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(4000, 120 + 1))
    kept = [draw[-1] >= threshold(draw[:-1], 0.95) for draw in draws]
    assert np.mean(kept) == pytest.approx(1 - 6 / 121, abs=0.012)


def test_few_photos_and_scores_that_are_no_numbers_place_no_threshold():
    logits = np.random.default_rng(0).normal(size=(MIN_PHOTOS, 3)).astype(np.float32)
    assert fit_ood_thresholds(logits[1:], "val") is None
    fitted = fit_ood_thresholds(logits, "val")
    assert (fitted.n, tuple(fitted.thresholds)) == (MIN_PHOTOS, KEEP)
    assert all(fitted.is_known(row, 0.99) for row in logits)
    logits[3, 1] = np.nan
    assert fit_ood_thresholds(logits, "val") is None


def test_a_frame_is_known_from_the_threshold_on():
    two = np.log(np.exp(2.5) / 2) * np.ones(2)
    assert EXAMPLE.is_known(two + 1e-9)
    assert not EXAMPLE.is_known(two - 1e-6)
    assert EXAMPLE.is_known(two - 1e-6, keep=0.99)
    with pytest.raises(UsageError, match=r"keeping 0\.9 of the photos; it has: 0\.95, 0\.99"):
        EXAMPLE.is_known(two, keep=0.9)


def test_it_travels_in_the_contract(color_graph, color_spec):
    spec = replace(color_spec, ood_score=EXAMPLE.section())
    read = parse_spec(with_checksum(color_graph, spec), "colors.onnx")
    assert ood_thresholds_of(read) == EXAMPLE
    assert read.to_dict()["ood_score"] == {**EXAMPLE.to_dict(), "parameters": {}}
    assert read.unused() == []
    assert ood_thresholds_of(color_spec) is None


@pytest.mark.parametrize("version", [1, 2, 3])
def test_where_earlier_releases_kept_it_is_still_read(color_spec, version):
    kept = {"familiarity": {"score": "energy", "thresholds": {"0.95": 2.5, "0.99": 1.25}, "n": 153}}
    kept["familiarity"]["data"] = "val of hymenoptera"
    spec = ModelSpec.from_dict({**color_spec.to_dict(), "version": version, "export": kept})
    assert ood_thresholds_of(spec) == EXAMPLE
    # The section of a newer release counts where both are there.
    newer = replace(EXAMPLE, thresholds={0.95: 3.0})
    assert ood_thresholds_of(replace(spec, ood_score=newer.section())) == newer


def test_a_score_of_a_later_release_is_refused_where_it_is_asked_for(color_graph, color_spec, tmp_path):
    section = OODScore(**{**EXAMPLE.to_dict(), "score": "mahalanobis"}, parameters={"layer": "pool"})
    spec = replace(color_spec, ood_score=section)
    with pytest.raises(
        BadModelError, match="'mahalanobis' is none of energy, feature_distance; upgrade edge-tl on this machine"
    ):
        ood_thresholds_of(spec)
    path = tmp_path / "colors.onnx"
    path.write_bytes(with_checksum(color_graph, spec))
    shown = CliRunner().invoke(command, [str(path)])
    assert shown.exit_code == 0
    assert "upgrade edge-tl" in shown.output


thresholds = st.floats(-1e30, 1e30)


@given(thresholds, thresholds, st.integers(MIN_PHOTOS, 2**62), st.text(st.characters(categories=["L", "Nd", "Zs"])))
def test_json_round_trip_gives_an_equal_value(first, second, n, data):
    given_ = OODThresholds(thresholds={0.99: min(first, second), 0.95: max(first, second)}, n=n, data=data)
    assert OODThresholds.from_dict(json.loads(json.dumps(given_.to_dict(), allow_nan=False))) == given_


@pytest.mark.parametrize(
    "change",
    [
        {"score": "distance"},
        {"score": ["energy"]},
        {"thresholds": {}},
        {"thresholds": [0.95, 1.0]},
        {"thresholds": {"0.95": "high"}},
        {"thresholds": {"0.95": True}},
        {"thresholds": {"0.95": float("nan")}},
        {"thresholds": {"0.95": float("inf")}},
        {"thresholds": {"0.95": 10**400}},
        {"thresholds": {"often": 1.0}},
        {"thresholds": {"1": 1.0}},
        {"thresholds": {"nan": 1.0}},
        {"thresholds": {"0.95": 1.0, "0.950": 1.0}},
        {"thresholds": {"0.95": 1.0, "0.99": 2.0}},
        {"n": MIN_PHOTOS - 1},
        {"n": 40.0},
        {"n": True},
        {"data": 3},
        {"data": "two\nlines"},
    ],
    ids=repr,
)
def test_a_damaged_document_is_refused(change):
    with pytest.raises(BadModelError, match="out-of-distribution thresholds"):
        OODThresholds.from_dict({**EXAMPLE.to_dict(), **change})


@pytest.mark.parametrize("document", [None, [], "energy", 3, {}, *({k: 1} for k in EXAMPLE.to_dict())], ids=repr)
def test_what_is_no_document_is_refused(document):
    with pytest.raises(BadModelError, match="out-of-distribution thresholds"):
        OODThresholds.from_dict(document)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """27 photos to calibrate on and 24 to evaluate on."""
    return load_training(write_patches(tmp_path_factory.mktemp("photos"), 17), val_fraction=0.5)


def pixels_of(photos):
    return np.concatenate([batch.pixels for batch in PixelReader(photos, SPEC.resize)])


def by_hand(logits):
    """The lowest energy: with fewer than 39 photos that is the threshold for both fractions."""
    return pytest.approx(float(logsumexp(logits.astype(np.float64), axis=1).min()), abs=2e-6)


@pytest.mark.parametrize("quantization", ["int8", "fp16"])
def test_each_exported_file_carries_thresholds_of_its_own_logits(photos, tmp_path, quantization):
    """Of logits: with so few photos to calibrate on there are no features to compare with."""
    calibration, validation = photos
    calibration = calibration.spread(MIN_PHOTOS - 1)
    settings = ExportSettings(quantization=quantization, max_drop=100, layers=False)
    report = export_model(
        tiny(), SPEC, tmp_path, settings, calibration=calibration, validation=validation, stage=silent
    )
    for file in report.files:
        classifier = Classifier(file.path)
        ood_thresholds = ood_thresholds_of(classifier.spec)
        assert (ood_thresholds.n, ood_thresholds.data) == (len(validation), classifier.spec.validation.data)
        assert tuple(ood_thresholds.thresholds.values()) == (by_hand(classifier.logits(pixels_of(validation))),) * 2
        shown = CliRunner().invoke(command, [str(file.path)]).output
        assert ood_thresholds.describe() in shown
        assert "thresholds" not in shown
        assert "familiarity" not in classifier.spec.export


def test_int8_has_other_thresholds_than_fp32(photos):
    calibration, validation = photos
    graph = to_onnx(tiny(), SPEC)
    comparison = Comparison(graph, SPEC.resize, FileEvaluator(validation, SPEC.resize), open_model)
    model = quantize(graph, [pixels_of(calibration)])
    row = comparison.row("int8", model, "int8")
    assert row.ood_thresholds.thresholds[0.99] == by_hand(open_model(model, "int8")(pixels_of(validation)))
    assert row.ood_thresholds.thresholds[0.99] != comparison.reference.ood_thresholds.thresholds[0.99]


def test_a_file_evaluated_on_few_photos_carries_none(photos, tmp_path):
    calibration, validation = photos
    few = validation.subset(range(MIN_PHOTOS - 1), "val")
    report = export_model(
        tiny(), SPEC, tmp_path, ExportSettings(), calibration=calibration, validation=few, stage=silent
    )
    (file,) = report.files
    assert Classifier(file.path).spec.ood_score is None
    assert "no thresholds" in CliRunner().invoke(command, [str(file.path)]).output
