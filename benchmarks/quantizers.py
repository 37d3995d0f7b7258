"""This project's INT8 files against those of other quantizers. Prints Markdown, a row as soon as it is known.

    python benchmarks/quantizers.py [--models NAME[=WEIGHTS] ...] [--peers NAME ...] [--data PHOTOS] [--json FILE]

Two tables. The first, for backbones with published weights: every quantizer gets the same FP32 graph (uint8 pixels in, of this
project's exporter) and the same CALIBRATION photos, already cropped and resized, and every file is evaluated on the same others.
The drop is that of top-1 against the FP32 file, with the 95 % interval of the paired difference. SQNR is of logits against FP32.
The second, for `--latency` backbones with random weights: time alone. Times are of one photo; onnxruntime with THREADS threads
that do not spin, the files in turns, medians; a ratio is the median of FP32 over this file, turn by turn. The same files are
also timed in OpenVINO where it is installed; files in OpenVINO's own form are evaluated and timed there alone. "others" is the
part of the processor that other programs took meanwhile.

PHOTOS holds photos whose names begin with the index of their class, by default imagenet-1k-sample below EDGE_TL_TEST_DATA;
mobilenet_v2 takes the weights file that lies beside that folder, unless told otherwise.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _quantizers import BATCH, PEERS, Missing, OpenVinoModel, Pixels, installed, quiet
from measure import paired_points
from numpy.typing import NDArray
from ratios import record

from edge_tl.models.backbones import find_backbone
from edge_tl.models.network import build_network
from edge_tl.models.weights import WeightsSource
from edge_tl.training.run_folder import published_run
from edge_tl_export import to_onnx
from edge_tl_runtime.core.statistics import Z95
from edge_tl_runtime.evaluation.evaluate import PixelReader
from edge_tl_runtime.images.datasets.dataset import load_labelled
from edge_tl_runtime.inference.classifier import INPUT_NAME, OUTPUT_NAME, SessionSettings, open_session
from edge_tl_runtime.machine.cpu import OtherPrograms, cpu_name
from edge_tl_runtime.modelfile.spec import ModelSpec

CALIBRATION, THREADS, WARM_UP, TURNS = 200, 2, 10, 80
MOBILENET = "mobilenet_v2-imagenet-fp16.pth"
HEADLINES = ("FP32", "onnxruntime, advised", "NNCF on ONNX, mixed, full bias correction")
"""Those that the page shows accuracy beside."""
LATENCY = ("mobilenet_v3_large", "mobilenet_v3_small", "resnet18", "resnet50", "vgg16")
LATENCY_PEERS = ("edge-tl", "onnxruntime, advised", "onnxruntime, advised, entry float")
PACKAGES = ("onnxruntime", "onnx", "torch", "openvino", "nncf", "onnx-neural-compressor", "neural-compressor")
STATISTICS_PASSES = 3

Run = Callable[[Pixels], NDArray[np.float32]]
Model = bytes | OpenVinoModel


@dataclass(frozen=True)
class Evaluated:
    """Of one file against FP32. drop and interval: points of top-1. seconds: what the quantizer took."""

    model: str
    peer: str
    top1: float
    drop: float
    interval: tuple[float, float]
    agreement: float
    sqnr: float
    megabytes: float
    seconds: float
    runtime: str


@dataclass(frozen=True)
class Timed:
    """Median milliseconds and speed over FP32; None where the runtime does not read the file.

    others: part of the processor that other programs took meanwhile.
    """

    model: str
    peer: str
    megabytes: float
    ms: float | None
    ratio: float | None
    openvino_ms: float | None
    others: float


# Files and how they run


def onnxruntime_runner(model: bytes) -> Run:
    session = open_session(model, "a model under test", SessionSettings(threads=THREADS, spin=False))
    return lambda pixels: np.asarray(session.run([OUTPUT_NAME], {INPUT_NAME: pixels})[0], np.float32)


def openvino_runner(model: Model) -> Run:
    """Of the CPU plugin, for the latency of single photos; what is float in the file is computed in float32."""
    core = installed("openvino").Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY"}
    if isinstance(model, OpenVinoModel):
        # Through files: a graph from memory only points to its weights, and nothing in it keeps them there.
        with tempfile.TemporaryDirectory() as name:
            path = Path(name, "model.xml")
            path.write_bytes(model.xml)
            path.with_suffix(".bin").write_bytes(model.weights)
            compiled = core.compile_model(core.read_model(path), "CPU", settings)
    else:
        compiled = core.compile_model(core.read_model(model), "CPU", settings)
    return lambda pixels: np.array(compiled(pixels)[0], np.float32)


def runner(model: Model) -> Run:
    return onnxruntime_runner(model) if isinstance(model, bytes) else openvino_runner(model)


def size(model: Model) -> float:
    return (len(model) if isinstance(model, bytes) else len(model.xml) + len(model.weights)) / 1e6


def in_turns(runs: Mapping[str, Run], pixels: Pixels) -> dict[str, list[float]]:
    """Seconds of each call, the n-th of all taken one after the other."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(WARM_UP + TURNS):
        for name, run in runs.items():
            started = time.perf_counter()
            run(pixels)
            if turn >= WARM_UP:
                times[name].append(time.perf_counter() - started)
    return times


