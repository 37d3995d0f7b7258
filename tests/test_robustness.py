"""A whole evaluation of real files: figures that add up, pictures that fool, alarms that ring, and going on after an end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from stripes import SPEC, evaluate, patches
from stripes import graph as graph
from stripes import pair as pair
from stripes import photos as photos
from stripes import whole as whole

from edge_tl.adversarial.attacks.pgd import PGD
from edge_tl.adversarial.evaluation.checkpoint import FOLDER
from edge_tl.adversarial.evaluation.gradient_masking import EXPLANATIONS, may_be_too_high, noise_does_as_well
from edge_tl.adversarial.evaluation.report import DOCUMENT
from edge_tl.adversarial.evaluation.sweep import AttackRun, AttackSweep
from edge_tl.adversarial.settings import AttackSettings
from edge_tl_export import make_self_test
from edge_tl_export.search.compare import open_model
from edge_tl_runtime.core.errors import DataError, UsageError
from edge_tl_runtime.images.crop import crop_resize
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.modelfile.onnx import with_checksum

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_rates_add_up(whole):
    document, _ = whole
    subject = document["models_under_test"]["model"]
    for radius in ("2", "8", "32"):
        worst = subject["worst"][radius]
        best = max(line["success"][radius]["count"] for line in subject["attacks"] if line["kind"] != "control")
        assert worst["count"] <= document["clean_accuracy"]["count"] - best
        assert worst["n"] == document["n"] == 40
    counts = [subject["worst"][radius]["count"] for radius in ("0", "2", "8", "32")]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == document["clean_accuracy"]["count"] > 30
    assert counts[-1] < 5
    assert {line["route"] for line in subject["attacks"]} == {"straight-through", "BPDA", "transfer", ""}


def test_no_alarm_rings_for_an_honest_file_and_all_checks_hold(whole):
    document, _ = whole
    assert document["alarms"] == []
    assert all(check["holds"] for check in document["sanity"])
    assert document["robust_accuracy"] == document["models_under_test"]["model"]["worst"]
    assert document["faithfulness"]["holds"]
    assert document["quantization"].startswith("On the same 40 photos")
    assert document["complete"]


def test_every_example_fools_the_runner_and_is_within_its_epsilon(whole, pair):
    document, folder = whole
    classifier = Classifier(pair)
    assert document["examples"]
    for example in document["examples"]:
        clean, adversarial = (read_photo(folder / example[key]) for key in ("clean", "adversarial"))
        assert classifier.classify(clean).label == example["truth"] == example["before"]["label"]
        prediction = classifier.classify(adversarial)
        assert prediction.label == example["after"]["label"] != example["truth"]
        assert prediction.confidence == pytest.approx(example["after"]["confidence"], abs=1e-5)
        before, after = (crop_resize(frame, SPEC.resize).astype(int) for frame in (clean, adversarial))
        assert np.abs(after - before).max() == example["size"] <= example["epsilon"]


def test_outcomes_are_by_photo_and_survive_as_png(whole):
    document, _ = whole
    outcomes = document["outcomes"]
    assert len(outcomes["photos"]) == 40
    assert outcomes["model"]["robust"]["32"].count("1") == document["robust_accuracy"]["32"]["count"]
    assert document["survival"][0]["still"]["rate"] == 1
    assert document["corruptions"]["clean"]["count"] == document["clean_accuracy"]["count"]


def test_the_document_is_what_was_written_and_the_progress_is_gone(whole):
    document, folder = whole
    assert json.loads((folder / DOCUMENT).read_text("utf-8")) == json.loads(json.dumps(document))
    assert not (folder / FOLDER).exists()


def test_an_interrupted_evaluation_goes_on_and_ends_alike(whole, pair, photos, tmp_path, monkeypatch):
    expected, _ = whole
    run, calls = AttackSweep.run, []

    def interrupted(self, *arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return run(self, *arguments)

    monkeypatch.setattr(AttackSweep, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(pair, photos, tmp_path)
    monkeypatch.setattr(AttackSweep, "run", run)
    assert any((tmp_path / FOLDER).glob("*.npz"))
    with pytest.raises(UsageError, match="unfinished"):
        evaluate(pair, photos, tmp_path, seed=1)
    again = evaluate(pair, photos, tmp_path)
    assert again["outcomes"] == expected["outcomes"]
    assert again["models_under_test"] == expected["models_under_test"]


def test_a_time_limit_gives_bounds(pair, photos, tmp_path):
    document = evaluate(pair, photos, tmp_path, time_limit=1e-6)
    assert not document["complete"]
    assert document["robust_accuracy"] is None or document["robust_accuracy"]["8"]["bound"]
    assert document["robust_accuracy_withheld"] is None or document["robust_accuracy_withheld"]["8"]["bound"]
    assert "time limit" in document["notes"][0]
    assert "cannot be said" in document["quantization"]
    assert evaluate(pair, photos, tmp_path)["complete"]


def test_one_class_is_made_into_another(pair, photos, tmp_path):
    document = evaluate(pair, photos, tmp_path, source="warm 0", target="ลายเย็น", photos=0, epsilons="16,64")
    assert set(document["success_rate"]) == {"0", "16", "64"}
    assert document["success_rate"]["64"]["count"] > 0
    assert {example["after"]["label"] for example in document["examples"]} == {"ลายเย็น"}
    assert {example["truth"] for example in document["examples"]} == {"warm 0"}
    with pytest.raises(DataError, match="no photo to attack"):
        evaluate(pair, photos, tmp_path / "b", source="warm 0", target="warm 0")
    with pytest.raises(UsageError, match="is no class"):
        evaluate(pair, photos, tmp_path / "c", target="zebra")


def test_l2_attacks_stay_in_their_ball(pair, photos, tmp_path):
    document = evaluate(pair, photos, tmp_path, norm="l2", epsilons="0.5,2", photos=12)
    assert document["threat"]["unit"].startswith("L2")
    assert all(example["size"] <= example["epsilon"] for example in document["examples"])
    assert (
        document["models_under_test"]["model"]["worst"]["2"]["count"]
        <= document["models_under_test"]["model"]["worst"]["0.5"]["count"]
    )


def times_1000(nodes: list, constants: list) -> None:
    last = next(node for node in nodes if "logits" in node.output)
    last.output[0] = "small"
    constants.append(numpy_helper.from_array(np.float32(1000), "factor"))
    nodes.append(helper.make_node("Mul", ["small", "factor"], ["logits"]))


def on_planes(*steps: tuple[str, float | None]) -> Callable[[list, list], None]:
    """A graph whose pixels go through further operators, each with a constant or alone."""

    def plant(nodes: list, constants: list) -> None:
        cast = next(node for node in nodes if node.op_type == "Cast")
        end, value = cast.output[0], "cast"
        cast.output[0] = value
        added = []
        for place, (kind, constant) in enumerate(steps):
            names = [value]
            if constant is not None:
                names.append(f"planted_{place}")
                constants.append(numpy_helper.from_array(np.float32(constant), names[1]))
            value = end if place == len(steps) - 1 else f"planted_value_{place}"
            added.append(helper.make_node(kind, names, [value]))
        nodes[nodes.index(cast) + 1 : nodes.index(cast) + 1] = added

    return plant


def noisy(nodes: list, constants: list) -> None:
    cast = next(node for node in nodes if node.op_type == "Cast")
    end = cast.output[0]
    cast.output[0] = "cast"
    nodes[nodes.index(cast) + 1 : nodes.index(cast) + 1] = [
        helper.make_node("RandomNormalLike", ["cast"], ["noise"], scale=25.0),
        helper.make_node("Add", ["cast", "noise"], [end]),
    ]


def softmax(nodes: list, constants: list) -> None:
    next(node for node in nodes if "logits" in node.output).output[0] = "scores"
    nodes.append(helper.make_node("Softmax", ["scores"], ["logits"], axis=1))


# What is planted into the graph, and the alarms of which one at least must ring.
PLANTED = {
    "logits x 1000": (times_1000, {"no gradient"}),
    "a layer that rounds": (
        on_planes(("Div", 40.0), ("Round", None), ("Mul", 40.0)),
        {"no gradient", "query attack beats gradients"},
    ),
    "a layer that saturates": (
        # tanh is flat to the last bit beyond 10.
        on_planes(("Sub", 127.5), ("Mul", 40.0), ("Tanh", None), ("Mul", 70.0), ("Add", 127.5)),
        {"no gradient", "query attack beats gradients"},
    ),
    "a layer that draws": (noisy, {"answers differ"}),
    "a softmax": (softmax, {"probabilities, not logits"}),
    "an operator that is not known": (on_planes(("Atan", None), ("Mul", 128.0)), {"no way in by gradients"}),
}


def beside_the_logits(*steps: onnx.NodeProto) -> Callable[[list, list], None]:
    """A branch from the pixels to the logits. steps: from "slope", a steep random slope of every logit, to "decoy"."""

    def plant(nodes: list, constants: list) -> None:
        side, classes = SPEC.resize.height * SPEC.resize.width * 3, len(SPEC.labels)
        signs = np.random.default_rng(3).choice([-1.0, 1.0], (side, classes))
        constants.append(numpy_helper.from_array(signs.astype(np.float32), "signs"))
        last = next(node for node in nodes if "logits" in node.output)
        last.output[0] = "honest"
        nodes += [
            helper.make_node("Cast", ["pixels"], ["as_float"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Flatten", ["as_float"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "signs"], ["steep"]),
            *steps,
            helper.make_node("Add", ["honest", "decoy"], ["logits"]),
        ]
        for name in {name for node in steps for name in node.input if name.startswith("by_")}:
            constants.append(numpy_helper.from_array(np.float32(name.removeprefix("by_")), name))

    return plant


def rounds_to_zero(factor: float) -> Callable[[list, list], None]:
    """Scores stay as they were, bit for bit; a rounding's slope leads through all the same."""

    def plant(nodes: list, constants: list) -> None:
        constants.append(numpy_helper.from_array(np.int8(0), "zero"))
        beside_the_logits(
            helper.make_node("Mul", ["steep", f"by_{factor}"], ["slope"]),
            helper.make_node("QuantizeLinear", ["slope", "by_1e9", "zero"], ["rounded"]),
            helper.make_node("DequantizeLinear", ["rounded", "by_1e9", "zero"], ["decoy"]),
        )(nodes, constants)

    return plant


