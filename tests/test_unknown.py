"""What a file does not know: the distance of features against others' arithmetic, in the file, on the device, in every answer."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from scipy.spatial.distance import mahalanobis
from stripes import SPEC, Made, patches, write_stripes
from stripes import data as data

import edge_tl as et
from edge_tl.cli import cli
from edge_tl.cli.console import silent
from edge_tl.report.export.page import write_export_page
from edge_tl_export import ExportSettings, export_model
from edge_tl_export.detection.trials import blurred, empty_pictures
from edge_tl_export.onnx_graph.feature_output import with_features, without_features
from edge_tl_runtime.core.errors import BadModelError
from edge_tl_runtime.evaluation.evaluate import PixelReader
from edge_tl_runtime.images.datasets.dataset import load_labelled
from edge_tl_runtime.inference.classifier import INPUT_NAME, OUTPUT_NAME, Classifier, SessionSettings, open_session
from edge_tl_runtime.inference.feature_distance import SHRINK, FeatureDistance, fit_feature_distance
from edge_tl_runtime.modelfile.onnx import with_checksum
from edge_tl_runtime.pipeline.decision import UNKNOWN

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def exported(stripes: Made, data, tmp_path_factory):
    """The report of an export with INT8, of a network that was really trained. Read only."""
    parts = [load_labelled(data, SPEC.labels, part) for part in ("train", "val")]
    settings = ExportSettings(quantization="int8", max_drop=100, layers=False)
    folder = tmp_path_factory.mktemp("exported")
    spec = replace(SPEC, training={"data": data.name})
    strange = [np.random.default_rng(3).integers(0, 256, (6, 6, 3), np.uint8).repeat(20, 0).repeat(20, 1)] * 2
    return export_model(
        stripes.network,
        spec,
        folder,
        settings,
        calibration=parts[0],
        validation=parts[1],
        stage=silent,
        foreign=strange,
    )


@pytest.fixture(scope="module", params=["fp32", "int8"])
def file(request, exported):
    found = [item for item in exported.files if item.row.precision == request.param]
    if not found:  # INT8 may be slower here, and is not written then
        pytest.skip(f"{request.param} was not written: {exported.refused}")
    return found[0]


def test_the_distance_is_mahalanobis_of_unit_features_to_the_nearest_class():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 300)
    features = rng.normal(0, 1, (300, 5)) * [1, 2, 0.5, 1, 1] + 4 * np.eye(5)[targets]
    fitted = fit_feature_distance(features, targets, rank=5)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    means = np.stack([unit[targets == label].mean(0) for label in range(3)])
    within = unit - means[targets]
    covariance = within.T @ within / (300 - 3)
    shrunk = (1 - SHRINK) * covariance + SHRINK * np.trace(covariance) / 5 * np.eye(5)
    inverse = np.linalg.inv(shrunk)
    new = rng.normal(0, 2, (40, 5))
    expected = [-min(mahalanobis(row / np.linalg.norm(row), mean, inverse) ** 2 for mean in means) for row in new]
    np.testing.assert_allclose(fitted.scores(new), expected, rtol=1e-3)
    np.testing.assert_allclose(fitted.scores(7 * new), fitted.scores(new), rtol=1e-4)  # length says nothing


def test_what_lies_outside_the_directions_of_known_photos_counts():
    rng = np.random.default_rng(0)
    known = np.zeros((200, 40))
    known[:, :6] = 3 + rng.normal(0, 1, (200, 6))
    fitted = fit_feature_distance(known, np.zeros(200, np.int64), rank=6)
    aside = known[:50].copy()
    aside[:, 20] = 6.0
    assert fitted.scores(aside).max() < fitted.scores(known).min()


@pytest.mark.parametrize("row", [np.zeros(5), np.full(5, np.nan), [np.inf, 0, 0, 0, 0], np.full(5, 1e-12)])
def test_features_that_are_none_are_like_nothing(row):
    rng = np.random.default_rng(0)
    fitted = fit_feature_distance(rng.normal(2, 1, (60, 5)), np.arange(60) % 2, rank=3)
    scores = fitted.scores(np.stack([np.asarray(row, float), np.full(5, 2.0)]))
    assert scores[0] == -np.inf
    assert np.isfinite(scores[1])


@given(st.integers(2, 60), st.integers(20, 90), st.integers(2, 6), st.integers(1, 64), st.integers(0, 2**31))
def test_what_the_contract_keeps_scores_the_same(width, count, classes, rank, seed):
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % classes
    features = rng.gamma(1.0, 1.0, (count, width)) + rng.gamma(1.0, 1.0, (classes, width))[targets]
    fitted = fit_feature_distance(features, targets, rank)
    document = json.loads(json.dumps(fitted.parameters()))
    read = FeatureDistance.from_parameters(document)
    scores = fitted.scores(features)
    assert np.isfinite(scores).all()
    assert np.corrcoef(scores, read.scores(features))[0, 1] > 0.95 or np.ptp(scores) < 1e-3 * np.abs(scores).max()


def test_few_photos_and_photos_without_features_give_no_distance():
    features = np.random.default_rng(0).normal(1, 1, (30, 8))
    features[:11] = 0
    assert fit_feature_distance(features, np.zeros(30, np.int64), 4) is None
    assert fit_feature_distance(features[11:], np.zeros(19, np.int64), 4) is None


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("basis", lambda value: {**value, "shape": value["shape"][::-1]}),
        ("mean", lambda value: {**value, "data": value["data"][:-8]}),
        ("centres", lambda value: None),
        ("outside", lambda value: 0.0),
        ("outside", lambda value: float("nan")),
        ("whiten", lambda value: 3.0),
        ("basis_scale", lambda value: {**value, "dtype": "float64"}),
    ],
)
def test_damaged_parameters_are_refused(name, change):
    features = np.random.default_rng(0).normal(1, 1, (60, 8))
    parameters = fit_feature_distance(features, np.arange(60) % 2, 4).parameters()
    parameters[name] = change(parameters[name])
    with pytest.raises(BadModelError):
        FeatureDistance.from_parameters(parameters)


def test_the_second_output_is_what_the_head_sees_and_the_first_is_unchanged(stripes: Made):
    model, width = with_features(stripes.graph)
    pixels = patches(12, 4)[0]
    session = open_session(model, "test", SessionSettings())
    logits, features = session.run([OUTPUT_NAME, "features"], {INPUT_NAME: pixels})
    before = open_session(stripes.graph, "test", SessionSettings()).run([OUTPUT_NAME], {INPUT_NAME: pixels})[0]
    np.testing.assert_array_equal(logits, before)
    inputs = (torch.from_numpy(pixels).float().permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    with torch.no_grad():
        expected = torch.nn.Sequential(*list(stripes.network)[:-1])(inputs).numpy()
    assert features.shape == (12, width) == expected.shape
    np.testing.assert_allclose(features, expected, atol=1e-4)
    again = open_session(without_features(model), "test", SessionSettings())
    assert [value.name for value in again.get_outputs()] == [OUTPUT_NAME]
    np.testing.assert_array_equal(again.run(None, {INPUT_NAME: pixels})[0], before)
    assert without_features(stripes.graph) == stripes.graph


def test_export_tells_what_the_file_notices(file, data):
    """The counts of the report against the file opened as the device opens it."""
    classifier = Classifier(file.path)
    is_known = classifier.is_known(0.99)

    def unknown(pixels):
        return sum(
            not is_known(row)
            for start in range(0, len(pixels), 8)
            for row in classifier.answers(pixels[start : start + 8])[1]
        )

    held = load_labelled(data, SPEC.labels, "val")
    pixels = np.concatenate([batch.pixels for batch in PixelReader(held, SPEC.resize)])
    told = {trial.kind: (trial.noticed, trial.n) for trial in file.detection.trials}
    for kind, pictures in empty_pictures(SPEC.resize).items():
        assert told[kind] == (unknown(pictures), len(pictures))
    assert told["photos blurred beyond recognition"] == (unknown(blurred(pixels[::3][:50])), 50)
    assert told["foreign photographs"][1] == 2
    assert file.detection.kept.n == 390  # both parts: a photo is scored by statistics of the others
    assert 0.98 * 390 - 1 <= file.detection.kept.noticed <= 390
    assert unknown(pixels) <= 5
    assert told["plain colours"][0] == told["plain colours"][1]


def test_new_photos_stay_known_and_noise_does_not(file):
    classifier = Classifier(file.path)
    pixels, _ = patches(400, 77)
    evidence = np.concatenate([classifier.answers(pixels[i : i + 8])[1] for i in range(0, 400, 8)])
    known = np.mean([classifier.is_known(0.95)(row) for row in evidence])
    assert 0.88 <= known <= 1  # 95 % of 150 photos placed the threshold: five standard deviations on either side
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
    assert not any(classifier.is_known(0.99)(row) for row in classifier.answers(noise)[1][:8])


def test_every_answer_says_unknown(file, data, tmp_path):
    grey = tmp_path / "grey.png"
    cv2.imwrite(str(grey), np.full((40, 40, 3), 128, np.uint8))
    photo = sorted((data / "train" / SPEC.labels[0]).iterdir())[0]
    model = et.load(file.path)
    assert model.predict(grey).label == UNKNOWN
    assert not model.predict(grey).known
    assert model.predict(grey, unknown=0).label in SPEC.labels
    assert model.predict(photo).known
    shown = CliRunner().invoke(cli, ["predict", str(file.path), str(grey)]).output
    assert shown.startswith(f"{grey}: unknown  (")
    line = json.loads(CliRunner().invoke(cli, ["predict", "--json", str(file.path), str(grey)]).output)
    assert (line["label"], line["known"], line["top"][0]["label"] in SPEC.labels) == ("unknown", False, True)
    for batch in (1, 4):
        (result,) = model.stream(grey, batch=batch)
        assert (result.label, result.decision.known) == (UNKNOWN, False)
    (result,) = model.stream(grey, unknown=0)
    assert result.label in SPEC.labels


def test_an_evaluation_counts_what_would_be_called_unknown(file, data, tmp_path):
    write_stripes(tmp_path, 37, 5)
    for level in (20, 120, 220):
        cv2.imwrite(str(tmp_path / SPEC.labels[1] / f"grey{level}.png"), np.full((40, 40, 3), level, np.uint8))
    evaluation = et.load(file.path).evaluate(tmp_path, split="all")
    counted = evaluation.unknown
    assert (counted.keep, counted.n) == (0.99, 40)
    assert 3 <= counted.count <= 6
    assert counted.right <= counted.count
    shown = CliRunner().invoke(cli, ["evaluate", str(file.path), str(tmp_path), "--split", "all"]).output
    assert counted.describe() in shown
    assert f"{counted.count} of 40 photos (" in shown


def test_the_detector_takes_a_small_part_of_the_file(exported):
    for file in exported.files:
        spec = Classifier(file.path).spec
        arrays = sum(len(value["data"]) for value in spec.ood_score.parameters.values() if not isinstance(value, float))
        assert arrays <= 0.05 * file.path.stat().st_size


def test_a_contract_that_names_features_that_the_graph_lacks_is_refused(exported, stripes: Made, tmp_path):
    spec = Classifier(exported.files[0].path).spec
    path = tmp_path / "model.onnx"
    path.write_bytes(with_checksum(stripes.graph, spec))
    with pytest.raises(BadModelError, match="second output"):
        Classifier(path)
    path.write_bytes(with_checksum(with_features(stripes.graph)[0], replace(spec, features=None, ood_score=None)))
    with pytest.raises(BadModelError, match="output does not fit"):
        Classifier(path)


def test_the_page_of_an_export_shows_what_is_called_unknown(exported):
    page = write_export_page(exported, SPEC).read_text("utf-8")
    for file in exported.files:
        for trial in file.detection.trials:
            assert f"<td>{trial.kind}</td>" in page
            assert f">{trial.noticed} of {trial.n}</td>" in page


def test_an_adopted_file_learns_from_photos_what_is_unknown_to_it(stripes: Made, data, tmp_path):
    """The original: the same network without pixels in front, as another tool would have written it."""
    plain = onnx.load_from_string(stripes.graph)
    (first,) = [node for node in plain.graph.node if node.op_type == "Conv"][:1]
    (tmp_path / "whole.onnx").write_bytes(stripes.graph)
    original, labels = tmp_path / "original.onnx", tmp_path / "labels.txt"
    onnx.utils.extract_model(
        str(tmp_path / "whole.onnx"), str(original), [first.input[0]], [OUTPUT_NAME], check_model=False
    )
    foreign = onnx.load(original)
    del foreign.metadata_props[:]
    values = helper.make_tensor_value_info(first.input[0], TensorProto.FLOAT, ["N", 3, 32, 32])
    foreign.graph.input[0].CopyFrom(values)
    onnx.save(foreign, original)
    labels.write_text("\n".join(SPEC.labels), "utf-8")
    given = ["--labels", labels, "--mean", "0.5", "--std", "0.25", "--crop-pct", "0.875"]

    def adopted(name: str, *more: object) -> tuple[str, Classifier]:
        arguments = ["adopt", original, "-o", tmp_path / name, *given, *more]
        done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        assert done.exit_code == 0, done.output
        return done.output, Classifier(tmp_path / name)

    said, classifier = adopted("told.onnx", "--photos", data)
    assert "measured: it calls unknown: 16 of 16 plain colours" in said
    grey, known = np.full((40, 40, 3), 128, np.uint8), patches(60, 9)[0]
    assert not classifier.classify(grey, keep=classifier.keep(None)).known
    assert np.mean([classifier.is_known(0.99)(row) for row in classifier.answers(known)[1]]) > 0.9
    thresholds = classifier.detector.thresholds
    assert (thresholds.n, thresholds.data) == (390, data.name)
    assert adopted("untold.onnx")[1].detector is None
    few = tmp_path / "few"
    write_stripes(few, 40, 5)
    said, classifier = adopted("few.onnx", "--photos", few)
    assert "not known: what shows none of its classes: 40 photos are too few to learn it from; 60 are the least" in said
    assert classifier.detector is None