def timed(name: str, models: Mapping[str, Model], pixels: Pixels) -> list[Timed]:
    """Every file in onnxruntime in turns, then every file in OpenVINO in turns. models: "FP32" among them."""
    watch = OtherPrograms()
    plain = in_turns({peer: onnxruntime_runner(m) for peer, m in models.items() if isinstance(m, bytes)}, pixels)
    gc.collect()
    try:
        other = in_turns({peer: openvino_runner(m) for peer, m in models.items()}, pixels)
    except Missing:
        other = {}
    share = watch.share()
    rows = []
    for peer, model in models.items():
        ms = ratio = None
        if peer in plain:
            ms = 1e3 * statistics.median(plain[peer])
            ratio = statistics.median(a / b for a, b in zip(plain["FP32"], plain[peer], strict=True))
        openvino_ms = 1e3 * statistics.median(other[peer]) if peer in other else None
        rows.append(Timed(name, peer, size(model), ms, ratio, openvino_ms, share))
    return rows


# Photos and networks


def read_photos(folder: Path, spec: ModelSpec) -> tuple[Pixels, NDArray[np.int64]]:
    """All photos as the network sees them, uint8 (N, H, W, 3), and their classes, in an order of chance that never changes."""
    photos = load_labelled(folder, spec.labels, "all")
    pixels, targets = [], []
    for batch in PixelReader(photos, spec.resize):
        pixels.append(batch.pixels)
        targets += [photos.targets[i] for i in batch.indices]
    order = np.random.default_rng(0).permutation(len(targets))
    return np.concatenate(pixels)[order], np.asarray(targets)[order]


def random_network(name: str) -> tuple[bytes, Pixels]:
    """An FP32 graph with random weights and batch statistics that fit them, and noise to calibrate on."""
    torch.manual_seed(0)
    backbone = find_backbone(name)
    network = build_network(backbone, WeightsSource.parse("none", backbone)).module
    network.train()
    with torch.no_grad():
        for _ in range(STATISTICS_PASSES):
            network(torch.randn(4, 3, backbone.size, backbone.size))
    labels = tuple(map(str, range(1000)))
    spec = ModelSpec(labels=labels, resize=backbone.resize, normalization=backbone.normalization, arch=name)
    noise = np.random.default_rng(0).integers(0, 256, (2 * BATCH, backbone.size, backbone.size, 3), np.uint8)
    return to_onnx(network.eval(), spec), noise


# Tables


def answers(model: Model, photos: Pixels) -> NDArray[np.float32]:
    run = runner(model)
    return np.concatenate([run(photos[i : i + BATCH]) for i in range(0, len(photos), BATCH)])


def evaluated(
    name: str,
    peer: str,
    model: Model,
    seconds: float,
    logits: NDArray[np.float32],
    truth: NDArray[np.int64],
    exact: NDArray[np.float32],
) -> Evaluated:
    """exact: logits of the FP32 file on the photos of `logits`."""
    lost = (exact.argmax(1) == truth).astype(float) - (logits.argmax(1) == truth)
    drop, half = 100 * lost.mean(), 100 * Z95 * lost.std(ddof=1) / np.sqrt(len(lost))
    noise = float(np.square(logits - exact, dtype=np.float64).sum())
    return Evaluated(
        model=name,
        peer=peer,
        top1=100 * float((logits.argmax(1) == truth).mean()),
        drop=float(drop),
        interval=(float(drop - half), float(drop + half)),
        agreement=100 * float((logits.argmax(1) == exact.argmax(1)).mean()),
        sqnr=10 * float(np.log10(np.square(exact, dtype=np.float64).sum() / noise)) if noise else float("inf"),
        megabytes=size(model),
        seconds=seconds,
        runtime="onnxruntime" if isinstance(model, bytes) else "OpenVINO",
    )


