"""An epoch of fine-tuning over a bare loop, and what keeping the heap is worth. Prints Markdown.

    python benchmarks/training_epoch.py DATA_FOLDER [MOBILENET_V2_WEIGHTS] [--device cuda] [--photos N]

Ratio of an epoch (views cut from canvases, mixed targets, schedule, clipping, optimizer; canvases decoded before, validation not
counted) over a bare loop of forward and backward passes on tensors that are ready, taken in turn in one process. Then that bare
loop in processes with and without `keep_heap`, and in bfloat16.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from measure import quartiles
from ratios import record

from edge_tl.models import WeightsSource, build_network, find_backbone
from edge_tl.training.finetune.finetune import Finetuner
from edge_tl.training.settings import FinetuneSettings
from edge_tl.training.validation import Validator
from edge_tl_runtime.core.malloc import keep_heap
from edge_tl_runtime.images.datasets.dataset import load_training

BATCH = 32
ROUNDS = 5


def network(arch: str, weights: str):
    backbone = find_backbone(arch)
    return build_network(backbone, WeightsSource.parse(weights, backbone))


def sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def bare(model, batches, device: torch.device, bf16: bool = False) -> float:
    """Seconds of forward and backward over batches of (views, targets)."""
    sync(device)
    started = time.perf_counter()
    for views, targets in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = torch.nn.functional.cross_entropy(model(views).float(), targets)
        model.zero_grad(set_to_none=True)
        loss.backward()
    sync(device)
    return time.perf_counter() - started


def epochs(arch: str, weights: str, data: Path, device: torch.device, photos: int) -> tuple[float, list[float]]:
    train, val = load_training(data)
    train = train.subset([i for i, path in enumerate(train.paths) if path.suffix != ".gif"][:photos], "train")
    whole = network(arch, weights)
    head = torch.nn.Linear(whole.head.in_features, len(train.labels))
    whole.set_head(head.weight, head.bias, train.labels)
    settings = FinetuneSettings(epochs=ROUNDS + 1, batch_size=BATCH)
    tuner = Finetuner(whole, train, Validator(val.subset(range(1), "val"), whole.backbone.resize, ""), settings, device)
    running = tuner.epochs()
    next(running)  # decodes
    ready = [(tuner.views.batch(1, b), torch.from_numpy(tuner.targets[b]).to(device)) for b in tuner._order(1)]
    bf16 = device.type == "cuda"
    bare(tuner._model, ready[:2], device, bf16)
    ratios, seconds = [], []
    for epoch in running:
        seconds.append(bare(tuner._model.train(), ready, device, bf16))
        ratios.append(epoch.seconds / seconds[-1])
    return statistics.median(seconds) / len(train), ratios


def child(arch: str, weights: str, heap: bool, bf16: bool) -> None:
    if heap:
        keep_heap()
    whole = network(arch, weights)
    model = whole.pixel_model(torch.device("cpu")).train()
    for layer in model.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.eval()
    ready = [(torch.randint(0, 255, (BATCH, 224, 224, 3)).float(), torch.randint(0, 1000, (BATCH,)))]
    bare(model, ready, torch.device("cpu"), bf16)
    print(statistics.median(bare(model, ready, torch.device("cpu"), bf16) for _ in range(4)) / BATCH * 1000)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", nargs="?")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--photos", type=int, default=256)
    parser.add_argument("--child", nargs=4)
    options = parser.parse_args()
    if options.child:
        arch, weights, heap, bf16 = options.child
        child(arch, weights, heap == "1", bf16 == "1")
        return
    keep_heap()
    torch.manual_seed(0)
    device = torch.device(options.device)
    networks = {"efficientnet_lite0": "pretrained"} | ({"mobilenet_v2": options.weights} if options.weights else {})
    print("| backbone | bare ms a photo | epoch over bare loop, median | of rounds |")
    print("|---|---|---|---|")
    for arch, weights in networks.items():
        seconds, ratios = epochs(arch, weights, options.data / "hymenoptera", device, options.photos)
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"| {arch} | {1000 * seconds:.1f} | {statistics.median(ratios):.2f} | {shown} |", flush=True)
        what = f"an epoch of fine-tuning, {arch}"
        record(what, "bare forward and backward passes", **quartiles(ratios), goal="<= 1.05")
    if options.device != "cpu":
        return
    print("\n| backbone | fp32, heap given back | fp32, kept | bf16, kept | kept over given back | bf16 over fp32 |")
    print("|---|---|---|---|---|---|")
    for arch, weights in networks.items():
        times = {}
        for heap, bf16 in (("0", "0"), ("1", "0"), ("1", "1")):
            command = [sys.executable, __file__, str(options.data), "--child", arch, weights, heap, bf16]
            times[heap, bf16] = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        given, kept, half = times["0", "0"], times["1", "0"], times["1", "1"]
        print(
            f"| {arch} | {given:.1f} ms | {kept:.1f} ms | {half:.1f} ms | {kept / given:.2f} | {half / kept:.2f} |",
            flush=True,
        )
        record(f"a training step with the heap kept, {arch}", "with the heap given back", kept / given, headline=False)


if __name__ == "__main__":
    main()