SAWTOOTH = beside_the_logits(
    helper.make_node("Mul", ["steep", "by_1.375"], ["slope"]),
    helper.make_node("Round", ["slope"], ["whole"]),
    helper.make_node("Sub", ["slope", "whole"], ["rest"]),
    helper.make_node("Mul", ["rest", "by_0.1"], ["decoy"]),
)
"""It moves each score by 0.05 at most, and its slope is true: for steps that are smaller than a pixel value has."""
PLANTED["a sawtooth"] = (SAWTOOTH, {"gradients do not lead where they point"})


def planted_file(graph: bytes, plant: Callable[[list, list], None], path):
    """The graph with something planted, as a model file."""
    model = onnx.load_from_string(graph)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    constants: list = []
    plant(nodes, constants)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    data = model.SerializeToString()
    # The self-test of a file that draws random numbers would fail by chance: it is given room.
    spec = replace(SPEC, self_test=make_self_test(open_model(data, "planted"), SPEC, list(patches(8, 5)[0]), "fp32"))
    assert spec.self_test is not None
    wide = replace(spec.self_test, tolerance=1e3)
    path.write_bytes(with_checksum(data, replace(spec, self_test=wide)))
    return path


@pytest.mark.parametrize("planted", PLANTED)
def test_masking_rings_its_alarm_and_withholds_the_figure(planted, graph, photos, tmp_path):
    plant, expected = PLANTED[planted]
    path = planted_file(graph, plant, tmp_path / "planted.onnx")
    document = evaluate(path, photos, tmp_path / "out")
    rung = {alarm["name"] for alarm in document["alarms"]}
    assert rung & expected, rung
    assert document["withheld"]
    # Where no photo is left, the figure cannot be too good, and is a proof.
    shown, hidden = document["robust_accuracy"] or {"0": None}, document["robust_accuracy_withheld"]
    assert hidden
    assert set(shown) | set(hidden) == {"0", "2", "8", "32"}
    assert all(rate["rate"] > 0.05 for rate in hidden.values())
    assert all(rate["rate"] <= 0.05 for radius, rate in shown.items() if radius != "0")
    assert all(rate["bound"] == (rate["count"] > 0) for radius, rate in shown.items() if radius != "0")
    assert "withheld" in document["headline"]
    assert {f"{radius:g}" for alarm in document["alarms"] for radius in alarm["epsilons"]} == set(hidden)
    assert all(alarm["explanation"] == EXPLANATIONS[alarm["name"]] for alarm in document["alarms"])


