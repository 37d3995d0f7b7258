"""Contracts and profiles made to break their reader: a valid value or one line, for any JSON."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import NOT_REGULAR, SPEC, changed, checked, mutated, refused, replaced, within
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tl_runtime.core.errors import BadModelError
from edge_tl_runtime.inference.classifier import SessionSettings
from edge_tl_runtime.machine.cpu import this_target
from edge_tl_runtime.machine.tuning_profile import PROFILE_VERSION, Machine, profile_path, profiled_settings
from edge_tl_runtime.modelfile.spec import ModelSpec, ResizeRule, SelfTest

DOCUMENT: dict[str, Any] = changed(
    SPEC,
    training={"seed": 1, "best": "epoch 3"},
    export={"target": "arm64"},
).to_dict() | {"validation": {"top1": 0.5, "ci95": [0.4, 0.6], "n": 10, "data": "val"}}


def test_the_document_that_the_others_are_made_of_is_good():
    assert ModelSpec.from_dict(DOCUMENT).labels == SPEC.labels


def put(path: str, text: str) -> str:
    """DOCUMENT as JSON with the text `text`, whatever it is, in the place of a value."""
    document: Any = copy.deepcopy(DOCUMENT)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = document
    for part in parents:
        place = place[part]
    place[last] = "@@"
    return json.dumps(document).replace('"@@"', text)


DEEP = "[" * 900 + "]" * 900
HOSTILE_VALUES = {
    "nested in training": ("training.seed", DEEP),
    "nested version": ("version", DEEP),
    "nested beyond recursion": ("training.seed", "[" * 100_000 + "]" * 100_000),
    "objects nested": ("export.target", '{"a":' * 900 + "1" + "}" * 900),
    "a huge height": ("resize.height", "1" + "0" * 400),
    "a huge mean": ("normalization.mean.0", "1" + "0" * 400),
    "a huge temperature": ("scores.temperature", "1" + "0" * 290),
    "a tiny temperature": ("scores.temperature", "5e-324"),
    "a huge tolerance": ("self_test.tolerance", "1" + "0" * 400),
    "a huge score": ("self_test.logits.0", "1" + "0" * 400),
    "a million digits": ("resize.height", "9" * 1_000_000),
    "a million digits nowhere": ("training.seed", "9" * 1_000_000),
    "NaN": ("self_test.logits.0", "NaN"),
    "Infinity": ("training.seed", "-Infinity"),
    "beyond floats": ("training.seed", "1e999"),
    "a logit of text": ("self_test.logits.0", '"1"'),
    "half a pixel": ("self_test.side", "2.5"),
    "half a class": ("self_test.top1", "0.5"),
    "a truth for a number": ("resize.crop_pct", "true"),
    "thumbnail of another kind": ("self_test.thumbnail", "7"),
    "resample of another kind": ("resize.resample", "[]"),
    "an interval of text": ("validation.ci95", '["a", null]'),
    "an interval of three": ("validation.ci95", "[0, 0.5, 1]"),
    "half a photo": ("validation.n", "1.5"),
    "data of another kind": ("validation.data", "{}"),
    "width beyond bounds": ("resize.width", "4097"),
    "a label that clears the screen": ("labels.0", '"a\\u001b[2Jb"'),
    "a label with C1 control": ("labels.0", '"a\\u009b2Jb"'),
    "a label of two lines": ("labels.0", '"a\\nb"'),
    "a label with DEL": ("labels.0", '"a\\u007f"'),
    "half a surrogate pair": ("labels.0", '"\\ud83d"'),
    "half a pair in training": ("training.seed", '"\\ud83d"'),
    "half a pair in a key": ("export", '{"\\udc00": 1}'),
    "an architecture with control": ("arch", '"x\\u001b]0;y\\u0007"'),
    "a label of 10 MB": ("labels.0", f'"{"x" * 10_000_000}"'),
    "a label of 1 MB": ("labels.0", f'"{"x" * 1_000_000}"'),
    "a million labels": ("labels", json.dumps([str(i) for i in range(1_000_000)])),
    "the same label often": ("labels", json.dumps(["a"] * 800_000)),
    "a key with control": ("scores", '{"\\u001b[2J": 1}'),
    "a long key": ("scores", f'{{"{"x" * 1_000_000}": 1}}'),
    "duplicated keys": ("scores", '{"temperature": 1, "temperature": 2}'),
}


@pytest.mark.parametrize("kind", [kind for kind in HOSTILE_VALUES if kind != "nested version"])
def test_hostile_values_are_refused(kind):
    text = put(*HOSTILE_VALUES[kind])
    refused(BadModelError, lambda: ModelSpec.from_json(text))


def test_a_version_of_any_shape_is_shown_briefly():
    for value in ('"\\u001b[2J"', json.dumps([1] * 30), '"' + "x" * 100_000 + '"', "{}"):
        with pytest.raises(BadModelError, match="version") as caught:
            ModelSpec.from_json(put("version", value))
        assert len(str(caught.value)) < 300
        assert "\x1b" not in str(caught.value)
    refused(BadModelError, lambda: ModelSpec.from_json(put(*HOSTILE_VALUES["nested version"])))


def test_words_of_all_scripts_are_labels():
    for label in ("ผึ้ง", "ant, bee", "नमस्ते", "👩‍👩‍👧", "a\u200db", "عربى", "x" * 1000):
        assert label in changed(SPEC, labels=(label, "b", "c")).labels


def test_the_largest_input_passes_its_self_test_in_bounds():
    rule = ResizeRule(height=4096, width=4096, crop_pct=1.0, resample="area-cubic")
    assert SPEC.self_test is not None
    with within(5):
        assert SPEC.self_test.pixels(rule).shape == (1, 4096, 4096, 3)


def test_a_self_test_that_inflates_without_end_is_refused():
    bomb = changed(SPEC.self_test, thumbnail=SelfTest.encode(np.zeros(200_000_000, np.uint8)))
    assert "instead of 12" in refused(BadModelError, lambda: bomb.pixels(SPEC.resize))


hostile_text = st.text(st.characters(categories=["Ll", "Lo", "Cc", "Cs", "Zl", "Cf"]), max_size=6)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 2**31, 2**63, 10**4000])
    | st.floats()
    | hostile_text
)
any_json = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hostile_text, inner, max_size=4), max_leaves=10
)


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if way:
        yield way
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*way, key))


def check_contract(text: str) -> None:
    try:
        spec = ModelSpec.from_json(text)
    except BadModelError as error:
        checked(error)
        return
    assert ModelSpec.from_json(spec.to_json()) == spec
    spec.to_json().encode("utf-8")
    assert not any(c < " " or "\x7f" <= c < "\xa0" for label in spec.labels for c in label)
    probabilities = spec.scores.probabilities(np.array([[3e38, -3e38, 0.0]], np.float32))
    np.testing.assert_allclose(probabilities.sum(), 1)
    if spec.self_test is not None:
        with contextlib.suppress(BadModelError):
            assert spec.self_test.pixels(spec.resize).dtype == np.uint8


@given(way=st.sampled_from(list(places(DOCUMENT))), value=any_json)
@settings(max_examples=1500)
def test_a_contract_with_anything_in_any_place_is_read_or_refused(way, value):
    check_contract(json.dumps(replaced(DOCUMENT, way, value)))


@given(any_json)
@settings(max_examples=200)
def test_any_json_is_a_contract_or_refused(value):
    check_contract(json.dumps(value))


@given(data=st.data())
@settings(max_examples=300)
def test_a_contract_with_damaged_text_is_read_or_refused(data):
    check_contract(mutated(data, json.dumps(DOCUMENT).encode()).decode("utf-8", "surrogateescape"))


@pytest.fixture(scope="module")
def profile_at(color_model, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """A model file, and the document of a profile that counts on this machine."""
    from dataclasses import asdict
    from hashlib import sha256

    model = tmp_path_factory.mktemp("profile") / "m.onnx"
    model.write_bytes(color_model.read_bytes())
    choice = {"threads": 1, "spin": False, "provider": "cpu"}
    document = {
        "version": PROFILE_VERSION,
        "machine": json.loads(json.dumps(asdict(Machine.here()))),
        "frame": choice,
        "batch": choice,
        "sha256": sha256(model.read_bytes()).hexdigest(),
    }
    assert document["machine"]["target"] == this_target()
    return model, document


def check_profile(model: Path, content: bytes) -> None:
    profile_path(model).write_bytes(content)
    found, reason = profiled_settings(model)
    assert (found is None) == bool(reason)
    if reason:
        checked(reason)
    if found is not None:
        assert isinstance(found, SessionSettings)
        assert found.threads is None or 1 <= found.threads <= 1024


def test_the_profile_that_the_others_are_made_of_counts(profile_at):
    model, document = profile_at
    profile_path(model).write_text(json.dumps(document))
    assert profiled_settings(model) == (SessionSettings(threads=1), "")


@given(data=st.data(), value=any_json)
@settings(max_examples=300)
def test_a_profile_with_anything_in_any_place_is_followed_or_ignored(data, value, profile_at):
    model, document = profile_at
    way = data.draw(st.sampled_from(list(places(document))))
    check_profile(model, json.dumps(replaced(document, way, value)).encode())


@given(value=any_json)
@settings(max_examples=100)
def test_any_json_is_a_profile_or_ignored(value, profile_at):
    check_profile(profile_at[0], json.dumps(value).encode())


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", DEEP.encode(), b"[" * 900_000, b" " * 2**21, b"9" * 1_000_000, b'{"version": "\x1b[2J"}'],
    ids=["empty", "not utf-8", "nested", "nested deeper", "large", "digits", "control"],
)
def test_profiles_made_to_break_the_reader_are_ignored(content, profile_at):
    with within(3):
        check_profile(profile_at[0], content)


def test_a_profile_nested_up_to_the_limit_of_recursion_is_ignored(profile_at):
    model, document = profile_at
    for depth in range(850, 1000, 10):
        nested = json.dumps(replaced(document, ("machine", "cpu"), "@")).replace('"@"', "[" * depth + "]" * depth)
        check_profile(model, nested.encode())


@pytest.mark.parametrize("kind", NOT_REGULAR)
def test_a_profile_that_is_no_file_is_passed_over_without_waiting(kind, color_model, tmp_path):
    model = tmp_path / "m.onnx"
    model.write_bytes(color_model.read_bytes())
    NOT_REGULAR[kind](profile_path(model))
    with within(3):
        assert profiled_settings(model)[0] is None
