"""Interrupted trainings against an uninterrupted one, and two processes against one. Prints Markdown.

    python benchmarks/studies/interrupted_training.py DATA_FOLDER [--kills 20]

On hymenoptera at 96 px, with real signals (SIGKILL, SIGTERM, SIGINT by chance) at random moments, each followed by `--resume`.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import _shared  # noqa: F401
import torch
from ratios import record

from edge_tl.training.run_folder import load_run, read_metrics

COMMON = ("--recipe", "finetune", "--size", "96", "--set", "finetune.average=last", "--device", "cpu")


def start(*arguments: str, processes: int = 1) -> subprocess.Popen:
    launcher = ("-m",)
    if processes > 1:
        launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, *launcher, "edge_tl", "train", *arguments], env=environment, **quiet)


def kills(data: Path, folder: Path, wanted: int, epochs: str) -> None:
    whole, cut = folder / "whole", folder / "cut"
    assert start(str(data), "-o", str(whole), *COMMON, "--epochs", epochs).wait() == 0
    chance = random.Random(0)
    numbers = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
    sent: Counter[str] = Counter()
    stages: Counter[str] = Counter()
    while True:
        begun = (cut / "resume.json").exists()
        process = start(
            *(("--resume", str(cut)) if begun else (str(data), "-o", str(cut), *COMMON, "--epochs", epochs))
        )
        if sum(sent.values()) == wanted:
            break
        time.sleep(chance.uniform(2.0, 14.0))
        if process.poll() is not None:
            break
        number = chance.choice(numbers)
        process.send_signal(number)
        process.wait()
        sent[number.name] += 1
        stages["in fine-tuning" if (cut / "checkpoint.pt").exists() else "before its first epoch ended"] += 1
    assert process.wait() == 0
    first, second = (load_run(path).network.module.state_dict() for path in (whole, cut))
    unequal = [name for name in first if not torch.equal(first[name], second[name])]
    print(f"interruptions: {dict(sent)}, {dict(stages)}")
    print(f"tensors of the final weights: {len(first)}, unequal to those of the uninterrupted run: {len(unequal)}\n")
    what, against = "tensors of the final weights that differ", f"a run without {sum(sent.values())} interruptions"
    record(what, against, len(unequal), kind="count", goal="<= 0", note=f"of {len(first)}")


def processes(data: Path, folder: Path) -> None:
    curves = []
    for count in (1, 2):
        run = folder / f"by{count}"
        assert start(str(data), "-o", str(run), *COMMON, "--epochs", "6", processes=count).wait() == 0
        curves.append([record for record in read_metrics(run) if record["stage"] == "finetune"])
    print("| epoch | loss, 1 process | 2 processes | val loss, 1 process | 2 processes | val top-1, 1 | 2 |")
    print("|---|---|---|---|---|---|---|")
    for one, two in zip(*curves, strict=True):
        print(
            f"| {one['epoch']} | {one['loss']:.5f} | {two['loss']:.5f} | {one['val_loss']:.5f} | {two['val_loss']:.5f} "
            f"| {100 * one['top1']:.1f} % | {100 * two['top1']:.1f} % |"
        )
    one, two = (curve[-1] for curve in curves)
    what = f"validation loss after {one['epoch']} epochs in two processes"
    record(what, "in one", two["val_loss"] / one["val_loss"], goal="1.00 +- 0.01")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", default="40")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        processes(options.data / "hymenoptera", Path(folder))
        print(flush=True)
        kills(options.data / "hymenoptera", Path(folder), options.kills, options.epochs)


if __name__ == "__main__":
    main()
