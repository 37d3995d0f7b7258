"""Ultralytics' half of ultralytics_classify.py; runs in its interpreter, which needs no more of this project than `runtime/`.

    PYTHON _ultralytics_side.py ACTION JSON

The answer is the last line of stdout, "RESULT " and JSON. Everything is written below the working directory.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

SIZE = 224
WORKERS = 2
STATISTICS_BATCH = 64
"""Photos in a batch while the statistics of batch normalisation are counted."""

BACKBONE = """
nc: 1000
backbone:
  - [-1, 1, TorchVision, [1280, mobilenet_v2, DEFAULT, True, 1]]
head:
  - [-1, 1, Classify, [nc]]
"""
"""As their yolo11-cls-resnet18.yaml, with the layers before the classifier of another torchvision network."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def torchvision() -> Any:
    """Also beside a CPU build of torch that its compiled operators do not fit; a classifier uses none of them."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError:
        torchvision.library = library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[attr-defined]
        for name in ("nms", "qnms"):
            library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        return importlib.import_module("torchvision")


torchvision()
import ultralytics  # noqa: E402

ultralytics.settings.update({"sync": False})


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("ultralytics", "torch", "onnxruntime", "openvino", "nncf")}


# Training


def put_weights(source: str, photos: str, normalised: bool) -> dict[str, Any]:
    """Lay mobilenet_v2's weights where torchvision looks for its download, batch normalisation made whole again.

    In the file it is folded into the convolutions: means are 0 and variances 1. Trained so, the first batch would scale
    every channel anew and the pretrained features would be gone. Means and variances of `photos` go in, and scale and shift
    that undo them: the same function, and one that survives training.
    normalised: also fold ImageNet's mean and deviation into the first convolution, since their pipeline feeds 0..1.
    """
    vision = torchvision()
    network = vision.models.mobilenet_v2(weights=None).eval()
    network.load_state_dict({name: tensor.float() for name, tensor in torch.load(source, weights_only=True).items()})
    if normalised:
        _fold_normalisation(network)
    _unfold(
        network, sorted(path for path in Path(photos).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    )
    url = vision.models.MobileNet_V2_Weights.DEFAULT.url
    target = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), target)
    return {"path": str(target)}


def _fold_normalisation(network: nn.Module) -> None:
    """Exact but for the border, where the padding is black now instead of the mean colour."""
    first, norm = network.features[0][0], network.features[0][1]
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    with torch.no_grad():
        first.weight /= std
        norm.bias -= (first.weight * mean).sum((1, 2, 3))


def _unfold(network: nn.Module, photos: list[Path]) -> None:
    """`network` computes what it did, with running statistics that are those of `photos`."""
    from ultralytics.data.augment import classify_transforms

    transform = classify_transforms(SIZE)
    sums: dict[nn.Module, list[Any]] = {}

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        values = inputs[0].double().transpose(0, 1).flatten(1)
        total = sums.setdefault(module, [0, 0.0, 0.0])
        total[0], total[1] = total[0] + values.shape[1], total[1] + values.sum(1)
        total[2] = total[2] + values.square().sum(1)

    hooks = [m.register_forward_pre_hook(count) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    pil = importlib.import_module("PIL.Image")
    with torch.no_grad():
        for i in range(0, len(photos), STATISTICS_BATCH):
            batch = [transform(pil.open(path).convert("RGB")) for path in photos[i : i + STATISTICS_BATCH]]
            network(torch.stack(batch))
        for module, (n, total, squares) in sums.items():
            mean, variance = total / n, squares / n - (total / n).square()
            # They set this eps in every network that they build.
            deviation = (variance + 1e-3).sqrt()
            module.bias += mean * module.weight
            module.weight *= deviation
            module.running_mean.copy_(mean)
            module.running_var.copy_(variance)
    for hook in hooks:
        hook.remove()


def train(model: str, data: str, name: str, epochs: int, options: dict[str, Any]) -> dict[str, Any]:
    """Seconds, and the best checkpoint by their own choice. model: one of theirs, or "mobilenet_v2"."""
    if model == "mobilenet_v2":
        model = "mobilenet_v2-cls.yaml"
        Path(model).write_text(BACKBONE)
    fixed = {"device": "cpu", "workers": WORKERS, "imgsz": SIZE, "plots": False, "verbose": False}
    started = time.perf_counter()
    network = ultralytics.YOLO(model, task="classify")
    network.train(
        data=data, epochs=epochs, project=str(Path.cwd() / "runs"), name=name, exist_ok=True, **fixed, **options
    )
    seconds = time.perf_counter() - started
    used = network.trainer.args
    return {
        "seconds": seconds,
        "model": str(network.trainer.best),
        "optimizer": f"{used.optimizer}, {used.lr0:g}",
        "top1": float(network.metrics.top1),
    }


# Files


FORMATS: dict[str, dict[str, Any]] = {
    "ONNX INT8": {"format": "onnx", "int8": True},
    "ONNX FP32": {"format": "onnx"},
    "OpenVINO FP32": {"format": "openvino"},
    "OpenVINO INT8": {"format": "openvino", "int8": True},
}
"""The first before the second: making the INT8 file deletes the FP32 one beside it."""


def export(model: str, data: str) -> dict[str, Any]:
    """Path, megabytes and seconds of each format, or its error. Calibrated as they do unless told: on the validation photos."""
    made: dict[str, Any] = {}
    for name, options in FORMATS.items():
        if options.get("int8"):
            options = {**options, "data": data}
        started = time.perf_counter()
        try:
            path = Path(ultralytics.YOLO(model).export(imgsz=SIZE, device="cpu", **options))
        except Exception as error:  # noqa: BLE001  # whatever the peer trips over is its row
            made[name] = {"error": (str(error).strip() or type(error).__name__).splitlines()[0]}
            continue
        files = [file for file in path.rglob("*") if file.suffix in (".xml", ".bin")] if path.is_dir() else [path]
        size = sum(file.stat().st_size for file in files) / 1e6
        made[name] = {"path": str(path), "megabytes": size, "seconds": time.perf_counter() - started}
    return made


def evaluate(model: str, data: str, photos: list[str]) -> dict[str, Any]:
    """The label that `predict` gives each photo, and the accuracy that `val` gives all. photos: paths below `data`."""
    network = ultralytics.YOLO(model, task="classify")
    labels = [_answer(network, str(Path(data, photo)))[0] for photo in photos]
    found = ultralytics.YOLO(model, task="classify").val(
        data=data,
        imgsz=SIZE,
        device="cpu",
        workers=0,
        plots=False,
        verbose=False,
        batch=1,
        project=str(Path.cwd() / "val"),
    )
    return {"labels": labels, "val": float(found.top1)}


def _answer(network: Any, photo: Any) -> tuple[str, float]:
    result = network.predict(photo, imgsz=SIZE, device="cpu", verbose=False)[0]
    return result.names[result.probs.top1], float(result.probs.top1conf)


def hostile(model: str, files: list[str]) -> list[dict[str, str]]:
    """For each file what `predict` says, and what the scan before training says and does to it. Files are left as they were."""
    from ultralytics.data.utils import verify_image

    network = ultralytics.YOLO(model, task="classify")
    rows = []
    for file in files:
        try:
            label, confidence = _answer(network, file)
            predicted = f"{label} {100 * confidence:.1f} %"
        except Exception as error:  # noqa: BLE001  # what it raises is what the table shows
            predicted = f"{type(error).__name__}: {error}"
        before = Path(file).read_bytes()
        _, good, _, message = verify_image(((file, 0), ""))
        said = message or ("used, nothing said" if good else "left out, nothing said")
        if Path(file).read_bytes() != before:
            said += "; the file was rewritten"
            Path(file).write_bytes(before)
        rows.append({"predict": predicted, "scan": said})
    return rows


# Time


def latency(models: dict[str, str], ours: dict[str, str], frame: list[int], turns: int, frames: int) -> dict[str, Any]:
    """Milliseconds from a decoded BGR frame to a label, each side's in turns: the mean of `frames` frames in each turn.

    models: names and files that `predict` takes; ours: names and files of this project.
    """
    from edge_tl_runtime.images.crop import crop_resize
    from edge_tl_runtime.inference.classifier import Classifier
    from edge_tl_runtime.machine.cpu import OtherPrograms

    height, width = frame
    picture = cv2.resize(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8), (width, height))
    sides: dict[str, Callable[[], object]] = {}
    for name, path in models.items():
        sides[f"Ultralytics, {name}"] = _predicting(ultralytics.YOLO(path, task="classify"), picture)
        if name.startswith("ONNX"):
            sides[f"Ultralytics, {name}, bare call"] = _bare_theirs(path)
    for name, path in ours.items():
        classifier = Classifier(path)
        sides[name] = _classifying(classifier, picture)
        pixels = crop_resize(picture, classifier.spec.resize)[None]
        sides[f"{name}, bare call"] = _running(classifier.session, {"pixels": pixels})
    times: dict[str, list[float]] = {name: [] for name in sides}
    watch = OtherPrograms()
    for turn in range(turns + 1):
        for name, action in sides.items():
            # Workers of the side before go on spinning for a moment, and would take the core that this one needs.
            time.sleep(0.05)
            action()
            started = time.perf_counter()
            for _ in range(frames):
                action()
            if turn:
                times[name].append(1e3 * (time.perf_counter() - started) / frames)
    threads = {"torch": torch.get_num_threads(), "cores": len(os.sched_getaffinity(0))}
    return {"times": times, "threads": threads, "others": watch.share()}


def _predicting(network: Any, picture: Any) -> Callable[[], object]:
    return lambda: _answer(network, picture)[0]


def _classifying(classifier: Any, picture: Any) -> Callable[[], object]:
    return lambda: classifier.classify(picture).label


def _running(session: Any, feed: dict[str, Any]) -> Callable[[], object]:
    return lambda: session.run(None, feed)


def _bare_theirs(path: str) -> Callable[[], object]:
    """Their graph in a session as they open it: default options."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return _running(session, {session.get_inputs()[0].name: np.zeros((1, 3, SIZE, SIZE), np.float32)})


ACTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (versions, put_weights, train, export, evaluate, hostile, latency)
}

if __name__ == "__main__":
    action, arguments = sys.argv[1], json.loads(sys.argv[2])
    result = ACTIONS[action](**arguments)
    print("RESULT", json.dumps(result), flush=True)
