"""Accuracy and time of the recipes over photos, backbones and seeds. Prints Markdown, a row as soon as it is known.

    python benchmarks/studies/recipes.py DATA_FOLDER MOBILENET_V2_WEIGHTS [--recipes auto ...] [--seeds 0 ...] [--size PX]
        [--set NAME=VALUE ...]

For hymenoptera, pets37 and cats-dogs below DATA_FOLDER. `--set` changes a setting of fine-tuning, for ablations. The features
are kept between rows, so times are those of a second training on the same photos.
"""

from __future__ import annotations

import argparse
import ast
import os
import statistics
import tempfile
import time
from pathlib import Path

import _shared  # noqa: F401
from measure import paired_points
from ratios import record

from edge_tl.cli.console import silent
from edge_tl.training.run_folder import read_evaluated
from edge_tl.training.settings import FinetuneSettings, TrainSettings
from edge_tl.training.train import train


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("weights")
    parser.add_argument("--recipes", nargs="+", default=["probe", "finetune", "auto"])
    parser.add_argument("--sets", nargs="+", default=["hymenoptera", "pets37", "cats-dogs"])
    parser.add_argument("--archs", nargs="+", default=["efficientnet_lite0", "mobilenet_v2"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--set", nargs="+", default=[])
    options = parser.parse_args()
    changed = {}
    for item in options.set:
        name, _, value = item.partition("=")
        changed[name] = ast.literal_eval(value) if value[:1].isdigit() or value in ("True", "False") else value
    print(f"settings: {changed or 'defaults'}\n")
    print("| photos | backbone | recipe | val top-1, mean | by seed | val loss | kept | s |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("EDGE_TL_CACHE", folder)
        for photos in options.sets:
            for arch in options.archs:
                found = {}
                for recipe in options.recipes:
                    found[recipe] = row(photos, arch, recipe, options, changed, Path(folder))
                for other in [name for name in found if name != "auto" and "auto" in found]:
                    what, note = f"top-1 of auto, {photos}, {arch}", f"seed {options.seeds[0]}; 95 %, paired"
                    spread = paired_points(found["auto"], found[other])
                    record(what, other, **spread, better="higher", note=note, kind="points")


def row(photos: str, arch: str, recipe: str, options: argparse.Namespace, changed: dict, folder: Path) -> list[bool]:
    """Whether each validation photo is right, for the first seed."""
    results, seconds, right = [], [], []
    for seed in options.seeds:
        settings = TrainSettings(
            arch=arch,
            weights="pretrained" if arch.startswith("efficientnet") else options.weights,
            recipe=recipe,
            size=options.size,
            seed=seed,
            finetune=FinetuneSettings(**changed),
        )
        started = time.perf_counter()
        results.append(train(options.data / photos, folder / "run", settings, silent, lambda line: None))
        seconds.append(time.perf_counter() - started)
        evaluated = read_evaluated(folder / "run")["val"]
        right.append((evaluated.logits.argmax(1) == evaluated.targets).tolist())
    rates = [100 * result.evaluation.top1 for result in results]
    by_seed = ", ".join(f"{result.evaluation.correct}" for result in results)
    kept = "; ".join(dict.fromkeys(f"{result.best} at {result.spec.resize.height} px" for result in results))
    loss = statistics.mean(result.loss for result in results)
    print(
        f"| {photos} | {arch} | {recipe} | {statistics.mean(rates):.1f} | {by_seed} of {results[0].evaluation.n} "
        f"| {loss:.3f} | {kept} | {statistics.mean(seconds):.0f} |",
        flush=True,
    )
    return right[0]


if __name__ == "__main__":
    main()
