"""The same network from a decoded frame to a label: this project's runner, plain onnxruntime, OpenVINO. Prints Markdown.

    python benchmarks/runtimes.py MODEL ... PHOTOS [--photos 200] [--python PYTHON]

MODEL: exported files; those of one network (FP32 and INT8) share a table. PHOTOS: photos that they know, --photos of them for the
accuracy and CALIBRATION others for calibration. PYTHON: an interpreter with openvino and nncf beside the project's packages; the
script goes on in it, so that all sides share one process. Without them OpenVINO's rows say so.

- edge-tl: `Classifier.classify` with its default settings, whose threads sleep while they wait, and once more with threads that
  spin, as `edge-tl tune` writes into a profile where that is faster.
- plain script: what a tutorial does. PIL or cv2 resizes and crops, NumPy makes normalised floats, a session with default options
  answers. It gets the FP32 file cut open before its first convolution, since such a script feeds floats. For an INT8 file it
  resizes with cv2 and feeds uint8, as the file wants.
- OpenVINO: the very file, compiled with the LATENCY hint, on the pixels that edge-tl makes. The precision that it chooses for
  floats is named; where that is not float32, float32 has a row of its own. "NNCF": OpenVINO's own tool made it of the FP32 file.

All take the same frames in turns, after a pause and a frame that is not counted, so that no side inherits another's spinning
workers: once back to back, as photos of a folder come, and once 30 a second, as a camera gives them, where the processor time
that a frame costs counts too, pause included. A ratio is the median, over frames or turns, of the side's figure over that of
edge-tl with a file of the same precision: above 1 edge-tl needs less.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
from _quantizers import OpenVinoModel, installed, nncf_openvino, quiet
from _runtime_cost import cost_table
from measure import PACES, in_turns, over, paired, paired_points
from numpy.typing import NDArray
from PIL import Image
from ratios import record
from workshop import SOURCES

from edge_tl.cli.console import say
from edge_tl_runtime.core.statistics import wilson
from edge_tl_runtime.core.threads import usable_cores
from edge_tl_runtime.images.crop import crop_resize, preprocess_batch
from edge_tl_runtime.images.datasets.choosing import spread_over
from edge_tl_runtime.images.datasets.dataset import load_labelled
from edge_tl_runtime.images.decode import Frame, read_photo
from edge_tl_runtime.inference.classifier import INPUT_NAME, Classifier, SessionSettings
from edge_tl_runtime.machine.cpu import OtherPrograms, cpu_name
from edge_tl_runtime.modelfile.onnx import read_spec
from edge_tl_runtime.modelfile.spec import ModelSpec

AGAIN = "EDGE_TL_RUNTIMES_AGAIN"
"""Set in the process that --python started."""

CALIBRATION, TURNS = 100, 30
HEADLINES = ("plain script, cv2", "OpenVINO, this file, floats in bf16")
"""Beginnings of the names of the sides that the page shows, for the first network."""
OURS = "edge-tl"
Answer = Callable[[Frame], int]

COUNT = """
import os, sys, onnxruntime
before = len(os.listdir("/proc/self/task"))
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(1 + len(os.listdir("/proc/self/task")) - before)
"""

PROBE = "import cv2, numpy, onnx, onnxruntime, PIL, torch; print('ready')"


@dataclass(frozen=True)
class Side:
    """A way to run a file. precision: fp32 or int8; threads: as asked for, or as counted where the default was taken."""

    name: str
    precision: str
    threads: int
    answer: Answer


# Ways to run a file


def runner(path: Path, spin: bool = False) -> Side:
    classifier = Classifier(path, SessionSettings(spin=spin))
    name = f"{OURS}, spinning" if spin else OURS
    return Side(name, classifier.spec.precision, usable_cores(), lambda frame: classifier.classify(frame).top[0].index)


def default_session(model: bytes) -> onnxruntime.InferenceSession:
    """A session as a tutorial opens it."""
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


@cache
def default_threads(path: Path) -> int:
    """How many threads such a session computes with, the caller's among them: counted where nothing else starts or ends any."""
    done = subprocess.run([sys.executable, "-c", COUNT, str(path)], capture_output=True, text=True, check=True)
    return int(done.stdout)


def plain_float(path: Path, spec: ModelSpec, library: str) -> Side:
    """With PIL or cv2; spec gives the numbers that a model card would."""
    session = default_session(cut_open(path.read_bytes()))
    name = session.get_inputs()[0].name
    mean, std = (np.asarray(part, np.float32) for part in (spec.normalization.mean, spec.normalization.std))
    resize = pil_resize if library == "PIL" else cv2_resize

    def answer(frame: Frame) -> int:
        pixels = resize(frame, spec).astype(np.float32) / 255
        batch = ((pixels - mean) / std).transpose(2, 0, 1)[None]
        return int(session.run(None, {name: batch})[0][0].argmax())

    return Side(f"plain script, {library}, floats", "fp32", default_threads(path), answer)