@pytest.mark.parametrize("factor", [0.01, 1.0, 100.0])
def test_a_branch_that_rounds_to_nothing_misleads_no_attack(factor, graph, photos, tmp_path):
    plain = evaluate(
        planted_file(graph, lambda nodes, constants: None, tmp_path / "plain.onnx"), photos, tmp_path / "a"
    )
    decoy = evaluate(planted_file(graph, rounds_to_zero(factor), tmp_path / "decoy.onnx"), photos, tmp_path / "b")
    assert plain["alarms"] == decoy["alarms"] == []
    assert decoy["outcomes"] == plain["outcomes"]
    assert [note for note in decoy["notes"] if note not in plain["notes"]] == [
        "FP32: 2 values inside the graph (rounded, decoy) are the same for every photo, with noise or without; "
        "they have slopes all the same, which attacks do not follow"
    ]


def test_noise_that_fools_as_many_is_no_alarm_where_no_photo_is_left():
    radii, count = (4.0, 64.0), 20

    def of(kind, *fooled):
        line = AttackRun(kind, "", kind, PGD())
        for radius, number in zip(radii, fooled, strict=True):
            line.fooled[radius] = np.arange(count) < number
        return line

    lines = [of("white-box", 6, 20), of("control", 5, 16)]
    (sign,) = noise_does_as_well(lines, radii, count)
    assert sign.radii == (4.0, 64.0)
    right = {0.0: np.ones(count, bool), 4.0: np.arange(count) >= 6, 64.0: np.zeros(count, bool)}
    assert may_be_too_high(right) == (4.0,)
    (sign,) = noise_does_as_well(lines, may_be_too_high(right), count)
    assert sign.radii == (4.0,)
    assert noise_does_as_well([of("white-box", 12, 20), lines[1]], may_be_too_high(right), count) == []


@pytest.mark.parametrize("epsilons", ["a", "0", "1.5", "-1", "300", "nan"])
def test_epsilons_that_are_none_are_refused(epsilons):
    with pytest.raises(UsageError):
        AttackSettings(epsilons=epsilons)


def test_a_budget_too_small_for_a_large_epsilon_rings_no_alarm_once_gradients_reach_it(pair, photos, tmp_path):
    document = evaluate(pair, photos, tmp_path / "few", queries=2)
    holds = {check["name"]: check["holds"] for check in document["sanity"]}
    assert holds["a large epsilon fools all: pgd"] is True
    assert holds["a large epsilon fools all: square"] is False
    assert document["alarms"] == []