def accuracy_table(names: Mapping[str, str], peers: list[str], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """names: weights by backbone."""
    print(
        "| model | quantizer | top-1 % | drop, points (95 % paired) | agrees % | SQNR dB | MB | quantized in s | evaluated in |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    rows: list[Evaluated] = []
    times: list[Timed] = []
    for name, weights in names.items():
        run = published_run(name, weights)
        fp32 = to_onnx(run.network.module, run.spec)
        pixels, targets = read_photos(folder, run.spec)
        calibration, photos, truth = pixels[:CALIBRATION], pixels[CALIBRATION:], targets[CALIBRATION:]
        exact = answers(fp32, photos)
        right: dict[str, NDArray[np.bool_]] = {}
        models: dict[str, Model] = {"FP32": fp32}
        for peer in ["FP32", *peers]:
            started = time.perf_counter()
            if peer != "FP32" and (made := attempt(name, peer, fp32, calibration)) is not None:
                models[peer] = made
            if peer not in models:
                continue
            seconds = time.perf_counter() - started
            logits = answers(models[peer], photos)
            right[peer] = logits.argmax(1) == truth
            row = evaluated(name, peer, models[peer], seconds, logits, truth, exact)
            rows.append(row)
            low, high = row.interval
            print(
                f"| {name} | {peer} | {row.top1:.1f} | {row.drop:.2f} ({low:.2f} to {high:.2f}) | {row.agreement:.1f} "
                f"| {row.sqnr:.1f} | {row.megabytes:.1f} | {row.seconds:.0f} | {row.runtime} |",
                flush=True,
            )
        times += timed(name, models, photos[:1])
        record_accuracy(name, right)
    print()
    return {"accuracy": [asdict(row) for row in rows], "times": latency_table(times)}


def attempt(name: str, peer: str, fp32: bytes, calibration: Pixels) -> Model | None:
    """The file of a peer; None, and a row that says why, where there is none."""
    try:
        with quiet():
            model = PEERS[peer](fp32, calibration)
        runner(model)(calibration[:1])
        return model
    except Exception as error:  # noqa: BLE001  # whatever another project's quantizer trips over is its row
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        print(f"| {name} | {peer} | - | {reason} |", flush=True)
        return None


def latency_table(rows: list[Timed]) -> list[dict[str, Any]]:
    print("| model | quantizer | MB | onnxruntime ms | ratio | OpenVINO ms | others |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        ms, ratio, other = ("-" if value is None else f"{value:.2f}" for value in (row.ms, row.ratio, row.openvino_ms))
        print(
            f"| {row.model} | {row.peer} | {row.megabytes:.1f} | {ms} | {ratio} | {other} | {row.others:.2f} |",
            flush=True,
        )
    print()
    for model in dict.fromkeys(row.model for row in rows):
        record_speed(model, [row for row in rows if row.model == model])
    return [asdict(row) for row in rows]


def record_accuracy(name: str, right: Mapping[str, NDArray[np.bool_]]) -> None:
    """right: whether each photo is, by quantizer."""
    for peer in [name for name in right if name != "edge-tl" and "edge-tl" in right]:
        spread, note = paired_points(right["edge-tl"], right[peer]), f"95 %, paired, {len(right[peer])} photos"
        record(
            f"top-1 of INT8 {name}",
            peer,
            **spread,
            better="higher",
            note=note,
            kind="points",
            headline=peer in HEADLINES,
        )


def record_speed(name: str, rows: list[Timed]) -> None:
    """Ours against the fastest INT8 file of others in each runtime, and against our own FP32."""
    others = [row for row in rows if row.peer not in ("edge-tl", "FP32")]
    known_weights = name not in LATENCY
    for own in (row for row in rows if row.peer == "edge-tl" and row.ms and row.ratio):
        record(f"speed of INT8 {name}, onnxruntime", "its FP32", own.ratio, better="higher", headline=known_weights)
        for runtime, of in (("onnxruntime", lambda row: row.ms), ("OpenVINO", lambda row: row.openvino_ms)):
            known = [row for row in others if of(row)]
            if known and of(own):
                best = min(known, key=of)
                note = f"the fastest of {len(known)} others"
                record(
                    f"time of INT8 {name}, {runtime}", best.peer, of(own) / of(best), note=note, headline=known_weights
                )


def random_rows(names: list[str], peers: list[str]) -> list[dict[str, Any]]:
    rows: list[Timed] = []
    for name in names:
        fp32, noise = random_network(name)
        models: dict[str, Model] = {"FP32": fp32}
        for peer in peers:
            if (made := attempt(name, peer, fp32, noise)) is not None:
                models[peer] = made
        rows += timed(name, models, noise[:1])
        gc.collect()
    return latency_table(rows)


def versions() -> str:
    said = []
    for package in PACKAGES:
        try:
            said.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            said.append(f"no {package}")
    return ", ".join(said)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--latency", nargs="*", default=list(LATENCY), help="backbones of the second table")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    root = os.environ.get("EDGE_TL_TEST_DATA", "")
    folder = options.data or (Path(root, "imagenet-1k-sample") if root else None)
    if options.models is None:
        options.models = ["efficientnet_lite0", f"mobilenet_v2={folder.parent / MOBILENET}"] if folder else []
    if options.models and folder is None:
        raise SystemExit("no photos: give --data or set EDGE_TL_TEST_DATA")
    names = {name: weights or "pretrained" for name, _, weights in (item.partition("=") for item in options.models)}
    print(f"{cpu_name()}, {THREADS} threads, {versions()}; load before the start {os.getloadavg()[0]:.1f}\n")
    document: dict[str, Any] = {}
    if names:
        document |= accuracy_table(names, options.peers, folder)
    if options.latency:
        document["latency"] = random_rows(options.latency, [peer for peer in LATENCY_PEERS if peer in options.peers])
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
        print(f"wrote {options.json}", file=sys.stderr)


if __name__ == "__main__":
    main()
