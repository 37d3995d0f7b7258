"""Shared by all tests: a real model file that needs no training, photos on disk, and the folder of real photographs."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before anything loads OpenMP or BLAS, here and in what tests start: where several workers share the cores, a second thread
# only waits, busily, for the first.
if "PYTEST_XDIST_WORKER" in os.environ:
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")

import cv2
import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
from hypothesis import settings
from onnx import TensorProto, helper, numpy_helper

from edge_tl_runtime.modelfile.onnx import with_checksum
from edge_tl_runtime.modelfile.spec import ModelSpec, Normalization, ResizeRule, SelfTest, spread

# The same examples on every machine; a failure found by chance is no news about the change that met it.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

THAI = "ผึ้ง"
COLORS = {"red": (0, 0, 255), "green": (0, 255, 0), THAI: (255, 0, 0)}  # BGR; the third class is blue
RULE = ResizeRule(height=32, width=32, crop_pct=0.875, resample="area-cubic")


LONGEST = (
    *("test_finetune", "test_real_photos", "test_attacks_agree", "test_documentation", "test_adversarial_training"),
    *("test_how_to", "test_train", "test_command_line", "test_demo", "test_quantize", "test_differentiable"),
    *("test_report", "test_adopt", "test_adopt_loading", "test_schemas", "test_robustness", "test_pack"),
)
"""Modules whose tests take longest, so that no worker begins one of them when the other has nothing left to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest modules begin first where workers share them (--dist loadfile --no-loadscope-reorder)."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        ranks = {name: rank for rank, name in enumerate(LONGEST)}
        items.sort(key=lambda item: ranks.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real photographs; tests that need them say so by asking for this."""
    folder = os.environ.get("EDGE_TL_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("EDGE_TL_TEST_DATA names no folder of real photographs")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["EDGE_TL_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> Iterator[None]:
    """Interrupts arrive here and in what tests start, also where pytest runs in the background of a shell, which ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Networks of a test's size gain nothing from a second one, and lose all to waiting where the cores are busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`stripes.Made`: what takes long to make, for all modules once. Those that use it import PyTorch; others need not."""
    from stripes import Made

    return Made(tmp_path_factory)


@pytest.fixture(scope="session")
def color_graph() -> bytes:
    """An ONNX classifier of the mean colour: logits are 10 x the mean of red, green and blue in [0, 1]."""
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weight"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colors",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", RULE.height, RULE.width, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
            numpy_helper.from_array((10 / 255 * np.eye(3)).astype(np.float32), "weight"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


@pytest.fixture(scope="session")
def color_spec(color_graph: bytes) -> ModelSpec:
    thumbnail = np.zeros((4, 4, 3), np.uint8)
    thumbnail[..., 1] = 200
    session = onnxruntime.InferenceSession(color_graph)
    scores = session.run(None, {"pixels": spread(thumbnail, RULE)})[0][0]
    return ModelSpec(
        labels=tuple(COLORS),
        resize=RULE,
        normalization=Normalization(mean=(0, 0, 0), std=(1, 1, 1)),
        arch="mean-color",
        self_test=SelfTest(
            thumbnail=SelfTest.encode(thumbnail),
            side=4,
            top1=int(scores.argmax()),
            logits=tuple(float(x) for x in scores),
            tolerance=1e-3,
        ),
    )


@pytest.fixture(scope="session")
def color_model(color_graph: bytes, color_spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The colour classifier as a model file."""
    path = tmp_path_factory.mktemp("model") / "colors.onnx"
    path.write_bytes(with_checksum(color_graph, color_spec))
    return path


@pytest.fixture(scope="session")
def solid() -> Callable[..., np.ndarray]:
    """solid(label, height, width): a frame of one class's colour."""

    def make(label: str, height: int = 48, width: int = 64) -> np.ndarray:
        return np.full((height, width, 3), COLORS[label], np.uint8)

    return make


@pytest.fixture
def color_photos(tmp_path: Path, solid: Callable[..., np.ndarray]) -> Path:
    """A folder with a folder of two photos for each class."""
    root = tmp_path / "photos"
    for label in COLORS:
        (root / label).mkdir(parents=True)
        for number in range(2):
            write_photo(root / label / f"{number}.png", solid(label))
    return root


def living(parent: int) -> list[psutil.Process]:
    """Children of a process that have not ended, waited for or not."""
    return [child for child in psutil.Process(parent).children() if _lives(child)]


def command(process: psutil.Process) -> list[str]:
    """What a process was started with; [] once it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def write_photo(path: Path, frame: np.ndarray) -> Path:
    """Encode by OpenCV after the ending of the name; names in any script."""
    path.write_bytes(cv2.imencode(path.suffix, frame)[1].tobytes())
    return path
