"""What is behind an activation: the answers stay the original's, or the file is refused with what a person can say."""

from __future__ import annotations

import numpy as np
import pytest
from adopted import SPEC, probabilities, spec, taken, values
from foreign import CLASSES, LABELS, Graph, answers, classifier, pixels, softmax
from onnx import TensorProto

from edge_tl_export.adoption.adopt import Choices, adopt
from edge_tl_runtime.core.errors import BadModelError, UsageError


def p(graph, x):
    return graph.op("Softmax", x, axis=1)


def log_p(graph, x):
    return graph.op("LogSoftmax", x, axis=1)


def clip(graph, x, low, high):
    return graph.op("Clip", x, graph.store(low), graph.store(high))


def rounded(graph, x, steps):
    return graph.op("Div", graph.op("Round", graph.op("Mul", x, graph.store(steps))), graph.store(steps))


def part(graph, x, start, end):
    return graph.op("Slice", x, *(graph.store([i], np.int64) for i in (start, end, 1)))


def stepped(graph, x):
    """As quantizers leave the end of a network."""
    step, zero = graph.store(1 / 255), graph.store(0, np.uint8)
    return graph.op("DequantizeLinear", graph.op("QuantizeLinear", x, step, zero), step, zero)


def two(graph, x, operator, kind=p, **more):
    return graph.op(operator, kind(graph, x), kind(graph, graph.op("Mul", x, graph.store(0.5))), **more)


def logsumexp(graph, x):
    return graph.op("ReduceLogSumExp", x, axes=[1], keepdims=1)


def with_sum(graph, x):
    s = graph.op("Sigmoid", x)
    return graph.op("Div", s, graph.op("ReduceSum", s, graph.store([1], np.int64), keepdims=1))


# What the original's scores say of the probability of each class, by hand.
HANDLED = {
    "softmax, clip that does nothing": (lambda g, x: clip(g, p(g, x), 1e-7, 1.0), lambda s: s),
    "softmax, ReLU6": (lambda g, x: clip(g, p(g, x), 0.0, 6.0), lambda s: s),
    "softmax, ReLU": (lambda g, x: g.op("Relu", p(g, x)), lambda s: s),
    "softmax, temperature": (lambda g, x: g.op("Div", p(g, x), g.store(2.5)), lambda s: s * 2.5),
    "temperature, softmax": (lambda g, x: p(g, g.op("Div", x, g.store(3.0))), lambda s: s),
    "softmax, other order": (
        lambda g, x: g.op("Gather", p(g, x), g.store([4, 2, 0, 1, 3], np.int64), axis=1),
        lambda s: s,
    ),
    "softmax, fine steps": (lambda g, x: rounded(g, p(g, x), 1e5), lambda s: s),
    "mean of two": (lambda g, x: two(g, x, "Mean"), lambda s: s),
    "log-softmax, minus": (lambda g, x: g.op("Neg", log_p(g, x)), lambda s: np.exp(-s)),
    "log of softmax, minus one times": (
        lambda g, x: g.op("Mul", g.op("Log", p(g, x)), g.store(-1.0)),
        lambda s: np.exp(-s),
    ),
    "minus log-softmax in full": (lambda g, x: g.op("Sub", logsumexp(g, x), x), lambda s: np.exp(-s)),
    "log-softmax, exp": (lambda g, x: g.op("Exp", log_p(g, x)), lambda s: s),
    "softmax, a little, log": (
        lambda g, x: g.op("Log", g.op("Add", p(g, x), g.store(1e-9))),
        np.exp,
    ),
    "sigmoids over their sum": (with_sum, lambda s: s),
}


@pytest.mark.parametrize("kind", HANDLED)
def test_probabilities_stay_the_originals_whatever_is_behind(kind, tmp_path):
    tail, meant = HANDLED[kind]
    model = classifier(tail)
    _, ours = taken(model, tmp_path)
    np.testing.assert_allclose(probabilities(ours, pixels()), meant(answers(model, values(pixels()))), atol=2e-5)


def test_steps_of_a_byte_behind_a_softmax_are_seen_through(tmp_path):
    model = classifier(lambda g, x: stepped(g, p(g, x)))
    adopted, ours = taken(model, tmp_path)
    assert any("softmax at its end was cut off" in line for line in adopted.notes.changed)
    np.testing.assert_allclose(probabilities(ours, pixels()), answers(model, values(pixels())), atol=0.5 / 255 + 1e-5)


