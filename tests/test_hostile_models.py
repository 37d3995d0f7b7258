"""Model files made to break their reader: each is refused in one line, soon and in little memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hostile import SPEC, changed, measured, mutated, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_tl_runtime.core.errors import BadModelError
from edge_tl_runtime.inference import classifier as classifier_module
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.modelfile.onnx import CHECKSUM_KEY, SPEC_KEY, parse_spec, read_spec, with_checksum


@pytest.mark.parametrize(
    "content",
    [
        b"hello, world\n" * 50,
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"PK\x03\x04" + bytes(200),
        bytes(1000),
        b"\xff" * 1000,
    ],
    ids=["text", "png", "zip", "zeros", "ones"],
)
def test_another_kind_of_file_is_no_model(content, tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    assert "not an ONNX file" in refused(BadModelError, lambda: read_spec(path))


def test_a_length_of_hundreds_of_megabytes_is_not_believed(color_model):
    whole = color_model.read_bytes()
    for claimed in (300 * 2**20, 2**31 - 1, 2**32, 2**63):
        for field in (7, 14):
            head = varint(field << 3 | 2) + varint(claimed)
            assert "truncated" in refused(BadModelError, lambda h=head: parse_spec(whole + h + b"xyz", "x"))


def test_a_tag_that_other_readers_cut_to_another_field_is_refused(color_model):
    """Protobuf reads 32 bits of a tag: this one is field 7, the graph, to it."""
    hidden = varint((7 << 3 | 2) | 1 << 32) + b"\x00"
    assert "not an ONNX file" in refused(BadModelError, lambda: parse_spec(color_model.read_bytes() + hidden, "x"))


def with_metadata(model: bytes, *pairs: tuple[str, str]) -> bytes:
    proto = onnx.load_from_string(model)
    for key, value in pairs:
        proto.metadata_props.add(key=key, value=value)
    return proto.SerializeToString()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_seal_of_any_version_stays_valid(version, color_graph, color_spec):
    """The file is put together here, by the page of the contract alone."""
    document = {**color_spec.to_dict(), "version": version}
    contract = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    begun = with_metadata(color_graph, (SPEC_KEY, contract))
    whole = with_metadata(begun, (CHECKSUM_KEY, hashlib.sha256(begun).hexdigest()))
    spec = parse_spec(whole, "it")
    assert spec.to_dict() == document
    again = parse_spec(with_checksum(whole, spec), "it")
    assert (again.version, again) == (3, color_spec)


def test_metadata_of_others_may_be_large_and_the_contract_may_not(color_graph, color_spec):
    large = "x" * (17 * 2**20)
    assert parse_spec(with_checksum(with_metadata(color_graph, ("notes", large)), color_spec), "x") == color_spec
    assert "4 MB" in refused(BadModelError, lambda: parse_spec(with_metadata(color_graph, (SPEC_KEY, large)), "x"))


def test_a_contract_too_large_to_be_read_is_not_sealed(color_graph, color_spec):
    long = changed(color_spec, training={"note": "x" * (5 * 2**20)})
    assert "larger than" in refused(BadModelError, lambda: with_checksum(color_graph, long))


@pytest.mark.parametrize("value", ["half \ud83d pair", float("inf")], ids=["not text", "infinity"])
def test_a_contract_that_cannot_be_written_is_not_sealed(value, color_graph, color_spec):
    spec = changed(color_spec, training={"data": value})
    assert "cannot be written" in refused(BadModelError, lambda: with_checksum(color_graph, spec))


def test_duplicated_metadata_is_refused(color_model, color_spec):
    for key in (SPEC_KEY, CHECKSUM_KEY):
        model = with_metadata(color_model.read_bytes(), (key, color_spec.to_json()))
        assert "appears twice" in refused(BadModelError, lambda m=model: parse_spec(m, "x"))


FLOODS: dict[str, Callable[[], bytes]] = {
    "a million metadata entries": lambda: b"".join(b"\x72\x09\x0a\x07%07d" % i for i in range(1_000_000)),
    "fields of two bytes": lambda: b"\x08\x01" * 20_000_000,
    "a metadata entry of tiny fields": lambda: delimited(14, b"\x18\x01" * 20_000_000),
    "a graph of tiny strings": lambda: delimited(7, b"\x12\x00" * 20_000_000),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_floods_of_fields_are_refused_soon(kind, tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(FLOODS[kind]())
    refused(BadModelError, lambda: read_spec(path), seconds=8)


def test_refusing_takes_the_memory_of_the_file_and_little_more(tmp_path, color_graph):
    deep = with_metadata(color_graph, (SPEC_KEY, "[" * (4 * 2**20)))
    paths = []
    for index, content in enumerate([*(make() for make in FLOODS.values()), deep]):
        paths.append(tmp_path / f"{index}.onnx")
        paths[-1].write_bytes(content)
    *lines, rise = measured("for path in sys.argv[1:]: attempt(lambda: read_spec(path))", *paths)
    assert all(line.startswith("BadModelError") for line in lines)
    assert len(lines) == len(paths)
    largest = max(path.stat().st_size for path in paths) / 2**20
    assert int(rise) < largest + 200


def test_graphs_nested_deeper_than_python_can_recurse_are_walked(color_graph, color_spec):
    graph = b""
    for _ in range(5000):
        attribute = delimited(6, graph)
        graph = delimited(1, delimited(5, attribute))
    model = color_graph + delimited(7, graph)
    assert parse_spec(with_checksum(model, color_spec), "x") == color_spec
    with pytest.raises(BadModelError, match="cannot load"):
        Classifier(saved(with_checksum(model, color_spec)))


def _paths_to_tensors() -> dict[str, list[FieldDescriptor]]:
    """Every field of every message of onnx.proto through which a model can hold a tensor, by the shortest way to it."""

    def inner(message: Descriptor) -> list[FieldDescriptor]:
        return [field for field in message.fields if field.message_type is not None]

    def shortest(start: Descriptor, goal: Descriptor) -> list[FieldDescriptor] | None:
        ways: list[tuple[Descriptor, list[FieldDescriptor]]] = [(start, [])]
        seen = {start.full_name}
        for message, way in ways:
            if message.full_name == goal.full_name:
                return way
            for field in inner(message):
                if field.message_type.full_name not in seen:
                    seen.add(field.message_type.full_name)
                    ways.append((field.message_type, [*way, field]))
        return None

    model, tensor = onnx.ModelProto.DESCRIPTOR, TensorProto.DESCRIPTOR
    found: dict[str, list[FieldDescriptor]] = {}
    todo, seen = [model], {model.full_name}
    for message in todo:
        head = shortest(model, message)
        assert head is not None
        for field in inner(message):
            tail = shortest(field.message_type, tensor)
            if tail is not None:
                found[f"{message.name}.{field.name}"] = [*head, field, *tail]
            if field.message_type.full_name not in seen:
                seen.add(field.message_type.full_name)
                todo.append(field.message_type)
    return found


TENSORS = _paths_to_tensors()


def test_onnx_has_the_places_for_tensors_that_we_know_of():
    assert {"GraphProto.initializer", "AttributeProto.g", "FunctionProto.node", "SparseTensorProto.values"} <= set(
        TENSORS
    )


def _planted(graph: bytes, way: list[FieldDescriptor]) -> tuple[onnx.ModelProto, TensorProto]:
    model = onnx.load_from_string(graph)
    place: Any = model
    for field in way:
        place = getattr(place, field.name)
        if field.is_repeated:
            place = place.add()
        else:
            place.SetInParent()
    return model, place


@pytest.mark.parametrize("place", TENSORS)
def test_weights_in_other_files_are_found_wherever_a_tensor_can_be(place, color_graph, color_spec):
    model, tensor = _planted(color_graph, TENSORS[place])
    assert parse_spec(with_checksum(model.SerializeToString(), color_spec), "x") == color_spec
    tensor.data_location = TensorProto.DEFAULT
    assert parse_spec(with_checksum(model.SerializeToString(), color_spec), "x") == color_spec
    tensor.data_location = TensorProto.EXTERNAL
    assert "other files" in refused(
        BadModelError, lambda: parse_spec(with_checksum(model.SerializeToString(), color_spec), "x")
    )
    tensor.ClearField("data_location")
    tensor.external_data.add(key="location", value="w.bin")
    assert "other files" in refused(
        BadModelError, lambda: parse_spec(with_checksum(model.SerializeToString(), color_spec), "x")
    )


@pytest.mark.parametrize("location", ["weights.bin", "../../etc/passwd", "/etc/passwd", "*/_ORT_MEM_ADDR_/*"])
def test_weights_in_other_files_never_reach_onnxruntime(location, color_graph, color_spec, tmp_path, monkeypatch):
    """All is right but for the place of the weights, and the file they name is there."""
    model = onnx.load_from_string(color_graph)
    tensor = next(t for t in model.graph.initializer if t.name == "weight")
    (tmp_path / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path = tmp_path / "x.onnx"
    path.write_bytes(with_checksum(model.SerializeToString(), color_spec))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_: pytest.fail("onnxruntime was asked"))
    assert "other files" in refused(BadModelError, lambda: Classifier(path))


MEAN = [
    helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
    helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
]
AXES = numpy_helper.from_array(np.array([1, 2], np.int64), "axes")


def saved(data: bytes) -> Path:
    folder = Path(tempfile.mkdtemp(dir=os.environ["EDGE_TL_CACHE"]))
    (folder / "x.onnx").write_bytes(data)
    return folder / "x.onnx"


def model_of(
    nodes: list[onnx.NodeProto],
    *constants: onnx.TensorProto,
    output: onnx.ValueInfoProto | None = None,
    domains: tuple[str, ...] = (),
) -> Path:
    """A model file that takes 4 x 4 pixels, with `mean` of shape (N, 3) for its nodes to make logits of."""
    graph = helper.make_graph(
        [*MEAN, *nodes],
        "hostile",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", 4, 4, 3])],
        [output or helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [AXES, *constants],
    )
    opsets = [helper.make_opsetid("", 18), *(helper.make_opsetid(name, 1) for name in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return saved(with_checksum(model.SerializeToString(), SPEC))


def array(name: str, values: Any, kind: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, kind), name)


def info(kind: int, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("logits", kind, shape)


def test_the_graph_that_the_others_are_made_of_is_good():
    assert Classifier(model_of([helper.make_node("Identity", ["mean"], ["logits"])])).spec == SPEC


@pytest.mark.parametrize("count", [2, 4, 50])
def test_labels_that_do_not_fit_a_sealed_graph_are_refused(count, color_graph, color_spec):
    test = changed(color_spec.self_test, logits=(0.0,) * count, top1=0)
    spec = changed(color_spec, labels=tuple(map(str, range(count))), self_test=test)
    path = saved(with_checksum(color_graph, spec))
    assert f"does not fit its {count} labels" in refused(BadModelError, lambda: Classifier(path))


FLOAT = TensorProto.FLOAT
MISFITS: dict[str, Callable[[], Path]] = {
    "a scalar": lambda: model_of(
        [helper.make_node("ReduceSum", ["mean"], ["logits"], keepdims=0)], output=info(FLOAT, [])
    ),
    "three axes": lambda: model_of(
        [helper.make_node("Unsqueeze", ["mean", "one"], ["logits"])],
        array("one", [1], np.int64),
        output=info(FLOAT, ["batch", 1, 3]),
    ),
    "whole numbers": lambda: model_of(
        [helper.make_node("Cast", ["mean"], ["logits"], to=TensorProto.INT64)],
        output=info(TensorProto.INT64, ["batch", 3]),
    ),
    "strings": lambda: model_of(
        [helper.make_node("Cast", ["mean"], ["logits"], to=TensorProto.STRING)],
        output=info(TensorProto.STRING, ["batch", 3]),
    ),
    "a sequence": lambda: model_of(
        [helper.make_node("SequenceConstruct", ["mean"], ["logits"])],
        output=helper.make_tensor_sequence_value_info("logits", FLOAT, ["batch", 3]),
    ),
    "two rows for one photo": lambda: model_of(
        [helper.make_node("Concat", ["mean", "mean"], ["logits"], axis=0)], output=info(FLOAT, ["rows", 3])
    ),
    "a score that is no number": lambda: model_of(
        [helper.make_node("Log", ["minus"], ["nan"]), helper.make_node("Add", ["mean", "nan"], ["logits"])],
        array("minus", -1, np.float32),
    ),
    "an unknown operator": lambda: model_of([helper.make_node("No\x1b[31m\nOp", ["mean"], ["logits"])]),
    "an operator of others": lambda: model_of(
        [helper.make_node("Op", ["mean"], ["logits"], domain="evil\x1b[2J")], domains=("evil\x1b[2J",)
    ),
    "an operator of Python": lambda: model_of(
        [helper.make_node("PyOp", ["mean"], ["logits"], domain="pyopadd")], domains=("pyopadd",)
    ),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_graphs_that_do_not_fit_are_refused(kind, capfd):
    path = MISFITS[kind]()
    refused(BadModelError, lambda: Classifier(path))
    assert "\x1b[2J" not in capfd.readouterr().err


def test_a_graph_that_never_answers_is_stopped(monkeypatch):
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["x", "one"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", FLOAT, ["batch", 3]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", FLOAT, ["batch", 3]),
        ],
    )
    path = model_of(
        [helper.make_node("Loop", ["", "true", "mean"], ["logits"], body=body)],
        array("true", True, np.bool_),
        array("one", 1, np.float32),
    )
    monkeypatch.setattr(classifier_module, "SELF_TEST_S", 0.3)
    assert "within 0.3 s" in refused(BadModelError, lambda: Classifier(path), seconds=5)


def test_a_graph_that_wants_more_memory_than_there_is_is_refused():
    paths = [
        model_of(
            [
                helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
                helper.make_node("ReduceMax", ["zeros"], ["most"], keepdims=0),
                helper.make_node("Add", ["mean", "most"], ["logits"]),
            ],
            array("shape", shape, np.int64),
        )
        for shape in ([10**6, 10**6], [2**40, 2**40], [-1, 5])
    ]
    lines = measured("for path in sys.argv[1:]: attempt(lambda: Classifier(path))", *paths, limit_mb=6000)
    assert [line.split()[0] for line in lines[:-1]] == ["BadModelError"] * 3
    assert int(lines[-1]) < 500


def test_damaged_graphs_with_an_honest_seal_are_refused_or_answer(color_graph, color_spec, tmp_path):
    """In a process of its own: onnxruntime is native code, and a crash of it is what this would find."""
    chance = random.Random(0)
    for number in range(150):
        graph = bytearray(color_graph)
        for _ in range(chance.choice([1, 1, 2, 8])):
            graph[chance.randrange(len(graph))] = chance.randrange(256)
        with contextlib.suppress(BadModelError):  # not even a protobuf message
            (tmp_path / f"{number}.onnx").write_bytes(with_checksum(bytes(graph), color_spec))
    paths = sorted(tmp_path.iterdir())
    assert len(paths) > 50
    *lines, rise = measured("for path in sys.argv[1:]: attempt(lambda: Classifier(path))", *paths, limit_mb=8000)
    assert {line.split()[0] for line in lines} <= {"BadModelError", "read"}
    assert int(rise) < 500


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def delimited(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


@given(data=st.data())
@settings(max_examples=400)
def test_damaged_model_files_are_refused_or_equal(data, color_model, color_spec):
    whole = color_model.read_bytes()
    bad = mutated(data, whole)
    try:
        spec = parse_spec(bad, "x")
    except BadModelError:
        return
    assert bad == whole
    assert spec == color_spec


def test_a_model_file_cut_anywhere_is_refused(color_model):
    whole = color_model.read_bytes()
    for length in {0, 1, 2, 3, 5, 9, len(whole) // 3, len(whole) // 2, *range(len(whole) - 120, len(whole))}:
        refused(BadModelError, lambda n=length: parse_spec(whole[:n], "x"))


fields = st.recursive(
    st.binary(max_size=12),
    lambda inner: st.lists(
        st.one_of(
            st.tuples(st.integers(1, 30), inner).map(lambda item: delimited(*item)),
            st.tuples(st.integers(1, 30), st.integers(0, 2**70)).map(lambda i: varint(i[0] << 3) + varint(i[1])),
            st.tuples(st.integers(0, 2**40), st.binary(max_size=9)).map(lambda i: varint(i[0]) + i[1]),
        ),
        max_size=4,
    ).map(b"".join),
    max_leaves=12,
)


@given(fields)
@settings(max_examples=400)
def test_messages_of_any_shape_are_refused(model):
    """Sealed, so that the walk over tensors meets them too."""
    for content in (model, delimited(7, model), model + delimited(14, delimited(1, SPEC_KEY.encode()) + model)):
        with pytest.raises(BadModelError):
            parse_spec(content, "x")
    try:
        whole = with_checksum(model, SPEC)
    except BadModelError:
        return
    with contextlib.suppress(BadModelError):
        assert parse_spec(whole, "x") == SPEC
