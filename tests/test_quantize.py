"""The quantizer: every rewriting keeps the function, every choice holds what it says, and nothing slips through."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from functools import cache
from itertools import product

import cv2
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from conftest import write_photo
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import nn

from edge_tl_export import ExportSettings, Quantizer, Recipe, export_model, quantize, to_onnx
from edge_tl_export.quantization.equalize import equalize
from edge_tl_export.quantization.prepare import prepare
from edge_tl_export.quantization.qdq import LATTICE, quantized_tensors
from edge_tl_export.quantization.ranges import Range, TensorRange, choose_range, observe
from edge_tl_export.quantization.recipe import CALIBRATIONS
from edge_tl_export.quantization.rounding import round_weights
from edge_tl_export.search.compare import Comparison, FileEvaluator, open_model, sqnr
from edge_tl_export.search.search import QuantizationSearch
from edge_tl_runtime.core.errors import DataError
from edge_tl_runtime.core.statistics import paired_interval
from edge_tl_runtime.images.datasets.dataset import load_training
from edge_tl_runtime.modelfile.onnx import read_spec
from edge_tl_runtime.modelfile.spec import ModelSpec, Normalization, ResizeRule

SPEC = ModelSpec(
    labels=("fine", "coarse", "flat"),
    resize=ResizeRule(height=32, width=32, crop_pct=1.0, resample="area-cubic"),
    normalization=Normalization(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)),
    arch="tiny",
)
WHOLE = Normalization(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)


class Gate(nn.Module):
    """Squeeze and excite."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = torch.nn.functional.adaptive_avg_pool2d(x, 1)
        return x * torch.nn.functional.hardsigmoid(self.wide(torch.relu(self.narrow(pooled))))


