"""Files as they lie on disks: weights beside them, links, other formats; and nothing outside their folder is read."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from adopted import SPEC, values
from foreign import LABELS, SIZE, Graph, answers, classifier, pixels
from onnx import TensorProto, helper, numpy_helper

from edge_tl.cli import invoke as run
from edge_tl_export.adoption.adopt import adopt, read_original, write_adopted
from edge_tl_export.adoption.loading import load, load_bytes
from edge_tl_runtime.core.errors import BadModelError, EdgeTLError
from edge_tl_runtime.inference.classifier import Classifier

DATA = "weights.bin"


def beside(folder, data=DATA, one_file=True):
    """The plain classifier with its weights in another file, as PyTorch writes it."""
    folder.mkdir(exist_ok=True)
    onnx.save(
        classifier(),
        folder / "m.onnx",
        save_as_external_data=True,
        all_tensors_to_one_file=one_file,
        location=data if one_file else None,
        size_threshold=0,
    )
    return folder / "m.onnx"


def changed(path, **keys):
    """The same with entries of every external tensor changed; None removes one."""
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        kept = {item.key: item.value for item in tensor.external_data} | keys
        del tensor.external_data[:]
        for key, value in kept.items():
            if value is not None:
                tensor.external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())
    return path


def check(path, tmp_path):
    write_adopted(read_original(path).adopt(SPEC), tmp_path / "out.onnx")
    ours = Classifier(tmp_path / "out.onnx")
    np.testing.assert_allclose(ours.logits(pixels()), answers(classifier(), values(pixels())), atol=1e-5)


@pytest.mark.parametrize("one_file", [True, False])
def test_weights_beside_the_file_are_taken_in_from_any_folder(one_file, tmp_path, monkeypatch):
    path = beside(tmp_path / "theirs", one_file=one_file)
    monkeypatch.chdir(tmp_path)
    check(path.relative_to(tmp_path), tmp_path)
    monkeypatch.chdir("/")
    check(path, tmp_path)
    assert onnx.load(tmp_path / "out.onnx", load_external_data=False).graph.initializer[0].raw_data


def test_weights_in_a_folder_below_and_without_a_length(tmp_path):
    path = beside(tmp_path / "theirs")
    (path.parent / "data").mkdir()
    (path.parent / DATA).rename(path.parent / "data" / DATA)
    check(changed(path, location=f"data/{DATA}", length=None), tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_what_pytorch_writes_by_default(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
                                  torch.nn.Linear(4, 5)).eval()  # fmt: skip
    image = torch.zeros(1, 3, SIZE, SIZE)
    torch.onnx.export(network, (image,), str(tmp_path / "m.onnx"), dynamo=True, external_data=True)
    assert (tmp_path / "m.onnx.data").exists()
    write_adopted(read_original(tmp_path / "m.onnx").adopt(SPEC), tmp_path / "out.onnx")
    with torch.no_grad():
        expected = network(torch.from_numpy(values(pixels()))).numpy()
    np.testing.assert_allclose(Classifier(tmp_path / "out.onnx").logits(pixels()), expected, atol=1e-4)


def test_a_download_cache_of_links_is_followed(tmp_path):
    """Hugging Face's: both names are links into one folder of blobs."""
    path = beside(tmp_path / "blobs")
    snapshot = tmp_path / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    for name in ("m.onnx", DATA):
        (path.parent / name).rename(path.parent / f"hash-{name}")
        (snapshot / name).symlink_to(path.parent / f"hash-{name}")
    check(snapshot / "m.onnx", tmp_path)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"location": "../secret.bin"}, "by a path with"),
        ({"location": "a/../../secret.bin"}, "by a path with"),
        ({"location": "/etc/passwd"}, "by an absolute path"),
        ({"location": "C:\\secret.bin"}, "by an absolute path"),
        ({"location": ""}, "does not name it"),
        ({"location": "link.bin"}, "a link out of its own folder"),
        ({"location": "linked/secret.bin"}, "a link out of its own folder"),
        ({"location": "other.bin"}, "'other.bin', which is not in"),
        ({"location": "."}, "does not name it"),
        ({"location": "../theirs/weights.bin"}, "by a path with"),
        ({"location": "folder"}, "which is a folder"),
        ({"location": "pipe"}, "which is no plain file"),
        ({"length": "1"}, "a size that they cannot have"),
        ({"offset": "-8"}, "a size that they cannot have"),
        ({"offset": "x"}, "a size that they cannot have"),
        ({"offset": "1000000"}, "truncated"),
    ],
)
def test_weights_from_a_wrong_place_are_refused_by_name(keys, reason, tmp_path):
    import os

    path = beside(tmp_path / "theirs")
    (tmp_path / "secret.bin").write_bytes(bytes(1 << 16))
    (path.parent / "link.bin").symlink_to(tmp_path / "secret.bin")
    (path.parent / "linked").symlink_to(tmp_path)
    (path.parent / "folder").mkdir()
    os.mkfifo(path.parent / "pipe")
    with pytest.raises(BadModelError, match=reason) as caught:
        load(changed(path, **keys))
    assert "\n" not in str(caught.value)


