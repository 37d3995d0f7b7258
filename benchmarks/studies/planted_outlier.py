"""A planted outlier: what it costs plain INT8, what the search makes of it, and what training in INT8 repairs. Prints Markdown.

    python benchmarks/studies/planted_outlier.py RUN DATA

RUN: of mobilenet_v2. Two channels of a tensor between two convolutions are multiplied by FACTOR, and what reads them divided, so
that the function stays the same and the tensor's range does not.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import _shared  # noqa: F401
import numpy as np
import torch
from ratios import record

from edge_tl.training.run_folder import open_run
from edge_tl_export import Comparison, FileEvaluator, QuantizationSearch, Quantizer, Recipe, to_onnx
from edge_tl_export.quantization.calibration import CalibrationPhotos
from edge_tl_export.search.compare import open_model
from edge_tl_export.search.qat import quantization_aware
from edge_tl_runtime.images.datasets.dataset import load_labelled

FACTOR, CHANNELS, EPOCHS = 300.0, (2, 7), 3
PLAIN = Recipe(calibration="minmax", correct_bias=False, rounding="nearest")


def plant(module: torch.nn.Module) -> None:
    norm = module.get_submodule("features.1.conv.2")
    reader = module.get_submodule("features.2.conv.0.0")
    with torch.no_grad():
        for channel in CHANNELS:
            norm.weight[channel] *= FACTOR
            norm.bias[channel] *= FACTOR
            reader.weight[:, channel] /= FACTOR


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("data", type=Path, metavar="DATA")
    given = parser.parse_args()
    run, data = open_run(given.run), given.data
    before = to_onnx(run.network.module, run.spec)
    plant(run.network.module)
    fp32 = to_onnx(run.network.module, run.spec)
    calibration, validation = (load_labelled(data, run.spec.labels, split) for split in ("train", "val"))
    photos = CalibrationPhotos(calibration, run.spec.resize, 200)
    batches = photos.batches(lambda done: None)
    moved = np.abs(open_model(before, "")(batches[0]) - open_model(fp32, "")(batches[0])).max()
    comparison = Comparison(fp32, run.spec.resize, FileEvaluator(validation, run.spec.resize), open_model)
    print(f"largest change of a logit by planting: {moved:.1e}\n")
    print("| file | top-1 | drop, points (95 %) | agrees | speed | s |")
    print("|---|---|---|---|---|---|")

    def show(name: str, model: bytes, seconds: float) -> None:
        row = comparison.row("int8", model, name)
        assert row.paired is not None
        low, high = row.paired.interval
        drops = {"low": -100 * high, "high": -100 * low, "note": "95 %, paired"}
        what = f"top-1 with a planted outlier: {name}"
        record(what, "FP32", -100 * row.paired.drop, **drops, better="higher", kind="points")
        print(
            f"| {name} | {100 * (row.top1 or 0):.1f} % | {100 * row.paired.drop:.1f} ({100 * low:.1f} to {100 * high:.1f}) | "
            f"{100 * row.paired.agreement:.1f} % | {row.speedup:.2f}x | {seconds:.0f} |",
            flush=True,
        )

    print(f"| FP32 | {100 * (comparison.reference.top1 or 0):.1f} % | | | 1.00x | |")
    quantizer = Quantizer(fp32, batches)
    started = time.perf_counter()
    plain = quantizer.make(PLAIN)
    show("plain INT8 (minmax, nearest)", plain, time.perf_counter() - started)
    started = time.perf_counter()
    search = QuantizationSearch(quantizer, photos.ranking(), comparison, "x86-vnni")
    found = search.first()
    shown = found or search.nearest
    assert shown is not None
    name = f"the search ({shown.name})" if found else f"the search passes none; its nearest ({shown.name})"
    show(name, shown.model, time.perf_counter() - started)
    started = time.perf_counter()
    trained = quantization_aware(plain, comparison.fp32, photos.training_batches, EPOCHS)
    show(f"plain, then {EPOCHS} epochs in INT8", trained, time.perf_counter() - started)


if __name__ == "__main__":
    main()
