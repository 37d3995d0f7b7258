"""docs/contract.md, taken at its word: the reader it shows, and the arithmetic it gives."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import write_photo
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tl_runtime.images.crop import RESAMPLES, crop_resize
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.modelfile.onnx import CHECKSUM_KEY, SPEC_KEY, with_checksum
from edge_tl_runtime.modelfile.sections import FITS, FLIPS, TURNS, Geometry
from edge_tl_runtime.modelfile.spec import ResizeRule, Scores, SelfTest

PAGE = (Path(__file__).parents[1] / "docs" / "contract.md").read_text("utf-8")
(BLOCK,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
READER: dict[str, object] = {"__name__": "reader"}
exec(compile(BLOCK, "docs/contract.md", "exec"), READER)


@pytest.fixture
def script(tmp_path) -> Path:
    path = tmp_path / "classify.py"
    path.write_text(BLOCK, "utf-8")
    return path


def classify(script: Path, model: Path, photo: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, script, model, photo], capture_output=True, text=True, check=False)


def photo_of(path: Path, seed: int = 0) -> Path:
    """Large enough that blocks are averaged before the last step."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return write_photo(path, cv2.resize(small, (640, 470), interpolation=cv2.INTER_CUBIC))


def test_the_reader_needs_three_packages():
    nodes = ast.walk(ast.parse(BLOCK))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert imported - set(sys.stdlib_module_names) == {"cv2", "numpy", "onnxruntime"}
    assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(ast.parse(BLOCK)))


@pytest.mark.parametrize("name", ["photo.jpg", "photo.png"])
def test_the_reader_says_what_edge_tl_says(script, color_graph, color_spec, tmp_path, name):
    model = tmp_path / "warm.onnx"
    model.write_bytes(with_checksum(color_graph, replace(color_spec, scores=Scores(temperature=2.5))))
    photo = photo_of(tmp_path / name)
    said = classify(script, model, photo)
    assert said.returncode == 0, said.stderr
    found = [line.split("\t") for line in said.stdout.splitlines()]
    expected = Classifier(model).classify(read_photo(photo)).to_dict()["top"]
    assert [label for label, _ in found] == [score["label"] for score in expected]
    assert [float(p) for _, p in found] == pytest.approx([score["confidence"] for score in expected], abs=2e-6)


def test_the_reader_refuses_what_edge_tl_refuses(script, color_model, color_graph, color_spec, tmp_path):
    photo = photo_of(tmp_path / "a.png")
    data = color_model.read_bytes()
    place = data.index(b"mean-color")
    test = color_spec.self_test
    wrong = SelfTest(**{**{n: getattr(test, n) for n in test.__slots__}, "top1": (test.top1 + 1) % 3})
    unknown = replace(color_spec, resize=replace(color_spec.resize, resample="lanczos"))
    for content, reason in (
        (data[:place] + b"M" + data[place + 1 :], "the checksum does not match"),
        (color_graph, "no contract"),
        (with_checksum(color_graph, unknown), "newer release"),
        (with_checksum(color_graph, replace(color_spec, needs=("background",))), "newer release"),
        (with_checksum(color_graph, replace(color_spec, self_test=wrong)), "the self-test failed"),
    ):
        path = tmp_path / "bad.onnx"
        path.write_bytes(content)
        said = classify(script, path, photo)
        assert (said.returncode, reason in said.stderr) == (1, True), said.stderr


def test_the_seal_is_of_everything_before_the_last_field(color_model):
    data = color_model.read_bytes()
    last = list(READER["fields"](data))[-1]
    assert last[0] == 14
    assert CHECKSUM_KEY.encode() in data[last[1] :]
    assert PAGE.count(f"`{CHECKSUM_KEY}`") >= 2
    assert PAGE.count(f"`{SPEC_KEY}`") >= 1
    assert json.dumps(READER["contract"](data), sort_keys=True) == json.dumps(
        Classifier(color_model).spec.to_dict(), sort_keys=True
    )


@given(
    shape=st.tuples(st.integers(1, 500), st.integers(1, 500)),
    target=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    crop=st.floats(0.05, 1),
    name=st.sampled_from(sorted(RESAMPLES)),
    order=st.sampled_from(["RGB", "BGR"]),
)
@settings(max_examples=120)
def test_the_reader_makes_the_same_pixels(shape, target, crop, name, order):
    frame = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    rule = ResizeRule(height=target[0], width=target[1], crop_pct=crop, resample=name, color_order=order)
    document = {slot: getattr(rule, slot) for slot in rule.__slots__}
    np.testing.assert_array_equal(READER["pixels_of"](frame, document)[0], crop_resize(frame, rule))


