"""What is shown is the likeliest class of those that count, or nothing; the model's own answer is kept beside it."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from conftest import THAI
from hypothesis import given
from hypothesis import strategies as st

from edge_tl_runtime.core.errors import BadModelError, UsageError
from edge_tl_runtime.inference.classifier import Classifier, best_scores
from edge_tl_runtime.pipeline.decision import UNKNOWN, Decider
from edge_tl_runtime.pipeline.smoothing import Ema, Vote
from edge_tl_runtime.pipeline.stream import Stream
from edge_tl_runtime.sources.base import FrameRecord, Source

LOGITS = np.zeros(3, np.float32)


class Frames(Source):
    """A live source of given frames, a tenth of a second apart."""

    def __init__(self, frames, live=True):
        super().__init__("frames")
        self.frames, self.live = frames, live

    def __iter__(self):
        start = time.monotonic()
        for index, frame in enumerate(self.frames):
            yield FrameRecord(frame, self.name, index, index / 10, start + index / 10)
        self.ended = True


def decide(decider, probabilities, at=0.0):
    return decider.decide(LOGITS, np.array(probabilities, np.float64), at)


@given(
    st.integers(2, 2000),
    st.integers(1, 40),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 1, 2, 5, 20]),
)
def test_best_scores_are_those_of_a_plain_stable_sort(classes, top, seed, distinct):
    """distinct: how many different values; few make ties."""
    rng = np.random.default_rng(seed)
    values = rng.random(classes) if distinct == 0 else rng.integers(0, distinct, classes) / max(1, distinct)
    labels = [str(index) for index in range(classes)]
    got = best_scores(values, labels, top)
    expected = np.argsort(-values, kind="stable")[: min(top, classes)]
    assert [score.index for score in got] == expected.tolist()
    assert [score.label for score in got] == [labels[index] for index in expected]
    assert [score.confidence for score in got] == values[expected].tolist()


def test_below_the_threshold_a_frame_is_unknown(color_spec):
    decider = Decider(color_spec, threshold=0.7)
    known = decide(decider, [0.7, 0.2, 0.1])
    assert (known.label, known.index, known.known, known.confidence) == ("red", 0, True, 0.7)
    unknown = decide(decider, [0.69, 0.21, 0.1])
    assert (unknown.label, unknown.index, unknown.known, unknown.confidence) == (UNKNOWN, -1, False, 0.69)
    assert unknown.top[0].label == "red"


def test_only_allowed_labels_are_shown_or_listed(color_spec):
    decision = decide(Decider(color_spec, allow=[THAI, "green"]), [0.7, 0.1, 0.2])
    assert (decision.label, decision.index, decision.confidence) == (THAI, 2, 0.2)
    assert [(score.label, score.index, score.confidence) for score in decision.top] == [
        (THAI, 2, 0.2),
        ("green", 1, 0.1),
    ]


def test_an_allowed_label_of_probability_0_is_shown_rather_than_one_that_is_not_allowed(color_spec):
    for smoother in (None, Ema(0.5), Vote(2, 2)):
        decision = decide(Decider(color_spec, allow=[THAI], smoother=smoother), [1.0, 0.0, 0.0])
        assert (decision.label, decision.index, decision.confidence) == (THAI, 2, 0.0)
        unknown = decide(Decider(color_spec, allow=[THAI], threshold=0.1, smoother=smoother), [1.0, 0.0, 0.0])
        assert unknown.label == UNKNOWN


def test_a_label_that_the_model_does_not_have_is_refused(color_spec):
    with pytest.raises(UsageError, match="no label 'blue'; it has: red, green"):
        Decider(color_spec, allow=["red", "blue"])


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_is_a_probability(color_spec, threshold):
    with pytest.raises(UsageError):
        Decider(color_spec, threshold=threshold)


def test_the_shown_label_is_the_steady_one_with_its_own_probability(color_spec):
    decider = Decider(color_spec, smoother=Ema(1.0, margin=0.3))
    decide(decider, [0.6, 0.4, 0.0], 0.0)
    decision = decide(decider, [0.3, 0.7, 0.0], 1.0)  # the means are 0.45 and 0.55
    assert (decision.label, decision.confidence) == ("red", pytest.approx(0.45))
    assert (decision.top[0].label, decision.top[0].confidence) == ("green", pytest.approx(0.55))


def test_a_smoother_with_an_allow_list_names_the_right_class(color_spec):
    decider = Decider(color_spec, allow=["green", THAI], smoother=Vote(2, 2))
    for at, row in enumerate([[0.8, 0.2, 0.0], [0.8, 0.0, 0.2], [0.8, 0.0, 0.2]]):
        decision = decide(decider, row, at / 10)
    assert (decision.label, decision.index) == (THAI, 2)


def test_an_unfamiliar_frame_is_unknown_whatever_its_probability(color_spec):
    asked = []

    def is_known(logits):
        asked.append(logits.copy())
        return bool(logits[0] > 0)

    decider = Decider(color_spec, is_known=is_known)
    row = np.array([0.99, 0.01, 0.0])
    assert decider.decide(np.array([1, 0, 0], np.float32), row, 0.0).label == "red"
    decision = decider.decide(np.array([-1, 0, 0], np.float32), row, 0.1)
    assert (decision.label, decision.index, decision.known, decision.confidence) == (UNKNOWN, -1, False, 0.99)
    assert [list(logits) for logits in asked] == [[1, 0, 0], [-1, 0, 0]]


def test_the_models_own_answer_is_kept_beside_the_steady_one(color_model, solid):
    classifier = Classifier(color_model)
    frames = [solid("red")] * 10 + [solid("green")] * 3
    stream = Stream(Frames(frames), classifier, decider=lambda c: Decider(c.spec, threshold=0.9, smoother=Ema(60.0)))
    documents = [result.to_dict() for result in stream]
    assert [d["label"] for d in documents] == ["red"] * 13
    assert [d["raw"]["label"] for d in documents] == ["red"] * 10 + ["green"] * 3
    assert all(d["raw"]["confidence"] > 0.99 for d in documents)


def test_flicker_of_the_scene_is_not_flicker_of_the_label(color_model, solid):
    frames = [solid("red"), solid("green")] * 50
    stream = Stream(Frames(frames), Classifier(color_model), decider=lambda c: Decider(c.spec, smoother=Ema(0.5)))
    labels = [result.label for result in stream]
    assert len(labels) == 100
    assert sum(one != two for one, two in pairwise(labels)) <= 1


@pytest.mark.parametrize("batch", [1, 4])
def test_what_is_no_frame_is_left_out_and_counted(color_model, solid, batch):
    bad = [np.empty((0, 0, 3), np.uint8), solid("red").astype(np.float32), np.zeros((4, 4, 2), np.uint8)]
    good = [solid("red"), cv_gray(solid("green")), np.dstack([solid("green"), solid("green")[..., :1]])]
    stream = Stream(Frames([good[0], *bad, *good[1:]], live=False), Classifier(color_model), batch=batch)
    assert [result.record.index for result in stream] == [0, 4, 5]
    assert stream.bad == 3


def cv_gray(frame):
    return frame[..., 1].copy()


@pytest.mark.parametrize("batch", [2, 3, 7, 64])
def test_batches_give_what_single_frames_give(color_model, solid, batch):
    frames = [
        solid(label, 40 + 3 * n, 60) for n, label in enumerate(["red", "green", THAI, "green", "red", THAI, "red"])
    ]
    classifier = Classifier(color_model)
    one = [result.to_dict() for result in Stream(Frames(frames, live=False), classifier)]
    many = [result.to_dict() for result in Stream(Frames(frames, live=False), classifier, batch=batch)]
    for document in one + many:
        for key in ("latency_ms", "age_ms", "fps"):
            document.pop(key)
    assert one == many


def test_a_model_that_answers_with_no_number_is_named(color_spec):
    from edge_tl_runtime.modelfile.spec import ModelSpec

    assert isinstance(color_spec, ModelSpec)
    classifier = Classifier.__new__(Classifier)
    classifier.path, classifier.spec = "model.onnx", replace(color_spec)
    with pytest.raises(BadModelError, match="not a number"):
        classifier.probabilities(np.array([1, np.nan, 0], np.float32))
