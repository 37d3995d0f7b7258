"""Contract and checksum in the ONNX file, held against the onnx package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tl_runtime.core.errors import BadModelError, EdgeTLError
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.modelfile.onnx import CHECKSUM_KEY, SPEC_KEY, parse_spec, read_spec, with_checksum


def test_onnx_sees_the_contract_and_the_same_graph(color_model, color_graph, color_spec):
    model = onnx.load(color_model)
    onnx.checker.check_model(model, full_check=True)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata[SPEC_KEY] == color_spec.to_json()
    assert set(metadata) == {SPEC_KEY, CHECKSUM_KEY}
    assert model.graph == onnx.load_from_string(color_graph).graph


def test_the_spec_comes_back(color_model, color_spec):
    assert read_spec(color_model) == color_spec


def test_sealing_again_replaces_the_contract(color_graph, color_spec):
    once = with_checksum(color_graph, color_spec)
    assert with_checksum(once, color_spec) == once


def test_every_flipped_byte_is_noticed(color_model):
    data = color_model.read_bytes()
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << (position % 8)
        with pytest.raises(BadModelError):
            parse_spec(bytes(damaged), "damaged")


def test_every_truncation_is_noticed(color_model):
    data = color_model.read_bytes()
    for length in range(len(data)):
        with pytest.raises(BadModelError):
            parse_spec(data[:length], "truncated")


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_random_bytes_are_refused(data):
    with pytest.raises(BadModelError):
        parse_spec(data, "noise")


def test_a_foreign_model_is_told_apart(color_graph, tmp_path):
    path = tmp_path / "foreign.onnx"
    path.write_bytes(color_graph)
    with pytest.raises(BadModelError, match="carries no edge-tl contract"):
        read_spec(path)


def test_a_file_saved_again_by_another_tool_is_refused(color_model, tmp_path):
    model = onnx.load(color_model)
    model.producer_name = "another"
    onnx.save(model, tmp_path / "again.onnx")
    with pytest.raises(BadModelError, match="altered or damaged"):
        read_spec(tmp_path / "again.onnx")


@pytest.mark.parametrize("name", ["missing.onnx", "."], ids=["no file", "a folder"])
def test_what_is_no_file_is_named(name, tmp_path):
    with pytest.raises(BadModelError, match="export"):
        read_spec(tmp_path / name)


def test_a_run_folder_points_to_its_models(color_model):
    with pytest.raises(BadModelError, match=r"use .*colors\.onnx"):
        read_spec(color_model.parent)


def test_a_wrong_answer_to_the_self_test_is_refused(color_graph, color_spec, tmp_path):
    model = onnx.load_from_string(color_graph)
    weight = next(t for t in model.graph.initializer if t.name == "weight")
    weight.CopyFrom(onnx.numpy_helper.from_array((11 / 255 * np.eye(3)).astype(np.float32), "weight"))
    path = tmp_path / "other-weights.onnx"
    path.write_bytes(with_checksum(model.SerializeToString(), color_spec))
    with pytest.raises(BadModelError, match="failed its self-test"):
        Classifier(path)


def test_labels_that_do_not_fit_the_graph_are_refused(color_graph, color_spec, tmp_path):
    import dataclasses

    test = dataclasses.replace(color_spec.self_test, logits=(*color_spec.self_test.logits, 0.0))
    spec = dataclasses.replace(color_spec, labels=(*color_spec.labels, "fourth"), self_test=test)
    path = tmp_path / "four.onnx"
    path.write_bytes(with_checksum(color_graph, spec))
    with pytest.raises(BadModelError, match="does not fit its 4 labels"):
        Classifier(path)


def test_a_provider_that_is_not_here_is_an_error(color_model):
    from edge_tl_runtime.inference.classifier import SessionSettings

    with pytest.raises(EdgeTLError, match="NoSuchExecutionProvider"):
        Classifier(Path(color_model), SessionSettings(provider="NoSuchExecutionProvider"))