@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    geometry=st.builds(
        Geometry,
        rotate=st.sampled_from(TURNS),
        flip=st.sampled_from(FLIPS),
        crop=st.sampled_from([(0, 0, 1, 1), (0.1, 0.3, 0.5, 0.6), (0.5, 0, 0.5, 1), (0.99, 0.99, 0.01, 0.01)]),
        fit=st.sampled_from(FITS),
        fill=st.sampled_from([None, 7]),
    ),
)
@settings(max_examples=80)
def test_the_reader_turns_and_crops_in_the_same_way(shape, geometry):
    frame = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    rule = ResizeRule(height=24, width=40, crop_pct=0.875, resample="area-linear", geometry=geometry)
    got = READER["pixels_of"](frame, rule.known(), geometry.to_dict())[0]
    np.testing.assert_array_equal(got, crop_resize(frame, rule))


# The arithmetic in words, in NumPy alone


def averaged(image: np.ndarray, k: int) -> np.ndarray:
    rows, columns = image.shape[0] // k, image.shape[1] // k
    sums = image.reshape(rows, k, columns, k, 3).astype(np.int64).sum((1, 3))
    return (sums + 2) // 4 if k == 2 else np.rint(sums / (k * k)).astype(np.int64)


def places(out: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each output row the row of the n before it, and the way to the next, in [0, 1)."""
    at = (np.arange(out) + 0.5) * (1 / (out / n)) - 0.5
    return np.floor(at).astype(int), at - np.floor(at)


def linear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    (f, t), (g, u) = places(height, image.shape[0]), places(width, image.shape[1])
    p, q = (np.rint(256 * way).astype(np.int64) for way in (t, u))
    rows, columns = (np.clip([x, x + 1], 0, n - 1) for x, n in ((f, image.shape[0]), (g, image.shape[1])))
    upper, lower = (
        image[row][:, columns[0]] * (256 - q)[:, None] + image[row][:, columns[1]] * q[:, None] for row in rows
    )
    return ((256 - p)[:, None, None] * upper + p[:, None, None] * lower + 32768) >> 16


def keys(d: np.ndarray) -> np.ndarray:
    a = -0.75
    return np.where(d <= 1, (a + 2) * d**3 - (a + 3) * d**2 + 1, a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a)


def cubic(image: np.ndarray, height: int, width: int) -> np.ndarray:
    def weights(out: int, n: int) -> np.ndarray:
        first, way = places(out, n)
        matrix = np.zeros((out, n))
        for offset in (-1, 0, 1, 2):
            np.add.at(matrix, (np.arange(out), np.clip(first + offset, 0, n - 1)), keys(np.abs(offset - way)))
        return matrix

    rows, columns = weights(height, image.shape[0]), weights(width, image.shape[1])
    return np.clip(np.rint(np.einsum("yr,rcn,xc->yxn", rows, image, columns)), 0, 255).astype(np.int64)


def by_hand(crop: np.ndarray, height: int, width: int, last) -> np.ndarray:
    h, w = crop.shape[:2]
    k = max(1, min(h // height, w // width))
    crop = crop[h % k // 2 :][: h // k * k, w % k // 2 :][:, : w // k * k].astype(np.int64)
    while k > 1:
        step = 2 if k % 2 == 0 else k
        crop, k = averaged(crop, step), k // step
    return crop if crop.shape[:2] == (height, width) else last(crop, height, width)


SHAPES = [
    (50, 61),
    (97, 130),
    (129, 128),
    (170, 140),
    (250, 200),
    (223, 260),
    (399, 321),
    (33, 20),
    (120, 96),
    (300, 511),
]


@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    # Powers of two are where weights fall between two whole 256ths.
    size=st.tuples(*[st.integers(1, 64) | st.sampled_from((128, 224, 256))] * 2),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=300, deadline=None)
def test_the_arithmetic_of_area_linear_is_exact(shape, size, seed):
    frame = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    np.testing.assert_array_equal(RESAMPLES["area-linear"](frame, *size), by_hand(frame, *size, linear))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_arithmetic_of_area_cubic_is_right_to_one(shape):
    frame = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    difference = np.abs(RESAMPLES["area-cubic"](frame, 40, 32).astype(int) - by_hand(frame, 40, 32, cubic))
    # Vendors' kernels round otherwise; another kernel, another edge or a shift by half a pixel is off by dozens here.
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.1


def test_every_rule_is_described():
    for name in RESAMPLES:
        assert f"| `{name}` |" in PAGE
        assert f'"{name}"' in BLOCK