ASKED = {
    "softmax, clip": (lambda g, x: clip(g, p(g, x), 0.05, 0.9), "Softmax, Clip"),
    "softmax, coarse steps": (lambda g, x: rounded(g, p(g, x), 10.0), "Softmax, Mul, Round, Div"),
    "softmax, some": (lambda g, x: part(g, p(g, x), 1, CLASSES), "Softmax, Slice"),
    "softmax, root": (lambda g, x: g.op("Sqrt", p(g, x)), "Softmax, Sqrt"),
    "softmax, power": (lambda g, x: g.op("Pow", p(g, x), g.store(0.3)), "Softmax, Pow"),
    "softmax, weights": (lambda g, x: g.op("Mul", p(g, x), g.store([1.0, 2, 3, 4, 5])), "Softmax, Mul"),
    "one minus softmax": (lambda g, x: g.op("Sub", g.store(1.0), p(g, x)), "Softmax, Sub"),
    "minus softmax": (lambda g, x: g.op("Neg", p(g, x)), "Softmax, Neg"),
    "sum of two": (lambda g, x: two(g, x, "Add"), ".*Softmax, Add"),
    "largest of two": (lambda g, x: two(g, x, "Max"), ".*Softmax, Max"),
    "log to base 10": (lambda g, x: g.op("Div", g.op("Log", p(g, x)), g.store(np.log(10))), "Softmax, Log, Div"),
    "log-softmax, temperature": (lambda g, x: g.op("Div", log_p(g, x), g.store(2.0)), "LogSoftmax, Div"),
    "log-softmax, clip": (lambda g, x: clip(g, log_p(g, x), -1.0, 0.0), "LogSoftmax, Clip"),
    "sigmoid, clip": (lambda g, x: clip(g, g.op("Sigmoid", x), 0.3, 0.7), "Sigmoid, Clip"),
    "sigmoid, some": (lambda g, x: part(g, g.op("Sigmoid", x), 0, 4), "Sigmoid, Slice"),
    "hard sigmoid": (lambda g, x: g.op("HardSigmoid", x), "HardSigmoid"),
    "hidden sigmoid": (
        lambda g, x: g.op("Reciprocal", g.op("Add", g.op("Exp", g.op("Neg", x)), g.store(1.0))),
        "Neg, Exp, Add, Reciprocal",
    ),
}


@pytest.mark.parametrize("kind", ASKED)
def test_what_cannot_be_told_is_asked_with_what_was_found(kind, tmp_path):
    tail, behind = ASKED[kind]
    model = classifier(tail)
    found = answers(model, values(pixels()))
    width = found.shape[1]
    with pytest.raises(UsageError, match=f"ends in {behind};.* cannot be told; (say --scores|export it)") as caught:
        adopt(model.SerializeToString(), spec(LABELS[:width]))
    said = str(caught.value)
    assert "\n" not in said
    assert ("--scores probabilities" in said) == (found.min() >= 0)
    assert ("--scores sigmoid" in said) == (found.min() >= 0 and found.max() <= 1)
    if "--scores logits" in said:
        _, ours = taken(model, tmp_path, spec(LABELS[:width]), scores="logits")
        np.testing.assert_allclose(ours.logits(pixels()), found, atol=1e-5)
    if "--scores probabilities" in said:
        adopted, ours = taken(model, tmp_path, spec(LABELS[:width]), scores="probabilities")
        np.testing.assert_allclose(probabilities(ours, pixels()), found / found.sum(1, keepdims=True), atol=1e-5)
        uneven = np.ptp(found.sum(1)) > 0.01
        assert any("divided by their sum" in line for line in adopted.notes.changed) == uneven


@pytest.mark.parametrize("kind", [p, log_p, lambda g, x: g.op("Sigmoid", x)], ids=["softmax", "log-softmax", "sigmoid"])
def test_two_heads_side_by_side_are_asked(kind):
    model = classifier(lambda g, x: two(g, x, "Concat", kind, axis=1))
    with pytest.raises(UsageError, match=r"Concat; .*cannot be told"):
        adopt(model.SerializeToString(), spec(tuple("abcdefghij")))


def test_logits_of_two_heads_are_taken_and_named(tmp_path):
    model = classifier(lambda g, x: two(g, x, "Concat", lambda g, x: g.op("Add", x, g.store(1.0)), axis=1))
    adopted, ours = taken(model, tmp_path, spec(tuple("abcdefghij")))
    np.testing.assert_allclose(ours.logits(pixels()), answers(model, values(pixels())), atol=1e-5)
    assert any("put together of 2 parts" in line for line in adopted.notes.unknown)


def top(graph, x, **more):
    return graph.op("TopK", x, graph.store([CLASSES], np.int64), outputs=2, axis=1, **more)


def one_hot(graph, x):
    best = graph.op("ArgMax", x, axis=1, keepdims=0)
    return graph.op("OneHot", best, graph.store([CLASSES], np.int64), graph.store([0.0, 1.0]), axis=1)


