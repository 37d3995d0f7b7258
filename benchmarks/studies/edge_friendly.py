"""INT8 over FP32 of networks with hard-swish and squeeze-excite, and of their edge-friendly variants. Prints Markdown.

    python benchmarks/studies/edge_friendly.py [BACKBONE...]

Random weights, which is enough for time. All four files of a network in turns, one photo, two threads, medians of paired ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time

import _shared  # noqa: F401
import numpy as np
import torch
from measure import paired
from ratios import record

from edge_tl.models.backbones import find_backbone, friendly
from edge_tl.models.network import build_network
from edge_tl.models.weights import WeightsSource
from edge_tl_export import Recipe, quantize, to_onnx
from edge_tl_export.search.compare import open_model
from edge_tl_runtime.modelfile.spec import ModelSpec

WARM_UP, TURNS = 10, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "backbones", nargs="*", default=["mobilenet_v3_large", "mobilenet_v3_small"], metavar="BACKBONE"
    )
    given = parser.parse_args()
    print("| network | FP32 MB | INT8 MB | FP32 ms | INT8 ms | INT8 over its own FP32 | INT8 over the plain FP32 |")
    print("|---|---|---|---|---|---|---|")
    for name in given.backbones:
        plain = find_backbone(name)
        files = {}
        for backbone in (plain, friendly(plain)):
            torch.manual_seed(0)
            network = build_network(backbone, WeightsSource("none")).module.eval()
            labels = tuple(map(str, range(1000)))
            spec = ModelSpec(
                labels=labels, resize=backbone.resize, normalization=backbone.normalization, arch=backbone.name
            )
            fp32 = to_onnx(network, spec)
            size = backbone.size
            pixels = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), np.uint8)
            files[backbone.name] = fp32, quantize(fp32, [pixels], Recipe(rounding="nearest"))
        sessions = {
            (backbone, kind): open_model(model, backbone)
            for backbone, models in files.items()
            for kind, model in zip(("fp32", "int8"), models, strict=True)
        }
        times: dict[tuple[str, str], list[float]] = {key: [] for key in sessions}
        for turn in range(WARM_UP + TURNS):
            for key, logits in sessions.items():
                started = time.perf_counter()
                logits(pixels[:1])
                if turn >= WARM_UP:
                    times[key].append(time.perf_counter() - started)

        def ratio(
            above: tuple[str, str], below: tuple[str, str], times: dict[tuple[str, str], list[float]] = times
        ) -> float:
            return statistics.median(a / b for a, b in zip(times[above], times[below], strict=True))

        for backbone, models in files.items():
            megabytes = " | ".join(f"{len(model) / 1e6:.1f}" for model in models)
            ms = " | ".join(f"{1e3 * statistics.median(times[backbone, kind]):.2f}" for kind in ("fp32", "int8"))
            own = ratio((backbone, "fp32"), (backbone, "int8"))
            over = ratio((plain.name, "fp32"), (backbone, "int8"))
            print(f"| {backbone} | {megabytes} | {ms} | {own:.2f}x | {over:.2f}x |", flush=True)
            before, after = times[plain.name, "fp32"], times[backbone, "int8"]
            spread = paired(before, after)
            what, note = f"speed of {backbone} in INT8", "random weights"
            record(what, f"{plain.name} in FP32", **spread, better="higher", note=note)


if __name__ == "__main__":
    main()