def plain_pixels(path: Path, spec: ModelSpec) -> Side:
    session = default_session(path.read_bytes())

    def answer(frame: Frame) -> int:
        return int(session.run(None, {INPUT_NAME: cv2_resize(frame, spec)[None]})[0][0].argmax())

    return Side("plain script, cv2, uint8", spec.precision, default_threads(path), answer)


def pil_resize(frame: Frame, spec: ModelSpec) -> NDArray[np.uint8]:
    rule = spec.resize
    image = Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    scale = rule.height / rule.crop_pct / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - rule.width) // 2, (image.height - rule.height) // 2
    return np.asarray(image.crop((left, top, left + rule.width, top + rule.height)))


def cv2_resize(frame: Frame, spec: ModelSpec) -> NDArray[np.uint8]:
    rule = spec.resize
    height, width = frame.shape[:2]
    scale = rule.height / rule.crop_pct / min(height, width)
    resized = cv2.resize(frame, (round(width * scale), round(height * scale)))
    top, left = (resized.shape[0] - rule.height) // 2, (resized.shape[1] - rule.width) // 2
    return cv2.cvtColor(resized[top : top + rule.height, left : left + rule.width], cv2.COLOR_BGR2RGB)


def cut_open(model: bytes) -> bytes:
    """The graph from its first convolution on, which takes normalised float32 (N, 3, H, W)."""
    loaded = onnx.load_from_string(model)
    graph = loaded.graph
    entry = next(node for node in graph.node if node.op_type == "Conv").input[0]
    _, height, width, channels = graph.input[0].type.tensor_type.shape.dim
    sizes = ["batch", channels.dim_value, height.dim_value, width.dim_value]
    kept: list[onnx.NodeProto] = []
    known = {entry, *(tensor.name for tensor in graph.initializer)}
    for node in graph.node:
        if known & set(node.output):
            continue
        if {name for name in node.input if name} <= known:
            kept.append(node)
            known.update(node.output)
    del graph.input[:], graph.node[:]
    graph.input.append(onnx.helper.make_tensor_value_info(entry, onnx.TensorProto.FLOAT, sizes))
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    left = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(left)
    return bytes(loaded.SerializeToString())


def openvino_side(model: Path | OpenVinoModel, spec: ModelSpec, name: str, precision: str, **options: Any) -> Side:
    """The name gets the precision that floats are computed in. Raises Missing."""
    core = installed("openvino").Core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": usable_cores(), **options}
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(model, OpenVinoModel):
            # Through files: a graph from memory only points to its weights, and nothing in it keeps them there.
            path = Path(folder, "model.xml")
            path.write_bytes(model.xml)
            path.with_suffix(".bin").write_bytes(model.weights)
            model = path
        compiled = core.compile_model(core.read_model(model), "CPU", settings)
    floats = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()

    def answer(frame: Frame) -> int:
        return int(compiled(crop_resize(frame, spec.resize)[None])[0][0].argmax())

    return Side(f"{name}, floats in {floats}", precision, usable_cores(), answer)


def sides_of(paths: Sequence[Path], calibration: Sequence[Frame]) -> tuple[list[Side], list[tuple[str, str]]]:
    """Every way to run the files of one network; and what could not be tried, with the reason."""
    sides: list[Side] = []
    missing: list[tuple[str, str]] = []
    for path in paths:
        spec = read_spec(path)
        name = f"OpenVINO, this file ({spec.precision})"
        made = partial(openvino_side, path, spec, "OpenVINO, this file", spec.precision)
        ways: dict[str, Callable[[], Side]] = {
            OURS: partial(runner, path),
            f"{OURS}, spinning": partial(runner, path, spin=True),
        }
        if spec.precision == "fp32":
            ways |= {f"plain script, {lib}": partial(plain_float, path, spec, lib) for lib in ("PIL", "cv2")}
            ways |= {name: made, f"{name}, f32": partial(made, INFERENCE_PRECISION_HINT="f32")}
            ways |= {"OpenVINO, NNCF": partial(nncf_side, path, spec, calibration)}
        else:
            ways |= {"plain script": partial(plain_pixels, path, spec), name: made}
        for way, make in ways.items():
            try:
                with quiet():
                    side = make()
            except Exception as error:  # noqa: BLE001  # whatever another project's runtime trips over is its row
                missing.append((way, (str(error).strip() or type(error).__name__).splitlines()[0]))
                continue
            if all((side.name, side.precision) != (other.name, other.precision) for other in sides):
                sides.append(side)
    return sorted(sides, key=lambda side: side.precision != "fp32"), missing


