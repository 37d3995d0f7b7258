"""The contract: what goes in comes out, and nothing malformed comes in."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tl_runtime.errors import BadModelError, UnknownSpecVersion
from edge_tl_runtime.spec import Accuracy, ModelSpec, Normalization, ResizeRule, Scores, SelfTest, spread

RULE = ResizeRule(height=8, width=8, crop_pct=0.875, resample="area-cubic")
NORMAL = Normalization(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))


def make(labels: tuple[str, ...] = ("ant", "bee"), **changes: object) -> ModelSpec:
    return ModelSpec(**{"labels": labels, "resize": RULE, "normalization": NORMAL, "arch": "net", **changes})


names = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    labels=st.lists(names.filter(lambda t: t.strip() != ""), min_size=2, max_size=6, unique=True),
    training=st.dictionaries(st.text(), json_values, max_size=4),
    top1=st.floats(0, 1),
    temperature=st.floats(0.01, 100),
)
def test_json_round_trip_gives_an_equal_spec(labels, training, top1, temperature):
    spec = make(
        tuple(labels),
        training=training,
        scores=Scores(temperature=temperature),
        validation=Accuracy(top1=top1, ci95=(0.0, 1.0), n=3, data="val"),
        self_test=SelfTest(thumbnail="", side=2, top1=0, logits=(1.0,) * len(labels), tolerance=0.1),
    )
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_spec_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().arch = "other"
    given = {"seed": 0}
    spec = make(training=given)
    given["seed"] = 1
    assert spec.training["seed"] == 0
    with pytest.raises(TypeError):
        spec.training["seed"] = 2


@pytest.mark.parametrize("version", [0, 2, "1", None, 1.5])
def test_unknown_version_says_which_and_what_to_do(version):
    document = {**make().to_dict(), "version": version}
    with pytest.raises(UnknownSpecVersion, match=r"version .* in the file.*upgrade edge-tl"):
        ModelSpec.from_dict(document)


@pytest.mark.parametrize("key", sorted(make().to_dict()))
def test_a_missing_key_is_refused(key):
    document = make().to_dict()
    del document[key]
    with pytest.raises(BadModelError):
        ModelSpec.from_dict(document)


@given(key=st.sampled_from(sorted(make().to_dict())), value=json_values)
def test_any_json_value_in_any_place_is_read_or_refused(key, value):
    document = {**make().to_dict(), key: value}
    try:
        spec = ModelSpec.from_dict(document)
    except BadModelError:
        return
    assert ModelSpec.from_json(spec.to_json()) == spec


@given(st.text())
def test_text_that_is_no_contract_is_refused(text):
    with pytest.raises(BadModelError):
        ModelSpec.from_json(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ("only",)},
        {"labels": ("twice", "twice")},
        {"labels": ("ant", "  ")},
        {"precision": "int4"},
        {"self_test": SelfTest(thumbnail="", side=2, top1=0, logits=(1.0, 2.0, 3.0), tolerance=0.1)},
    ],
    ids=["one label", "repeated label", "blank label", "precision", "self-test of other size"],
)
def test_values_that_contradict_are_refused(changes):
    with pytest.raises(BadModelError):
        make(**changes)


@pytest.mark.parametrize(
    "rule",
    [{"height": 0}, {"width": 5000}, {"crop_pct": 0.0}, {"crop_pct": 1.1}, {"color_order": "YUV"}, {"height": "8"}],
)
def test_bad_geometry_is_refused(rule):
    document = make().to_dict()
    document["resize"] = {**document["resize"], **rule}
    with pytest.raises(BadModelError):
        ModelSpec.from_dict(document)


def test_probabilities_equal_a_softmax_by_hand():
    logits = np.array([[1.0, 2.0, 4.0], [1000.0, 0.0, -1000.0]], np.float32)
    expected = np.exp(logits[0] / 2) / np.exp(logits[0] / 2).sum()
    got = Scores(temperature=2.0).probabilities(logits)
    np.testing.assert_allclose(got[0], expected, rtol=1e-6)
    np.testing.assert_allclose(got[1], [1, 0, 0], atol=1e-12)


def test_self_test_input_survives_json():
    thumbnail = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    test = SelfTest(thumbnail=SelfTest.encode(thumbnail), side=4, top1=0, logits=(1.0, 0.0), tolerance=0.1)
    again = ModelSpec.from_json(make(self_test=test).to_json()).self_test
    np.testing.assert_array_equal(again.pixels(RULE), spread(thumbnail, RULE))
    np.testing.assert_array_equal(again.pixels(RULE)[0, ::2, ::2], thumbnail)


@pytest.mark.parametrize("thumbnail", ["", "!!!", "AAAA", json.dumps("x" * 100)])
def test_a_damaged_self_test_input_is_refused(thumbnail):
    test = SelfTest(thumbnail=thumbnail, side=4, top1=0, logits=(1.0, 0.0), tolerance=0.1)
    with pytest.raises(BadModelError):
        test.pixels(RULE)
