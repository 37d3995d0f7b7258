"""The contract: what goes in comes out, and nothing malformed comes in."""

from __future__ import annotations

import copy
import dataclasses
import json

import numpy as np
import pytest
from contracts import RULE, json_values, make, names
from hostile import checked
from hypothesis import given
from hypothesis import strategies as st

from edge_tl_runtime.core.errors import BadModelError, UnknownSpecVersion
from edge_tl_runtime.core.text import INVISIBLE, UNPRINTABLE, without_invisible
from edge_tl_runtime.modelfile.spec import Accuracy, ModelSpec, Scores, SelfTest, spread


@given(
    labels=st.lists(
        names.filter(lambda t: without_invisible(t) != "" and not UNPRINTABLE.search(t)),
        min_size=2,
        max_size=6,
        unique_by=without_invisible,
    ),
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


UNSEEN = (
    "\u00ad\u034f\u061c\u115f\u17b4\u180e\u200b\u200c\u200d\u200e\u200f"
    "\u2060\u2062\u2800\u3164\ufe0f\ufeff\uffa0\U0001d173\U000e0041"
)


@pytest.mark.parametrize("letter", UNSEEN, ids=lambda letter: f"{ord(letter):x}")
def test_labels_that_are_one_to_a_person_are_refused(letter):
    """Zero width, joiners, fillers, tags: a file of somebody else's must not name two classes that nobody can tell apart."""
    assert INVISIBLE.match(letter)
    for pair in (
        ("cat", f"c{letter}at"),
        (f"cat{letter}", "cat"),
        ("cat", f"{letter}cat"),
        (f"c{letter}at", f"ca{letter}t"),
    ):
        with pytest.raises(BadModelError, match="differ only in what is not seen"):
            make(pair)
    with pytest.raises(BadModelError, match="no letter that can be seen"):
        make(("cat", letter * 3))
    assert make((f"c{letter}at", "dog")).labels == (f"c{letter}at", "dog")


@pytest.mark.parametrize("letter", "\u202a\u202e\u2066\u2069", ids=lambda letter: f"{ord(letter):x}")
def test_marks_that_turn_the_rest_of_a_line_are_refused(letter):
    with pytest.raises(BadModelError, match="control characters"):
        make((f"c{letter}at", "dog"))


def test_words_that_need_joiners_stay():
    labels = (
        "\u0645\u06cc\u200c\u0631\u0648\u062f",
        "\u0915\u094d\u200d\u0937",
        "\u2764\ufe0f",
        "\U0001f469\u200d\U0001f52c",
    )
    assert make(labels).labels == labels


def test_spec_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().arch = "other"
    given = {"seed": 0}
    spec = make(training=given)
    given["seed"] = 1
    assert spec.training["seed"] == 0
    with pytest.raises(TypeError):
        spec.training["seed"] = 2


@pytest.mark.parametrize("version", [4, 5, 10**9, 10**200])
def test_a_newer_file_says_to_upgrade_here(version):
    with pytest.raises(
        UnknownSpecVersion, match=r"the file is newer than this edge-tl: .*upgrade edge-tl on this machine"
    ):
        ModelSpec.from_dict({**make().to_dict(), "version": version})


@pytest.mark.parametrize("version", [0, -1, -(10**200)])
def test_a_file_older_than_all_says_to_export_again(version):
    with pytest.raises(
        UnknownSpecVersion, match=r"the file is older than any .*export the model again; upgrading .* not help"
    ):
        ModelSpec.from_dict({**make().to_dict(), "version": version})


@pytest.mark.parametrize("version", ["1", "2", None, 1.5, 2.0, True, [2], {"major": 2}])
def test_what_is_no_version_says_so(version):
    with pytest.raises(BadModelError, match=r"is no number; this edge-tl reads versions 1 to 3"):
        ModelSpec.from_dict({**make().to_dict(), "version": version})


WHOLE = {
    **make(
        validation=Accuracy(top1=0.5, ci95=(0.0, 1.0), n=4, data="val"),
        self_test=SelfTest(thumbnail="", side=2, top1=0, logits=(1.0, 0.0), tolerance=0.1),
    ).to_dict(),
    "geometry": {"rotate": 0, "flip": "none", "crop": [0, 0, 1, 1], "fit": "crop"},
    "features": {"output": "features", "size": 2},
    "ood_score": {
        "score": "mahalanobis",
        "parameters": {"shrink": 0.1, "mean": {"dtype": "float32", "shape": [2], "data": "AACAPwAAAEA="}},
        "thresholds": {"0.95": -3, "0.99": -7.5},
        "n": 30,
        "data": "val of pets",
    },
    "class_statistics": {
        "counts": [3, 4],
        "means": {"dtype": "int8", "shape": [2, 2], "data": "AQIDBA=="},
        "covariance": {"dtype": "int8", "shape": [2, 2], "data": "AQIDBA=="},
    },
    "training_images": {
        "method": "sha256-32+dct-96",
        "radius": 12,
        "trained_on": {"n": 1, "n_pictures": 1, "files": "AQIDBA==", "pictures": "AQIDBAUGBwgJCgsM"},
        "validation": {"n": 0, "n_pictures": 0, "files": "", "pictures": ""},
    },
    "label_sets": {"method": "aps", "thresholds": {"0.9": 0.75}, "n": 30, "data": "val"},
    "history": [{"what": "taught the class bee", "parent_sha256": "ab" * 32, "photos": 12}],
    "needs": ["labels", "training_images"],
}
OPTIONAL = ("geometry", "features", "ood_score", "class_statistics", "training_images", "label_sets")


def places(value: object, way: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Ways to all objects in a document, but the free ones."""
    if isinstance(value, list):
        return [found for key, item in enumerate(value) for found in places(item, (*way, key))]
    if (
        not isinstance(value, dict)
        or way in {("training",), ("export",)}
        or (way and way[-1] in ("thresholds", "parameters"))
    ):
        return []
    return [way, *(found for key, item in value.items() for found in places(item, (*way, key)))]


def test_a_document_with_everything_comes_out_byte_for_byte():
    text = json.dumps(WHOLE, sort_keys=True, separators=(",", ":"))
    assert ModelSpec.from_json(text).to_json() == text


@given(way=st.sampled_from(places(WHOLE)), key=names.filter(lambda key: len(key) < 100), value=json_values)
def test_unknown_keys_anywhere_are_kept_and_change_nothing(way, key, value):
    document = copy.deepcopy(WHOLE)
    inner = document
    for step in way:
        inner = inner[step]
    if key in inner or key in {item.name for item in dataclasses.fields(ModelSpec)}:
        return
    inner[key] = value
    spec = ModelSpec.from_dict(document)
    assert json.loads(spec.to_json()) == json.loads(json.dumps(document))
    changed = dataclasses.replace(spec, precision="int8", validation=None)
    expected = {**document, "precision": "int8", "validation": None}
    assert json.loads(changed.to_json()) == json.loads(json.dumps(expected))


@pytest.mark.parametrize("name", OPTIONAL)
@given(data=st.data(), value=json_values)
def test_a_section_of_any_shape_is_kept_or_refused(name, data, value):
    document = copy.deepcopy(WHOLE)
    way = data.draw(st.sampled_from([(name,), *((name, key) for key in document[name])]))
    if len(way) == 1:
        document[name] = value
    else:
        document[name][way[1]] = value
    try:
        spec = ModelSpec.from_dict(document)
    except BadModelError as error:
        checked(error)
        return
    if document[name] is not None:
        assert json.loads(spec.to_json())[name] == json.loads(json.dumps(document[name]))


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (("geometry", "crop"), [0.5, 0, 0.6, 1], "leaves the frame"),
        (("geometry", "crop"), [0, 0, 1], "not four numbers"),
        (("geometry", "rotate"), 45, "turns by 45 degrees"),
        (("geometry", "rotate"), 90, "not named in needs"),
        (("geometry", "fit"), "squeeze", "none of"),
        (("features", "size"), 0, "size 0"),
        (("features", "output"), "a\nb", "has no name"),
        (("ood_score", "thresholds"), {"95": 1}, "between 0 and 1"),
        (("ood_score", "thresholds"), {"0.95": "low"}, "not a number"),
        (("ood_score", "parameters"), {"mean": [1, 2]}, "no number, text or array"),
        (("ood_score", "parameters"), {"mean": {"dtype": "float64", "shape": [1], "data": "AAAAAAAAAAA="}}, "float64"),
        (("class_statistics", "counts"), [3, 4, 5], "do not fit"),
        (("class_statistics", "means"), {"dtype": "int8", "shape": [2, 3], "data": "AQIDBA=="}, "other bytes"),
        (("class_statistics", "means"), {"dtype": "int8", "shape": [2, -2], "data": "AQIDBA=="}, "of shape"),
        (("training_images", "radius"), 49, "within 49"),
        (("training_images", "trained_on"), {"n": 1, "n_pictures": 0, "files": "AQID", "pictures": ""}, "wrong length"),
        (
            ("training_images", "trained_on"),
            {"n": 0, "n_pictures": 0, "files": "AQIDBA==", "pictures": ""},
            "wrong length",
        ),
        (("training_images", "validation"), {"n": 0, "n_pictures": 0, "files": "?", "pictures": ""}, "decoded"),
        (("label_sets", "n"), -1, "is not said"),
        (("history",), {}, "not a list"),
        (("history",), [WHOLE["history"][0]] * 1001, "1001 steps"),
        (("needs",), "labels", "not a list"),
        (("needs",), [1], "not a list of names"),
        (("background",), {"index": 2}, "not named in needs"),
    ],
    ids=str,
)
def test_sections_that_cannot_be_are_refused_with_the_reason(place, value, reason):
    document = copy.deepcopy(WHOLE)
    inner = document
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    with pytest.raises(BadModelError, match=reason):
        ModelSpec.from_dict(document)


@pytest.mark.parametrize(
    ("needs", "more"),
    [
        (["background"], {"background": {"index": 2}}),
        (
            ["background", "geometry", "labels"],
            {
                "background": {"index": 2},
                "geometry": {**WHOLE["geometry"], "crop": [0.25, 0, 0.5, 1], "fit": "letterbox", "fill": 114},
            },
        ),
        (["something of the year 2040"], {}),
    ],
    ids=str,
)
def test_what_a_reader_must_obey_and_this_one_cannot_is_refused_with_advice(needs, more):
    with pytest.raises(
        UnknownSpecVersion, match=rf"needs {needs[0]}, which this edge-tl cannot apply.*upgrade edge-tl"
    ):
        ModelSpec.from_dict({**WHOLE, **more, "needs": needs})


def test_a_document_of_version_1_is_read_and_written_as_version_3():
    old = {**make(training={"seed": 3}).to_dict(), "version": 1}
    spec = ModelSpec.from_json(json.dumps(old))
    assert spec.version == 1
    assert spec.to_dict() == old
    assert spec.current().to_dict() == {**old, "version": 3}
    assert spec.training_images is None
    assert spec.unused() == []


def test_what_is_kept_without_being_used_is_known():
    spec = ModelSpec.from_dict({**WHOLE, "novelty": 1})
    used = {"geometry", "training_images", "features", "ood_score", "label_sets"}
    unused = {*OPTIONAL, "history", "novelty"} - used
    assert spec.unused() == sorted(unused)


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