def nncf_side(path: Path, spec: ModelSpec, calibration: Sequence[Frame]) -> Side:
    installed("openvino")
    say(f"  NNCF quantizes {path}")
    model = nncf_openvino()(path.read_bytes(), preprocess_batch(list(calibration), spec.resize))
    assert isinstance(model, OpenVinoModel)
    return openvino_side(model, spec, "OpenVINO, NNCF", "int8")


# Measuring


def network_table(name: str, paths: Sequence[Path], folder: Path, count: int, first: bool) -> None:
    spec = read_spec(paths[0])
    photos = load_labelled(folder, spec.labels, "all")
    chosen = spread_over(photos.targets, count)
    truth = np.asarray([photos.targets[i] for i in chosen])
    rest = sorted(set(range(len(photos))) - set(chosen))
    calibration = [
        read_photo(photos.paths[rest[i]]) for i in spread_over([photos.targets[i] for i in rest], CALIBRATION)
    ]
    frames = [read_photo(photos.paths[i]) for i in chosen]
    sides, missing = sides_of(paths, calibration)
    say(f"  {name}: {len(sides)} sides, {TURNS} turns")
    watch = OtherPrograms()
    ways = [side.answer for side in sides]
    times, paced = (in_turns(ways, frames, between_s, TURNS) for between_s in PACES.values())
    share = watch.share()
    said = [np.asarray([side.answer(frame) for frame in frames]) for side in sides]
    print(f"{name}; other programs took {share:.2f} of the processor while it was timed.\n")
    print(
        "| file | run by | threads | back to back, p50 ms | over edge-tl (quartiles) | 30 a second, p50 ms | over edge-tl "
        "| CPU ms a frame | over edge-tl | top-1 % (95 %) | labels unlike edge-tl's |"
    )
    print(f"{'|---' * 11}|")
    own = {side.precision: i for i, side in enumerate(sides) if side.name == OURS}
    for i, side in enumerate(sides):
        # A quantized file of others has no like where no INT8 file was given.
        base = own.get(side.precision, next(iter(own.values())))
        hits = said[i] == truth
        low, high = wilson(int(hits.sum()), len(hits))
        print(
            f"| {side.precision} | {side.name} | {side.threads} | {over(times[i].latency, times[base].latency)} "
            f"| {over(paced[i].latency, paced[base].latency)} | {over(paced[i].cpu, paced[base].cpu)} "
            f"| {100 * hits.mean():.1f} ({100 * low:.1f} to {100 * high:.1f}) "
            f"| {int((said[i] != said[base]).sum())} of {len(hits)} |",
            flush=True,
        )
        if not side.name.startswith(OURS) and side.precision in own:
            file = f"{name} {side.precision.upper()}"
            headline = first and side.name.startswith(HEADLINES)
            for what, ours, theirs in (
                (f"a frame to a label, {file}", times[base].latency, times[i].latency),
                (f"a frame of 30 a second to a label, {file}", paced[base].latency, paced[i].latency),
                (f"processor time of such a frame, {file}", paced[base].cpu, paced[i].cpu),
            ):
                spread = paired(ours, theirs)
                record(what, side.name, **spread, note=f"in turns, {side.threads} threads", headline=headline)
            points = paired_points((said[base] == truth).tolist(), hits.tolist())
            note = f"95 %, paired, {len(hits)} photos"
            record(
                f"top-1, {name} {side.precision.upper()}",
                side.name,
                **points,
                better="higher",
                kind="points",
                note=note,
                headline=False,
            )
    for side_name, reason in missing:
        print(f"| - | {side_name} | - | {reason} {'| - ' * 7}|")
    print(flush=True)


def by_network(paths: Sequence[Path]) -> Mapping[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for path in paths:
        spec = read_spec(path)
        groups.setdefault(f"{spec.arch}, {len(spec.labels)} classes", []).append(path)
    return groups


def go_on_in(python: Path) -> int:
    """The exit code of this script in another interpreter."""
    command = [str(python), *sys.argv]
    try:
        probe = subprocess.run([str(python), "-c", PROBE], capture_output=True, text=True)
        if "ready" not in probe.stdout:
            why = (probe.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise SystemExit(
                f"error: {python} cannot go on with this script ({why}); it needs what the docstring lists"
            )
        return subprocess.run(command, env={**os.environ, AGAIN: "1", "PYTHONPATH": SOURCES}).returncode
    except OSError as error:
        raise SystemExit(f"error: cannot start {python}: {error.strerror}; name the interpreter itself") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("folder", type=Path, metavar="PHOTOS")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--python", type=Path)
    options = parser.parse_args()
    if options.python is not None and AGAIN not in os.environ:
        sys.exit(go_on_in(options.python))
    print(f"{cpu_name()}, {usable_cores()} cores; load before the start {os.getloadavg()[0]:.1f}\n", flush=True)
    for place, (name, paths) in enumerate(by_network(options.models).items()):
        network_table(name, paths, options.folder, options.photos, place == 0)
    cost_table(options.models[0])


if __name__ == "__main__":
    main()