WITHOUT_PLACES = {
    "sorted, softmax": (lambda g, x: p(g, top(g, x)), CLASSES, "behind TopK"),
    "smallest first": (lambda g, x: top(g, x, largest=0), CLASSES, "behind TopK"),
    "smallest": (lambda g, x: g.op("ArgMin", x, axis=1, keepdims=1), 2, "behind ArgMin"),
    "number from 1": (
        lambda g, x: g.op("Add", g.op("ArgMax", x, axis=1, keepdims=1), g.store(1, np.int64)), 2, "behind ArgMax",
    ),
    "one hot": (one_hot, CLASSES, "behind OneHot, ArgMax"),
    "hardmax": (lambda g, x: g.op("Hardmax", x, axis=1), CLASSES, "behind Hardmax"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WITHOUT_PLACES)
def test_numbers_whose_place_says_no_class_are_refused(kind):
    tail, width, reason = WITHOUT_PLACES[kind]
    model = classifier(tail)
    if kind in ("smallest", "number from 1"):
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(BadModelError, match=reason):
        adopt(model.SerializeToString(), spec(LABELS[:width]))


def test_one_whole_number_is_no_score():
    graph = Graph()
    out = graph.op("Cast", graph.op("Round", graph.body("image", classes=1)), to=TensorProto.INT64)
    model = graph.model([out])
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(BadModelError, match="one whole number for a picture"):
        adopt(model.SerializeToString(), spec(LABELS[:2]))


@pytest.mark.parametrize("activation", ["Softmax", "LogSoftmax", "in full"])
def test_a_softmax_over_one_class_is_refused(activation):
    graph = Graph()
    out = graph.body("image", classes=1)
    if activation == "in full":
        e = graph.op("Exp", out)
        out = graph.op("Div", e, graph.op("ReduceSum", e, graph.store([1], np.int64), keepdims=1))
    else:
        out = graph.op(activation, out, axis=1)
    with pytest.raises(BadModelError, match="a softmax over one value"):
        adopt(graph.model([out]).SerializeToString(), spec(LABELS[:2]))


def test_a_softmax_over_the_wrong_axis_is_refused():
    model = classifier(lambda g, x: g.op("Softmax", x, axis=0))
    with pytest.raises(BadModelError, match="a softmax over one value"):
        adopt(model.SerializeToString(), SPEC)


@pytest.mark.parametrize(
    ("tail", "scores", "reason"),
    [
        (None, "log-probabilities", "do not sum to 1"),
        (None, "probabilities", "no probabilities"),
        (lambda g, x: g.op("Neg", log_p(g, x)), "logits", "smallest score is the likeliest"),
        (lambda g, x: g.op("Relu", g.op("Sub", p(g, x), g.store(0.9))), "probabilities", "every score is 0"),
    ],
    ids=["logits for logarithms", "logits for probabilities", "losses for logits", "nothing"],
)
def test_what_a_person_says_against_the_answers_is_refused(tail, scores, reason):
    with pytest.raises(UsageError, match=reason):
        adopt(classifier(tail).SerializeToString(), SPEC, choices=Choices(scores=scores))


def test_one_score_above_1_is_no_probability():
    graph = Graph()
    model = graph.model([graph.op("Mul", graph.op("Exp", graph.body("image", classes=1)), graph.store(50.0))])
    with pytest.raises(UsageError, match="no probabilities"):
        adopt(model.SerializeToString(), spec(LABELS[:2]), choices=Choices(scores="probabilities"))


def test_scores_that_are_no_numbers_name_the_file():
    model = classifier(lambda g, x: g.op("Sqrt", g.op("Neg", g.op("Exp", x))))
    with pytest.raises(BadModelError, match=r"^mine\.onnx: output .* not a number"):
        adopt(model.SerializeToString(), SPEC, "mine.onnx")
    model = classifier(lambda g, x: g.op("Exp", g.op("Mul", g.op("Exp", x), g.store(1e6))))
    with pytest.raises(BadModelError, match="infinite"):
        adopt(model.SerializeToString(), SPEC, "mine.onnx")


def test_softmax_by_hand_agrees_with_a_loss_turned_round(tmp_path):
    model = classifier(lambda g, x: g.op("Neg", log_p(g, x)))
    adopted, ours = taken(model, tmp_path)
    by_hand = softmax(answers(classifier(), values(pixels())))
    np.testing.assert_allclose(probabilities(ours, pixels()), by_hand, atol=1e-5)
    assert any("smallest of which is the likeliest" in line for line in adopted.notes.recognised)