def test_doubles_that_onnxruntime_cannot_compute_are_said_in_plain_words(tmp_path):
    graph = Graph(kind=TensorProto.DOUBLE)
    with pytest.raises(BadModelError, match=r"^m\.onnx computes Conv in double.*export it in float32") as caught:
        adopt(graph.model([graph.body("image")]).SerializeToString(), SPEC, "m.onnx")
    assert "NOT_IMPLEMENTED" not in str(caught.value)


def test_missing_and_short_data_are_named(tmp_path):
    path = beside(tmp_path / "theirs")
    data = path.parent / DATA
    data.write_bytes(data.read_bytes()[:-8])
    with pytest.raises(BadModelError, match=r"weights.bin has \d+ bytes and .* needs \d+; it is truncated"):
        load(path)
    data.unlink()
    with pytest.raises(BadModelError, match=r"'weights.bin', which is not in .*theirs; copy that file there too"):
        load(path)
    with pytest.raises(BadModelError, match="give its path"):
        load_bytes(path.read_bytes(), "m.onnx")


def test_more_than_two_gigabytes_are_refused_before_they_are_read(tmp_path):
    path = beside(tmp_path / "theirs")
    proto = onnx.load(path, load_external_data=False)
    large = proto.graph.initializer.add(name="large", data_type=TensorProto.FLOAT, dims=[700, 1 << 20])
    large.data_location = TensorProto.EXTERNAL
    large.external_data.add(key="location", value="large.bin")
    path.write_bytes(proto.SerializeToString())
    with open(path.parent / "large.bin", "wb") as sparse:
        sparse.truncate(700 << 22)  # a hole: takes no room on the disk
    with pytest.raises(BadModelError, match=r"2\.7 GB, and one file holds at most 2 GB"):
        load(path)


