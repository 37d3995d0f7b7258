"""What files from elsewhere take and give, in the forms that exporters write: the answers stay the original's."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pytest
from adopted import MEAN, SPEC, STD, probabilities, spec, taken, values
from foreign import CLASSES, LABELS, SIZE, Graph, answers, classifier, pixels, softmax
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edge_tl_export.adoption.adopt import Choices, adopt
from edge_tl_runtime.core.errors import BadModelError, UsageError
from edge_tl_runtime.modelfile.spec import Normalization

PLAIN = Normalization(mean=(0.0,) * 3, std=(1.0,) * 3)


# Activations


def softmax_in_full(graph, x):
    top = graph.op("ReduceMax", x, axes=[1], keepdims=1)
    e = graph.op("Exp", graph.op("Sub", x, top))
    return graph.op("Div", e, graph.op("ReduceSum", e, graph.store([1], np.int64), keepdims=1))


def softmax_by_powers(graph, x):
    """No operator that anyone would look for."""
    e = graph.op("Pow", graph.store(np.e), x)
    return graph.op("Div", e, graph.op("ReduceSum", e, graph.store([1], np.int64), keepdims=1))


def softmax_in_a_branch(graph, x):
    then = helper.make_graph(
        [helper.make_node("Softmax", [x], ["p"], axis=1)], "t", [], [helper.make_tensor_value_info("p", 1, None)]
    )
    other = helper.make_graph(
        [helper.make_node("Identity", [x], ["q"])], "e", [], [helper.make_tensor_value_info("q", 1, None)]
    )
    return graph.op("If", graph.store(True, bool), then_branch=then, else_branch=other)


def shaped(operator):
    def tail(graph, x):
        p = graph.op("Softmax", x, axis=1)
        if operator == "Reshape":
            return graph.op("Reshape", p, graph.store([-1, CLASSES], np.int64))
        if operator == "Squeeze":
            p = graph.op("Unsqueeze", p, graph.store([2, 3], np.int64))
            return graph.op("Squeeze", p, graph.store([2, 3], np.int64))
        if operator == "Transpose":
            return graph.op("Transpose", graph.op("Transpose", p, perm=[1, 0]), perm=[1, 0])
        if operator == "Cast":
            return graph.op("Cast", graph.op("Cast", p, to=TensorProto.DOUBLE), to=TensorProto.FLOAT)
        if operator == "Dropout":
            return graph.op("Dropout", p)
        return graph.op(operator, p)

    return tail


def percent(graph, x):
    return graph.op("Mul", graph.op("Softmax", x, axis=1), graph.store(100.0))


def cool(graph, x):
    return graph.op("Softmax", graph.op("Div", x, graph.store(2.5)), axis=1)


CUT = {
    "softmax": lambda g, x: g.op("Softmax", x, axis=1),
    "last axis": lambda g, x: g.op("Softmax", x, axis=-1),
    **{f"softmax, {name}": shaped(name) for name in ("Identity", "Flatten", "Reshape", "Squeeze", "Transpose")},
    **{f"softmax, {name}": shaped(name) for name in ("Cast", "Dropout")},
    "in full": softmax_in_full,
    "percent": percent,
    "temperature": cool,
}
LOGGED = {"by powers": softmax_by_powers, "in a branch": softmax_in_a_branch}


@pytest.mark.parametrize("kind", [*CUT, *LOGGED])
def test_probabilities_are_the_originals(kind, tmp_path):
    model = classifier({**CUT, **LOGGED}[kind])
    adopted, ours = taken(model, tmp_path)
    expected = answers(model, values(pixels()))
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities(ours, pixels()), expected, atol=1e-5)
    said = " ".join(adopted.notes.changed)
    assert ("was cut off" in said) == (kind in CUT)
    assert ("logarithm" in said) == (kind in LOGGED)


@pytest.mark.parametrize(
    "tail",
    [
        lambda g, x: g.op("LogSoftmax", x, axis=1),
        lambda g, x: g.op("Identity", g.op("LogSoftmax", x, axis=1)),
        lambda g, x: g.op("Log", g.op("Softmax", x, axis=1)),
        lambda g, x: g.op("Sub", x, g.op("ReduceLogSumExp", x, axes=[1], keepdims=1)),
    ],
    ids=["log-softmax", "behind identity", "log of softmax", "in full"],
)
def test_logarithms_of_probabilities_are_logits(tail, tmp_path):
    model = classifier(tail)
    _, ours = taken(model, tmp_path)
    np.testing.assert_allclose(probabilities(ours, pixels()), np.exp(answers(model, values(pixels()))), atol=1e-5)


@pytest.mark.parametrize("operator", ["Tanh", "Identity"])
def test_logits_that_happen_to_lie_between_0_and_1_stay_and_are_named(operator, tmp_path):
    def squeezed(graph, x):
        scale = graph.store(0.4 if operator == "Tanh" else 0.01)
        return graph.op("Add", graph.op("Mul", graph.op(operator, x), scale), graph.store(0.5))

    model = classifier(squeezed)
    if operator == "Tanh":  # a sigmoid in disguise looks the same
        with pytest.raises(UsageError, match=r"Tanh.*cannot be told.*--scores sigmoid.*--scores logits"):
            adopt(model.SerializeToString(), SPEC)
    adopted, ours = taken(model, tmp_path, scores="logits" if operator == "Tanh" else "auto")
    np.testing.assert_allclose(ours.logits(pixels()), answers(model, values(pixels())), atol=1e-5)
    assert any("lie in 0..1" in line for line in adopted.notes.unknown)


@pytest.mark.parametrize("cut", [True, False])
def test_a_sigmoid_for_each_class_keeps_their_order_and_says_what_it_cannot_keep(cut, tmp_path):
    def hidden(graph, x):  # 1 / (1 + exp(-x))
        one = graph.store(1.0)
        return graph.op("Div", one, graph.op("Add", one, graph.op("Exp", graph.op("Neg", x))))

    model = classifier((lambda g, x: g.op("Identity", g.op("Sigmoid", x))) if cut else hidden)
    adopted, ours = taken(model, tmp_path, scores="auto" if cut else "sigmoid")
    expected = answers(model, values(pixels()))
    np.testing.assert_allclose(1 / (1 + np.exp(-ours.logits(pixels()).astype(float))), expected, atol=1e-5)
    assert any("sigmoid of its own" in line for line in adopted.notes.changed)


@pytest.mark.parametrize("activation", ["", "Sigmoid", "hidden"])
def test_one_score_for_two_classes_becomes_two(activation, tmp_path):
    graph = Graph()
    out = graph.body("image", classes=1)
    if activation == "Sigmoid":
        out = graph.op("Sigmoid", out)
    elif activation == "hidden":
        half = graph.store(0.5)
        out = graph.op("Add", graph.op("Mul", graph.op("Tanh", graph.op("Mul", out, half)), half), half)
    model = graph.model([out])
    scores = "probabilities" if activation == "hidden" else "auto"
    adopted, ours = taken(model, tmp_path, spec(("no", "yes")), scores=scores)
    expected = answers(model, values(pixels()))[:, 0]
    if not activation:
        expected = 1 / (1 + np.exp(-expected))
    np.testing.assert_allclose(probabilities(ours, pixels())[:, 1], expected, atol=1e-5)
    assert any("second label" in line for line in adopted.notes.recognised)


@pytest.mark.parametrize("operator", ["ArgMax", "TopK", "TopK values"])
def test_what_only_ranks_the_scores_is_cut_off(operator, tmp_path):
    graph = Graph()
    out = graph.body("image")
    probability = graph.op("Softmax", out, axis=1)
    if operator == "ArgMax":
        end, kind = graph.op("ArgMax", probability, axis=1, keepdims=0), TensorProto.INT64
    else:
        end = graph.op("TopK", probability, graph.store([3], np.int64), outputs=2, axis=1)
        end, kind = (end, TensorProto.FLOAT) if "values" in operator else (end[:-1] + "1", TensorProto.INT64)
    model = graph.model([end])
    model.graph.output[0].type.tensor_type.elem_type = kind
    _, ours = taken(model, tmp_path)
    plain = graph.model([probability])
    np.testing.assert_allclose(probabilities(ours, pixels()), answers(plain, values(pixels())), atol=1e-5)


# Shapes and types of the output


@pytest.mark.parametrize("shape", [(0, CLASSES, 1, 1), (0, 1, 1, CLASSES), (0, 1, CLASSES), (CLASSES,)], ids=str)
def test_scores_of_other_shapes_are_flattened(shape, tmp_path):
    one = len(shape) == 1
    model = classifier(
        lambda g, x: g.op("Reshape", x, g.store(shape, np.int64)),
        shape=(1 if one else "N", 3, SIZE, SIZE),
    )
    _, ours = taken(model, tmp_path)
    np.testing.assert_allclose(ours.logits(pixels()), answers(model, values(pixels())), atol=1e-5)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE], ids=["half", "double"])
def test_other_precisions_are_taken_and_given(kind, tmp_path):
    graph = Graph(kind=kind)
    if kind == TensorProto.DOUBLE:  # onnxruntime has no convolution of doubles
        rows = graph.op("Flatten", graph.op("Relu", "image"))
        out = graph.op("MatMul", rows, graph.store(graph.random.normal(0, 0.1, (3 * SIZE * SIZE, CLASSES))))
    else:
        out = graph.body("image")
    model = graph.model([out])
    _, ours = taken(model, tmp_path)
    expected = answers(model, values(pixels()).astype(graph.dtype))
    np.testing.assert_allclose(ours.logits(pixels()), expected, atol=3e-2 if kind == TensorProto.FLOAT16 else 1e-4)
    assert ours.spec.precision == ("fp16" if kind == TensorProto.FLOAT16 else "fp32")


@pytest.mark.parametrize(
    "kind", [TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32], ids=["uint8", "int8", "int32"]
)
def test_whole_numbers_get_the_pixels_as_they_are(kind, tmp_path):
    graph = Graph()
    real = graph.op("Mul", graph.op("Cast", "image", to=TensorProto.FLOAT), graph.store(1 / 64))
    model = graph.model([graph.body(real)], kind=kind)
    _, ours = taken(model, tmp_path)
    x = pixels().astype(int).transpose(0, 3, 1, 2) - (128 if kind == TensorProto.INT8 else 0)
    expected = answers(model, x.astype(helper.tensor_dtype_to_np_dtype(kind)))
    np.testing.assert_allclose(ours.logits(pixels()), expected, atol=1e-4)
    assert ours.spec.normalization.std == (1 / 255,) * 3


# The picture


def test_channels_may_come_last(tmp_path):
    graph = Graph()
    model = graph.model([graph.body(graph.op("Transpose", "image", perm=[0, 3, 1, 2]))], ("N", SIZE, SIZE, 3))
    _, ours = taken(model, tmp_path)
    expected = answers(model, values(pixels(), planar=False))
    np.testing.assert_allclose(ours.logits(pixels()), expected, atol=1e-5)


def test_bgr_is_what_opencv_gives(tmp_path):
    model = classifier()
    _, ours = taken(model, tmp_path, spec(order="BGR"))
    frame = cv2.cvtColor(pixels(1)[0], cv2.COLOR_RGB2BGR)
    by_hand = ((frame / 255.0 - MEAN) / STD).astype(np.float32).transpose(2, 0, 1)[None]
    np.testing.assert_allclose(ours.frame_logits(frame)[None], answers(model, by_hand), atol=1e-5)


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("planar", [True, False])
def test_grey_is_pillows_and_opencvs_to_half_a_level(order, planar, tmp_path):
    graph = Graph()
    image = "image" if planar else graph.op("Transpose", "image", perm=[0, 3, 1, 2])
    out = graph.body(image, channels=1)
    model = graph.model([out], ("N", 1, SIZE, SIZE) if planar else ("N", SIZE, SIZE, 1))
    adopted, ours = taken(model, tmp_path, spec(normalization=PLAIN, order=order))
    x = pixels()
    grey = np.stack([np.asarray(Image.fromarray(picture).convert("L")) for picture in x])
    assert np.abs(grey.astype(int) - np.stack([cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in x])).max() <= 1
    by_hand = (grey / 255).astype(np.float32)
    expected = answers(model, by_hand[:, None] if planar else by_hand[..., None])
    shown = x if order == "RGB" else x[..., ::-1]
    np.testing.assert_allclose(ours.logits(np.ascontiguousarray(shown)), expected, atol=0.05)
    assert any("grey" in line for line in adopted.notes.changed)
    flat = np.repeat(grey[..., None], 3, 3)  # pictures that are grey already: to the last digit
    np.testing.assert_allclose(ours.logits(flat), expected, atol=1e-5)


def test_grey_refuses_figures_of_three_colours():
    graph = Graph()
    model = graph.model([graph.body("image", channels=1)], ("N", 1, SIZE, SIZE))
    with pytest.raises(UsageError, match="grey pictures"):
        adopt(model.SerializeToString(), SPEC)


def test_a_free_size_is_asked_for(tmp_path):
    model = classifier(shape=("N", 3, "h", "w"))
    with pytest.raises(UsageError, match="--size"):
        adopt(model.SerializeToString(), SPEC)
    _, ours = taken(model, tmp_path, size=(SIZE, SIZE))
    np.testing.assert_allclose(ours.logits(pixels()), answers(model, values(pixels())), atol=1e-5)
    with pytest.raises(UsageError, match="no others"):
        adopt(classifier().SerializeToString(), SPEC, choices=Choices(size=(8, 8)))


def test_a_size_in_the_metadata_is_taken(tmp_path):
    model = classifier(shape=("N", 3, "h", "w"), metadata={"imgsz": f"[{SIZE}, {SIZE}]"})
    adopted, ours = taken(model, tmp_path)
    assert (ours.spec.resize.height, ours.spec.resize.width) == (SIZE, SIZE)
    assert any("imgsz" in line for line in adopted.notes.recognised)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("how", ["reshape", "flatten", "concat"])
def test_a_fixed_batch_is_freed(batch, how, tmp_path):
    def tail(graph, x):
        if how == "reshape":
            return graph.op("Reshape", x, graph.store([batch, CLASSES], np.int64))
        if how == "concat":  # a class token: a stored row beside each picture, as many as there were
            token = graph.store(np.zeros((batch, 1)))
            both = graph.op("Concat", token, x, axis=1)
            starts, ends, axes = (graph.store([i], np.int64) for i in (1, CLASSES + 1, 1))
            return graph.op("Slice", both, starts, ends, axes)
        return graph.op("Flatten", x)

    model = classifier(tail, shape=(batch, 3, SIZE, SIZE))
    adopted, ours = taken(model, tmp_path)
    free = classifier()
    expected = answers(free, values(pixels()))
    np.testing.assert_allclose(ours.logits(pixels()), expected, atol=1e-5)
    said = " ".join(adopted.notes.changed)
    assert ("one by one" in said) == (how == "concat")


# Inputs and outputs that are too many


def test_stored_weights_that_are_listed_as_inputs(tmp_path):
    graph = Graph(opset=8)
    out = graph.body("image")
    listed = [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in graph.stored]
    model = graph.model([out], ir=3, inputs=listed)
    adopted, ours = taken(model, tmp_path)
    np.testing.assert_allclose(ours.logits(pixels()), answers(model, values(pixels())), atol=1e-5)
    assert any("opset 8" in line for line in adopted.notes.changed)


def test_another_input_is_named_and_can_be_fixed(tmp_path):
    graph = Graph()
    out = graph.op("Mul", graph.body("image"), "strength")
    model = graph.model([out], inputs=[helper.make_tensor_value_info("strength", 1, [])])
    with pytest.raises(BadModelError, match=r"strength.*--fix"):
        adopt(model.SerializeToString(), SPEC)
    _, ours = taken(model, tmp_path, fix={"strength": 2.0})
    np.testing.assert_allclose(ours.logits(pixels()), 2 * answers(classifier(), values(pixels())), atol=1e-4)
    with pytest.raises(UsageError, match=r"no input 'other'.*strength"):
        adopt(model.SerializeToString(), SPEC, choices=Choices(fix={"other": 1.0}))


def several(names=("scores", "features")) -> onnx.ModelProto:
    graph = Graph()
    out = graph.body("image")
    made = graph.model([graph.nodes[-2].output[0], out])
    for node in made.graph.node:
        for places in (node.input, node.output):
            for i, item in enumerate(places):
                places[i] = {out: names[0], graph.nodes[-2].output[0]: names[1]}.get(item, item)
    for value, name in zip(made.graph.output, reversed(names), strict=True):
        value.name = name
    return made


def test_of_several_outputs_the_one_that_fits_the_labels(tmp_path):
    model = several()
    for choice in ({}, {"output": "scores"}):
        adopted, ours = taken(model, tmp_path, **choice)
        np.testing.assert_allclose(ours.logits(pixels()), answers(model, values(pixels()), "scores"), atol=1e-5)
        assert any("features" in line for line in adopted.notes.changed)
    with pytest.raises(UsageError, match=r"scores of shape \(8,\) and there are 5 labels"):
        adopt(model.SerializeToString(), SPEC, choices=Choices(output="features"))
    with pytest.raises(UsageError, match="no output 'x'; it has: features, scores"):
        adopt(model.SerializeToString(), SPEC, choices=Choices(output="x"))


@pytest.mark.parametrize(("second", "asks"), [("softmax", False), ("aux_logits", False), ("other", True)])
def test_of_equals_one_is_guessed_only_where_there_is_a_reason(second, asks, tmp_path):
    graph = Graph()
    out = graph.body("image")
    more = graph.op("Softmax", out, axis=1) if second == "softmax" else graph.op("Sin", out)
    graph.nodes[-1].output[0] = more = second
    model = graph.model([more, out])
    if asks:
        with pytest.raises(UsageError, match="--output NAME"):
            adopt(model.SerializeToString(), SPEC)
        return
    _, ours = taken(model, tmp_path)
    np.testing.assert_allclose(ours.logits(pixels()), answers(model, values(pixels()), 1), atol=1e-5)


def test_the_scores_of_scikit_learn_are_found_with_their_labels(tmp_path):
    graph = Graph()
    out = graph.body("image", classes=3)
    probability = graph.op("Softmax", out, axis=1)
    maps = graph.op("ZipMap", probability, domain="ai.onnx.ml", classlabels_strings=["a", "b", "c"])
    model = graph.model([maps], domains=["ai.onnx.ml"])
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(1, []))
    )
    model.graph.output[0].CopyFrom(helper.make_value_info(maps, kind))
    _, ours = taken(model, tmp_path, spec(("a", "b", "c")))
    expected = answers(graph.model([probability]), values(pixels()))
    np.testing.assert_allclose(probabilities(ours, pixels()), expected, atol=1e-5)


# Opsets


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 18, 21, 22, 23, 24])
def test_every_opset_keeps_its_answers(opset, tmp_path):
    def tail(graph, x):  # operators whose form changed between opsets
        if opset >= 13:
            x = graph.op("Squeeze", graph.op("Unsqueeze", x, graph.store([2], np.int64)), graph.store([2], np.int64))
        else:
            x = graph.op("Squeeze", graph.op("Unsqueeze", x, axes=[2]), axes=[2])
        x = graph.op("Dropout", x)
        return graph.op("Softmax", x, axis=1)

    model = classifier(tail, opset=opset, ir=3 if opset < 9 else 8 if opset < 22 else 10)
    if opset < 9:
        listed = [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in model.graph.initializer]
        model.graph.input.extend(listed)
    adopted, ours = taken(model, tmp_path)
    np.testing.assert_allclose(probabilities(ours, pixels()), answers(model, values(pixels())), atol=1e-5)
    version = onnx.load_from_string(adopted.model).opset_import[0].version
    assert 13 <= version <= 21
    assert any(f"opset {opset} was converted" in line for line in adopted.notes.changed) == (version != opset)


def test_an_operator_that_cannot_be_converted_keeps_its_opset(tmp_path):
    """Upsample left ONNX with opset 10; the converter has no way for a scale that is computed."""

    def tail(graph, x):
        graph.op("Identity", x)
        return x

    graph = Graph(opset=9)
    scales = graph.op("Add", graph.store([0.5, 0.5, 1, 1]), graph.store([0.5, 0.5, 1, 1]))
    image = graph.op("Upsample", "image", scales, mode="nearest")
    model = graph.model([tail(graph, graph.body(image))], ir=4)
    _, ours = taken(model, tmp_path)
    np.testing.assert_allclose(ours.logits(pixels()), answers(model, values(pixels())), atol=1e-5)


# Training mode and chance


def test_dropout_in_training_mode_is_switched_off(tmp_path):
    def tail(graph, x):
        return graph.op("Dropout", x, graph.store(0.5), graph.store(True, bool))

    adopted, ours = taken(classifier(tail), tmp_path)
    np.testing.assert_allclose(ours.logits(pixels()), answers(classifier(), values(pixels())), atol=1e-5)
    assert any("dropout in training mode" in line for line in adopted.notes.changed)


def test_batch_normalisation_in_training_mode_uses_the_stored_statistics(tmp_path):
    def build(training: bool) -> onnx.ModelProto:
        graph = Graph()
        stored = [graph.store(x) for x in ([1, 2, 3.0], [0, 0.1, 0.2], [0.1, 0.2, 0.3], [1, 2, 0.5])]
        more = {"training_mode": 1} if training else {}
        x = graph.op("BatchNormalization", "image", *stored, outputs=3 if training else 1, **more)
        return graph.model([graph.body(x)])

    adopted, ours = taken(build(True), tmp_path)
    np.testing.assert_allclose(ours.logits(pixels()), answers(build(False), values(pixels())), atol=1e-5)
    assert any("batch normalisation in training mode" in line for line in adopted.notes.changed)


@pytest.mark.parametrize("operator", ["RandomNormalLike", "RandomUniformLike"])
def test_random_operators_are_named(operator):
    model = classifier(lambda g, x: g.op("Add", x, g.op(operator, x)))
    with pytest.raises(BadModelError, match=f"asked twice.*{operator}"):
        adopt(model.SerializeToString(), SPEC)


def test_chance_that_no_score_depends_on_is_no_fault(tmp_path):
    model = classifier(lambda g, x: g.op("Add", x, g.op("Mul", g.op("RandomNormalLike", x), g.store(0.0))))
    _, ours = taken(model, tmp_path)
    np.testing.assert_allclose(ours.logits(pixels()), answers(classifier(), values(pixels())), atol=1e-5)


# Order and quantization


def test_operators_in_the_wrong_order_are_sorted(tmp_path):
    """As onnxruntime's own converter to half precision leaves them."""
    model = classifier(lambda g, x: g.op("Softmax", x, axis=1))
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(model.graph.node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    adopted, ours = taken(model, tmp_path)
    np.testing.assert_allclose(probabilities(ours, pixels()), answers(model, values(pixels())), atol=1e-5)
    assert any("order" in line for line in adopted.notes.changed)


def test_a_range_taken_over_the_whole_batch_never_mixes_pictures(tmp_path):
    """Dynamic quantization scales a batch by its largest value: a dark photo beside a bright one would lose its detail."""
    graph = Graph()
    quantized = graph.op("DynamicQuantizeLinear", "image", outputs=3)
    image = graph.op("DequantizeLinear", quantized, quantized[:-1] + "1", quantized[:-1] + "2")
    model = graph.model([graph.body(image)])
    adopted, ours = taken(model, tmp_path)
    dark = pixels() // 16
    mixed = np.concatenate([dark[:1], pixels()[1:]])
    np.testing.assert_allclose(ours.logits(mixed)[:1], answers(model, values(dark[:1])), atol=0.05)
    assert any("one by one" in line and "DynamicQuantizeLinear" in line for line in adopted.notes.changed)
    assert ours.spec.precision == "int8"


# Functions


def test_functions_of_the_file_are_taken_apart(tmp_path):
    model = classifier(lambda g, x: g.op("Scored", x, domain="mine"), domains=["mine"])
    model.functions.append(
        helper.make_function(
            "mine",
            "Scored",
            ["x"],
            ["y"],
            [helper.make_node("Softmax", ["x"], ["p"], axis=1), helper.make_node("Identity", ["p"], ["y"])],
            [helper.make_opsetid("", 17)],
        )
    )
    adopted, ours = taken(model, tmp_path)
    np.testing.assert_allclose(probabilities(ours, pixels()), answers(model, values(pixels())), atol=1e-5)
    assert any("softmax at its end was cut off" in line for line in adopted.notes.changed)


def test_a_softmax_is_not_taken_twice_even_where_it_is_also_an_attention(tmp_path):
    """A softmax in the middle stays."""

    def tail(graph, x):
        weights = graph.op("Softmax", x, axis=1)
        return graph.op("Mul", graph.op("Mul", weights, x), graph.store(3.0))

    model = classifier(tail)
    adopted, ours = taken(model, tmp_path)
    np.testing.assert_allclose(ours.logits(pixels()), answers(model, values(pixels())), rtol=1e-4, atol=1e-4)
    assert not any("cut off" in line for line in adopted.notes.changed)


# Refusals

REFUSED = {
    "two axes of scores": (
        lambda: classifier(lambda g, x: g.op("MatMul", g.op("Unsqueeze", x, g.store([2], np.int64)), g.store([[1, 2.0]]))),
        "no list of scores; a detector",
    ),
    "six channels": (lambda: classifier(shape=("N", 6, SIZE, SIZE)), "neither 3 nor 1 channels"),
    "four channels": (lambda: classifier(shape=("N", 4, SIZE, SIZE)), "has 4 channels"),
    "rows of numbers": (lambda: classifier(shape=("N", 12)), "4 axes"),
    "text": (lambda: classifier(kind=TensorProto.STRING), "is string"),
    "another domain": (
        lambda: classifier(lambda g, x: g.op("Magic", x, domain="com.acme"), domains=["com.acme"]),
        "com.acme:Magic",
    ),
    "opset 6": (lambda: classifier(opset=6), "opset 6"),
    "an opset to come": (lambda: classifier(opset=99), "opset 99.*pip install -U"),
    "not a number": (lambda: classifier(lambda g, x: g.op("Sqrt", g.op("Neg", g.op("Exp", x)))), "not a number"),
    "no input": (
        lambda: (lambda m: (m.graph.input.pop(), m.graph.initializer.append(numpy_helper.from_array(
            np.zeros((1, 3, SIZE, SIZE), np.float32), "image")), m)[2])(classifier()),
        "takes no input",
    ),
    "a wrong graph": (lambda: classifier(lambda g, x: g.op("Relu", "nowhere")), "no valid ONNX model"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_classifier_of_pictures_is_refused_with_the_reason(what):
    make, reason = REFUSED[what]
    with pytest.raises((BadModelError, UsageError), match=reason) as caught:
        adopt(make().SerializeToString(), SPEC)
    assert "\n" not in str(caught.value)


def test_labels_that_are_one_too_few_get_the_likely_reason():
    with pytest.raises(UsageError, match=r"5,.*4 labels.*--background-first"):
        adopt(classifier().SerializeToString(), spec(LABELS[:4]))
    with pytest.raises(UsageError, match=r"6 labels.*without '__background__'"):
        adopt(classifier().SerializeToString(), spec(("__background__", *LABELS)))


def test_softmax_by_hand_is_what_the_contract_computes(tmp_path):
    _, ours = taken(classifier(), tmp_path)
    logits = ours.logits(pixels())
    np.testing.assert_allclose(probabilities(ours, pixels()), softmax(logits.astype(float)), atol=1e-12)


def test_scores_and_their_softmax_behind_other_operators_are_one(tmp_path):
    graph = Graph()
    out = graph.body("image")
    first = graph.op("Softmax", graph.op("Identity", out), axis=1)
    second = graph.op("Identity", graph.op("Flatten", out))
    model = graph.model([first, second])
    _, ours = taken(model, tmp_path)
    np.testing.assert_allclose(ours.logits(pixels()), answers(model, values(pixels()), 1), atol=1e-5)


@pytest.mark.parametrize("opset", [12, 17])
def test_half_precision_to_the_end(opset, tmp_path):
    """A softmax of halves, ranked, in an opset that is converted."""
    graph = Graph(opset, TensorProto.FLOAT16)
    p = graph.op("Softmax", graph.body("image"), axis=1)
    model = graph.model([graph.op("ArgMax", p, axis=1, keepdims=0)])
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    adopted, ours = taken(model, tmp_path)
    expected = answers(graph.model([p]), values(pixels()).astype(np.float16))
    np.testing.assert_allclose(probabilities(ours, pixels()), expected, atol=5e-3)
    assert any("opset 12" in line for line in adopted.notes.changed) == (opset == 12)


def test_probabilities_in_bytes(tmp_path):
    """As TensorFlow Lite gives them: whole 256ths."""
    graph = Graph()
    p = graph.op("Mul", graph.op("Softmax", graph.body("image"), axis=1), graph.store(256.0))
    model = graph.model([graph.op("Cast", graph.op("Min", p, graph.store(255.0)), to=TensorProto.UINT8)])
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.UINT8
    _, ours = taken(model, tmp_path, scores="probabilities")
    expected = answers(model, values(pixels()))
    np.testing.assert_allclose(probabilities(ours, pixels()), expected / expected.sum(1, keepdims=True), atol=1e-5)


def test_free_axes_written_as_minus_one(tmp_path):
    """As Paddle writes them."""
    model = classifier()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    _, ours = taken(model, tmp_path)
    np.testing.assert_allclose(ours.logits(pixels()), answers(classifier(), values(pixels())), atol=1e-5)


def test_channels_without_a_number_are_those_of_the_first_layer(tmp_path):
    graph = Graph()
    model = graph.model([graph.body(graph.op("Transpose", "image", perm=[0, 3, 1, 2]))], ("N", "h", "w", "c"))
    adopted, ours = taken(model, tmp_path, size=(SIZE, SIZE))
    expected = answers(model, values(pixels(), planar=False))
    np.testing.assert_allclose(ours.logits(pixels()), expected, atol=1e-5)
    assert "N x H x W x 3" in adopted.notes.recognised[0]