class Block(nn.Module):
    """Inverted residual."""

    def __init__(self, channels: int, activation: type[nn.Module], gate: bool) -> None:
        super().__init__()
        wide = 3 * channels
        self.path = nn.Sequential(
            nn.Conv2d(channels, wide, 1),
            nn.BatchNorm2d(wide),
            activation(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide),
            nn.BatchNorm2d(wide),
            activation(),
            *([Gate(wide)] if gate else []),
            nn.Conv2d(wide, channels, 1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.path(x)


def build(
    activation: type[nn.Module] = nn.ReLU6, gate: bool = False, extra: type[nn.Module] = nn.Identity
) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        activation(),
        Block(16, activation, gate),
        Block(16, activation, gate),
        extra(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    network.train()
    with torch.no_grad():
        for _ in range(4):
            network(torch.randn(16, 3, 32, 32))
    return network.eval()


KINDS = {
    "relu6": {},
    "relu": {"activation": nn.ReLU},
    "hard-swish and squeeze-excite": {"activation": nn.Hardswish, "gate": True},
}


@pytest.fixture(scope="module", params=list(KINDS))
def network(request) -> nn.Module:
    return build(**KINDS[request.param])


@pytest.fixture(scope="module")
def graph(network) -> bytes:
    return to_onnx(network, SPEC)


def pixels(count: int = 16, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 5, 5, 3), np.uint8)
    return np.stack([cv2.resize(x, (32, 32), interpolation=cv2.INTER_CUBIC) for x in coarse])


def run(model: bytes, given: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model).run(None, {"pixels": given})[0]


def kinds(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


@contextmanager
def silent(what: str, total: int):
    yield lambda done: None


def test_global_pooling_is_one_operator(network, graph):
    assert "GlobalAveragePool" in kinds(graph)
    assert not {"Gather", "Range", "ReduceMean", "Shape"} & set(kinds(graph))


def test_the_prepared_graph_is_the_same_function(graph):
    recipe = Recipe(pixels=False)
    prepared = ir.to_proto(prepare(graph, recipe)).SerializeToString()
    np.testing.assert_allclose(run(prepared, pixels()), run(graph, pixels()), atol=1e-5)


def test_pixels_enter_as_integers_without_a_difference_where_the_mean_is_a_whole_pixel():
    graph = to_onnx(build(), dataclasses.replace(SPEC, normalization=WHOLE))
    prepared = ir.to_proto(prepare(graph, Recipe())).SerializeToString()
    assert "Cast" not in kinds(prepared)
    np.testing.assert_allclose(run(prepared, pixels()), run(graph, pixels()), atol=1e-5)


def test_other_means_differ_at_the_border_alone():
    graph = to_onnx(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 32 * 32, 3)).eval(), SPEC)
    prepared = prepare(graph, Recipe())
    (name,) = [node.outputs[0].name for node in prepared.graph if node.op_type == "Conv"]
    found = []
    for model in (prepared, prepare(graph, Recipe(pixels=False))):
        proto = ir.to_proto(model)
        proto.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        found.append(onnxruntime.InferenceSession(proto.SerializeToString()).run([name], {"pixels": pixels()})[0])
    inner = np.s_[:, :, 1:-1, 1:-1]
    np.testing.assert_allclose(found[0][inner], found[1][inner], atol=1e-4)
    assert np.abs(found[0] - found[1]).max() < 1.0


def test_equalization_keeps_the_function_and_fills_channels():
    network = build(nn.ReLU)
    with torch.no_grad():  # a channel that uses a fiftieth of its tensor's range
        network[3].path[0].weight[5] /= 50
        network[3].path[0].bias[5] /= 50
        network[3].path[1].running_mean[5] /= 50
        network[3].path[1].running_var[5] /= 2500
        network[3].path[1].weight[5] /= 50
        network[3].path[1].bias[5] /= 50
    graph = to_onnx(network, SPEC)
    model = prepare(graph, Recipe(pixels=False))
    seen = observe(model, quantized_tensors(model), [pixels()])
    assert equalize(model, seen, 0.5) >= 3
    changed = ir.to_proto(model).SerializeToString()
    np.testing.assert_allclose(run(changed, pixels(8, 1)), run(graph, pixels(8, 1)), atol=1e-4)


def rescaled(factors: dict[int, float]) -> bytes:
    """The graph of one and the same function, with channels between two convolutions that are so many times as large."""
    network = build(nn.ReLU)
    with torch.no_grad():
        for channel, factor in factors.items():
            network[3].path[4].weight[channel] *= factor
            network[3].path[4].bias[channel] *= factor
            network[3].path[6].weight[:, channel] /= factor
    return to_onnx(network, SPEC)


@cache
def plain() -> bytes:
    """The graph as it is before any channel is made larger; made once, for it takes seconds."""
    return rescaled({})


@cache
def noise(graph: bytes, strength: float) -> float:
    given = pixels(16, 1)
    return sqnr(run(plain(), given), run(quantize(graph, [pixels(32)], Recipe(equalize=strength)), given))


def test_an_outlier_costs_nothing_once_equalized():
    planted = rescaled({2: 300.0, 7: 300.0})
    assert noise(planted, 0.0) < noise(plain(), 0.0) - 6
    for strength in (0.25, 0.5):
        assert noise(planted, strength) > noise(plain(), strength) - 1.5


@settings(max_examples=10)
@given(st.dictionaries(st.integers(0, 47), st.floats(0.1, 300), min_size=1, max_size=5), st.sampled_from([0.25, 0.5]))
def test_equalization_does_not_depend_on_scales_that_the_function_does_not_have(factors, strength):
    graph = rescaled(factors)
    model = prepare(graph, Recipe(pixels=False))
    equalize(model, observe(model, quantized_tensors(model), [pixels()]), strength)
    changed = ir.to_proto(model).SerializeToString()
    np.testing.assert_allclose(run(changed, pixels(8, 1)), run(graph, pixels(8, 1)), atol=1e-4)
    assert noise(graph, strength) > noise(plain(), strength) - 3


def test_a_channel_that_nothing_reads_takes_no_range():
    network = build(nn.ReLU)
    with torch.no_grad():
        network[3].path[4].bias[3] = 1000.0
        network[3].path[6].weight[:, 3] = 0.0
    graph = to_onnx(network, SPEC)
    int8 = quantize(graph, [pixels(32)], Recipe(equalize=0.25))
    assert sqnr(run(graph, pixels(16, 1)), run(int8, pixels(16, 1))) > 20


def test_the_same_photos_and_recipe_give_the_same_bytes(graph):
    batches = [pixels(8), pixels(8, 1)]
    recipe = Recipe(calibration="percentile", equalize=0.25)
    assert quantize(graph, batches, recipe) == quantize(graph, batches, recipe)


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_every_calibration_keeps_the_scores(graph, calibration):
    int8 = quantize(graph, [pixels(32)], Recipe(calibration=calibration))
    assert sqnr(run(graph, pixels(16, 1)), run(int8, pixels(16, 1))) > 12


@pytest.mark.parametrize(
    "changes",
    [
        {"per_channel": False},
        {"weight_bits": 7},
        {"activations": "int8"},
        {"hard_swish": False},
        {"rounding": "nearest"},
    ],
    ids=str,
)
def test_every_choice_keeps_the_scores(graph, changes):
    int8 = quantize(graph, [pixels(32)], Recipe(**changes))
    assert sqnr(run(graph, pixels(16, 1)), run(int8, pixels(16, 1))) > 12


def test_nothing_but_integers_is_left_between_pixels_and_scores(network, graph, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    onnxruntime.InferenceSession(quantize(graph, [pixels()]), options)
    fused = {node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node}
    assert not {"Conv", "FusedConv", "HardSigmoid", "Mul", "Add", "Relu", "Clip", "Gemm", "Cast"} & fused


def test_weights_of_seven_bits_cannot_saturate_a_pair_of_products(graph):
    int8 = onnx.load_from_string(quantize(graph, [pixels()], Recipe(weight_bits=7)))
    weights = [
        numpy_helper.to_array(t) for t in int8.graph.initializer if t.data_type == onnx.TensorProto.INT8 and t.dims
    ]
    assert max(np.abs(w.astype(int)).max() for w in weights) <= 63
    assert 2 * 255 * 63 <= 2**15 - 1


def test_sums_stay_clear_of_ties_that_processors_round_differently(graph):
    model = onnx.load_from_string(quantize(graph, [pixels()], Recipe(calibration="percentile")))
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    source = {output: node for node in model.graph.node for output in node.output}
    reader = {name: node for node in model.graph.node for name in node.input}
    additions = [node for node in model.graph.node if node.op_type == "Add"]
    assert len(additions) == 2
    a, b = np.meshgrid(np.arange(-255, 256), np.arange(-255, 256))
    for node in additions:
        first, second = (float(constants[source[name].input[1]]) for name in node.input)
        result = float(constants[reader[node.output[0]].input[1]])
        exact = a * (first / result) + b * (second / result)
        assert np.abs(exact - np.floor(exact) - 0.5).min() > 0.9 / (2 * LATTICE)


def test_a_channel_without_weights_has_a_bias_that_fits():
    network = build()
    with torch.no_grad():
        network[0].weight[3] = 0
        network[1].running_var[3], network[1].running_mean[3], network[1].bias[3] = 1, 0, 5.0
    graph = to_onnx(network, SPEC)
    int8 = quantize(graph, [pixels()])
    biases = [
        numpy_helper.to_array(t)
        for t in onnx.load_from_string(int8).graph.initializer
        if t.data_type == onnx.TensorProto.INT32
    ]
    assert max(np.abs(b.astype(np.int64)).max() for b in biases) <= 2**29
    assert sqnr(run(graph, pixels(8, 1)), run(int8, pixels(8, 1))) > 12


def seen_as(sample: np.ndarray) -> TensorRange:
    """One channel of one photo."""
    low, high = np.array([sample.min()]), np.array([sample.max()])
    return TensorRange(low, high, low, high, sample)


@given(
    values=st.lists(st.floats(-50, 50, width=32), min_size=40, max_size=200),
    method=st.sampled_from(CALIBRATIONS),
)
def test_ranges_hold_zero_and_stay_within_what_was_seen(values, method):
    sample = np.asarray(values, np.float32)
    chosen = choose_range(seen_as(sample), method)
    full = Range.around(float(sample.min()), float(sample.max()))
    assert chosen.low <= 0 <= chosen.high
    assert chosen.high > chosen.low
    assert full.low - 1e-6 <= chosen.low
    assert chosen.high <= full.high + 1e-6


@pytest.mark.parametrize("freedom", [2, 3, 8])
def test_the_mse_range_errs_hardly_more_than_the_best_of_a_grid(freedom):
    sample = np.random.default_rng(0).standard_t(freedom, 20_000).astype(np.float32)
    seen = seen_as(sample)

    def error(span: Range) -> float:
        step = (span.high - span.low) / 255
        zero = np.rint(-span.low / step)
        integers = np.clip(np.rint(sample / step) + zero, 0, 255)
        return float((((integers - zero) * step - sample) ** 2).mean())

    full = choose_range(seen, "minmax")
    fractions = np.linspace(0.05, 1, 20)
    best = min(error(Range(full.low * a, full.high * b)) for a in fractions for b in fractions)
    assert error(choose_range(seen, "mse")) < 1.1 * best


@given(seed=st.integers(0, 10_000))
def test_rounding_by_descent_is_never_worse_than_to_the_nearest(seed):
    rows, steps, covariance = rounding_problem(seed)
    nearest = error_of(rows, steps, covariance, round_weights(rows, steps, 7, None))
    descent = error_of(rows, steps, covariance, round_weights(rows, steps, 7, covariance))
    assert (descent <= nearest + 1e-12).all()


def test_rounding_by_descent_goes_most_of_the_way_to_the_best_rounding():
    nearest, descent, best = 0.0, 0.0, 0.0
    for seed in range(40):
        rows, steps, covariance = rounding_problem(seed)
        start = round_weights(rows, steps, 7, None)
        tried = [np.clip(start + offset, -7, 7) for offset in product((-1, 0, 1), repeat=4)]
        best += np.min([error_of(rows, steps, covariance, integers) for integers in tried], axis=0).sum()
        nearest += error_of(rows, steps, covariance, start).sum()
        descent += error_of(rows, steps, covariance, round_weights(rows, steps, 7, covariance)).sum()
    assert descent - best < 0.3 * (nearest - best)


def rounding_problem(seed: int):
    """Three rows of four weights, and inputs that agree with each other, as neighbouring pixels do."""
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(4, 4)) + 2.0
    rows = generator.normal(size=(3, 4))
    return rows, np.abs(rows).max(1) / 7, (mixing @ mixing.T + 0.05 * np.eye(4))[None]


def error_of(rows, steps, covariance, integers):
    error = rows - integers * steps[:, None]
    return np.einsum("rk,kl,rl->r", error, covariance[0], error)


def test_a_layer_kept_in_float_stays_float(graph):
    quantizer = Quantizer(graph, [pixels()])
    name = quantizer.layers(Recipe())[2]
    model = onnx.load_from_string(quantizer.make(Recipe(float_nodes=(name,))))
    (layer,) = [node for node in model.graph.node if node.name == name]
    assert layer.input[1] in {tensor.name for tensor in model.graph.initializer}
    assert sqnr(run(graph, pixels(8, 1)), run(model.SerializeToString(), pixels(8, 1))) > 12


def photos_in(root, count: int, paint=None):
    generator = np.random.default_rng(0)
    for label, side in zip(SPEC.labels, (24, 6, 2), strict=True):
        (root / label).mkdir(parents=True)
        for number in range(count):
            coarse = (
                generator.integers(0, 256, (side, side, 3), np.uint8)
                if paint is None
                else np.full((2, 2, 3), paint, np.uint8)
            )
            write_photo(root / label / f"{number}.png", cv2.resize(coarse, (48, 48), interpolation=cv2.INTER_CUBIC))
    return load_training(root)


def test_a_search_judges_what_it_hands_over_and_knows_each_layer(tmp_path):
    _, validation = photos_in(tmp_path / "photos", 20)
    network = build()
    graph = to_onnx(network, SPEC)
    judge = FileEvaluator(validation, SPEC.resize)
    comparison = Comparison(graph, SPEC.resize, judge, open_model, max_drop=1.0)
    search = QuantizationSearch(Quantizer(graph, [pixels(32)]), pixels(16, 1), comparison, "x86-vnni")
    search.full()
    assert len(search.candidates) >= 12
    assert all(candidate.row is not None for candidate in search.candidates)
    assert {candidate.name for candidate in search.front} <= {candidate.name for candidate in search.candidates}
    layers = search.sensitivity(Recipe())
    assert sorted(layer.place for layer in layers) == list(range(8))
    assert [layer.sqnr for layer in layers] == sorted(layer.sqnr for layer in layers)
    paired = search.candidates[0].row.paired
    answers = run(search.candidates[0].model, np.stack([judge.pixels(i) for i in range(len(validation))]))
    assert tuple(np.flatnonzero(answers.argmax(1) != judge.reference.argmax(1))) == paired.changed


def test_no_int8_file_is_written_that_loses_more_than_allowed(tmp_path, monkeypatch):
    calibration, validation = photos_in(tmp_path / "photos", 20)
    settings = ExportSettings(quantization="int8", max_drop=0, layers=False)
    monkeypatch.setattr(
        "edge_tl_export.search.compare.CandidateRow.is_accurate", property(lambda row: row.precision != "int8")
    )
    (tmp_path / "model-int8.onnx").write_bytes(b"of an earlier export")
    report = export_model(
        build(), SPEC, tmp_path, settings, calibration=calibration, validation=validation, stage=silent
    )
    assert report.files[-1].row.precision != "int8"
    assert not (tmp_path / "model-int8.onnx").exists()
    assert "INT8 was not written" in report.refused
    assert len(report.tried) > 8


def test_photos_of_one_colour_do_not_calibrate(tmp_path):
    calibration, validation = photos_in(tmp_path / "photos", 6, paint=0)
    with pytest.raises(DataError, match="of one colour"):
        export_model(
            build(),
            SPEC,
            tmp_path / "out",
            ExportSettings(quantization="int8"),
            calibration=calibration,
            validation=validation,
            stage=silent,
        )
    assert not list((tmp_path / "out").iterdir())


def test_few_photos_are_warned_of_and_an_operator_without_integers_stays_float(tmp_path):
    calibration, validation = photos_in(tmp_path / "photos", 4)
    report = export_model(
        build(extra=nn.Softplus),
        SPEC,
        tmp_path,
        ExportSettings(quantization="int8", calibration_size=3, max_drop=100, layers=False, target="arm"),
        calibration=calibration,
        validation=validation,
        stage=silent,
    )
    warnings = " ".join(report.warnings)
    assert "only 3 photos to calibrate on" in warnings
    assert "Softplus" in warnings
    if report.files[-1].row.precision == "int8":
        assert read_spec(report.files[-1].path).export["target"] == "arm"


def test_a_file_of_other_weights_does_not_stay_beside_the_new_one(tmp_path):
    calibration, validation = photos_in(tmp_path / "photos", 12)
    settings = ExportSettings(quantization="fp16")
    folder = tmp_path / "out"
    parts = {"calibration": calibration, "validation": validation, "stage": silent}
    export_model(build(), SPEC, folder, settings, **parts)
    export_model(build(), SPEC, folder, ExportSettings(), **parts)
    assert (folder / "model-fp16.onnx").exists()  # the same weights, so it is still of this model
    export_model(build(nn.ReLU), SPEC, folder, ExportSettings(), **parts)
    assert not (folder / "model-fp16.onnx").exists()


def test_intervals_of_a_paired_difference_hold_what_a_bootstrap_says():
    generator = np.random.default_rng(0)
    outcome = generator.choice([1, -1, 0], size=400, p=[0.06, 0.03, 0.91])
    drawn = generator.choice(outcome, size=(4000, 400)).mean(1)
    low, high = paired_interval(int((outcome == 1).sum()), int((outcome == -1).sum()), 400)
    assert np.allclose([low, high], np.percentile(drawn, [2.5, 97.5]), atol=0.006)