def test_weights_hidden_in_attributes_and_branches_are_found_too(tmp_path):
    """Not only initializers can lie outside."""
    stored = numpy_helper.from_array(np.full((5,), 0.5, np.float32), "c")
    (tmp_path / "c.bin").write_bytes(stored.raw_data)
    stored.ClearField("raw_data")
    stored.data_location = TensorProto.EXTERNAL
    stored.external_data.add(key="location", value="c.bin")

    def tail(graph, x):
        then = helper.make_graph(
            [helper.make_node("Constant", [], ["k"], value=stored), helper.make_node("Add", [x, "k"], ["p"])],
            "t", [], [helper.make_tensor_value_info("p", 1, None)],
        )  # fmt: skip
        other = helper.make_graph(
            [helper.make_node("Identity", [x], ["q"])], "e", [], [helper.make_tensor_value_info("q", 1, None)]
        )
        return graph.op("If", graph.store(True, bool), then_branch=then, else_branch=other)

    (tmp_path / "m.onnx").write_bytes(classifier(tail).SerializeToString())
    write_adopted(read_original(tmp_path / "m.onnx").adopt(SPEC), tmp_path / "out.onnx")
    ours = Classifier(tmp_path / "out.onnx")
    np.testing.assert_allclose(ours.logits(pixels()), answers(classifier(), values(pixels())) + 0.5, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"PK\x03\x04" + bytes(100), "ZIP archive, as PyTorch"),
        (b"\x1c\0\0\0TFL3" + bytes(100), "TensorFlow Lite"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "Keras"),
        (b"<!doctype html><title>404</title>", "a web page"),
        (b"", "is empty"),
        (b"\xff" * 200, "no valid ONNX model"),
        (bytes(1000), "no valid ONNX model"),
        (b"hello, world\n" * 50, "no valid ONNX model"),
    ],
)
def test_another_kind_of_file_is_called_by_its_name(content, reason, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(BadModelError, match=reason) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_folder_and_a_path_without_a_file(tmp_path):
    (tmp_path / "m.onnx").write_bytes(classifier().SerializeToString())
    with pytest.raises(BadModelError, match=r"is a folder; give the file in it: .*m\.onnx"):
        load(tmp_path)
    with pytest.raises(BadModelError, match="check the path"):
        load(tmp_path / "n.onnx")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(share, tmp_path):
    whole = classifier().SerializeToString()
    with pytest.raises(EdgeTLError):
        read_original_of(whole[: int(len(whole) * share)], tmp_path).adopt(SPEC)


def read_original_of(data, tmp_path):
    (tmp_path / "cut.onnx").write_bytes(data)
    return read_original(tmp_path / "cut.onnx")


def test_flipped_bytes_never_give_a_traceback(tmp_path):
    whole = classifier(lambda g, x: g.op("Softmax", x, axis=1)).SerializeToString()
    random = np.random.default_rng(5)
    for _ in range(60):
        data = bytearray(whole)
        data[random.integers(len(data))] ^= 1 << random.integers(8)
        try:
            read_original_of(bytes(data), tmp_path).adopt(SPEC)
        except EdgeTLError as error:
            said = str(error)
        else:
            said = ""
        assert "\n" not in said


def test_what_is_written_has_been_opened_and_nothing_else_is(tmp_path, monkeypatch, capsys):
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    (tmp_path / "theirs.onnx").write_bytes(classifier().SerializeToString())
    monkeypatch.chdir(tmp_path)
    assert run(["adopt", "theirs.onnx", "-o", "ours.onnx", "--labels", "labels.txt"]) == 0
    before = (tmp_path / "ours.onnx").read_bytes()
    adopted = read_original("theirs.onnx").adopt(SPEC)
    damaged = type(adopted)(adopted.model[:-1] + b"\0", adopted.spec, adopted.notes)
    with pytest.raises(EdgeTLError, match="would not open"):
        write_adopted(damaged, tmp_path / "ours.onnx")
    assert (tmp_path / "ours.onnx").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.txt", "ours.onnx", "theirs.onnx"]
    capsys.readouterr()
    assert run(["adopt", "theirs.onnx", "-o", "new.onnx", "--labels", "labels.txt", "--output", "other"]) == 2
    assert not (tmp_path / "new.onnx").exists()
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.slow
def test_a_large_file_takes_a_few_times_its_size(tmp_path):
    """96 MB of weights; another process, whose memory begins where this one's does not."""
    graph_file = tmp_path / "large.onnx"
    code = f"""
import numpy as np, resource, sys
sys.path[:0] = {sys.path!r}
from foreign import Graph, SIZE, CLASSES
graph = Graph()
x = graph.op("Flatten", "image")
x = graph.op("MatMul", x, graph.store(np.random.default_rng(0).normal(0, 0.02, (3 * SIZE * SIZE, 32000))))
model = graph.model([graph.op("MatMul", x, graph.store(np.full((32000, CLASSES), 0.01)))])
open({str(graph_file)!r}, "wb").write(model.SerializeToString())
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    size = graph_file.stat().st_size
    code = f"""
import resource, sys
sys.path[:0] = {sys.path!r}
from adopted import SPEC
from edge_tl_export.adoption.adopt import adopt, read_original, write_adopted
from pathlib import Path
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_adopted(read_original({str(graph_file)!r}).adopt(SPEC), Path({str(tmp_path / "o.onnx")!r}))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    told = subprocess.run([sys.executable, "-c", code], check=True, timeout=300, capture_output=True, text=True)
    assert int(told.stdout) * 1024 < 12 * size
