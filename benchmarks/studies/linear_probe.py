"""Accuracy of the linear probe and its time over one forward pass. Prints Markdown.

    python benchmarks/studies/linear_probe.py DATA_FOLDER [MOBILENET_V2_WEIGHTS]

For hymenoptera, pets37 and cats-dogs below DATA_FOLDER: the features are computed (one forward pass over the photos, nothing
cached), then the head is fitted, cross-validation included. Ratio: both over the forward pass with reading, cropping and
resizing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import _shared  # noqa: F401
from ratios import record

from edge_tl.cli.console import silent
from edge_tl.training.settings import TrainSettings
from edge_tl.training.train import train


def main(data: Path, weights: str | None) -> None:
    networks = {"efficientnet_lite0": "pretrained"} | ({"mobilenet_v2": weights} if weights else {})
    print("| photos | backbone | val top-1 | 95 % interval | forward s | head s | ratio |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EDGE_TL_CACHE"] = folder
        for name in ("hymenoptera", "pets37", "cats-dogs"):
            for arch, source in networks.items():
                settings = TrainSettings(recipe="probe", arch=arch, weights=source)
                result = train(data / name, Path(folder, name, arch), settings, silent, lambda line: None)
                forward, head = result.seconds["features"], result.seconds["probe"]
                ratio = (forward + head) / forward
                low, high = result.evaluation.ci95
                print(
                    f"| {name} | {arch} | {100 * result.evaluation.top1:.1f} % of {result.evaluation.n} "
                    f"| {100 * low:.1f} to {100 * high:.1f} | {forward:.1f} | {head:.2f} | {ratio:.2f} |",
                    flush=True,
                )
                record(f"probe with its head, {name}, {arch}", "the forward pass", ratio, better="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA_FOLDER")
    parser.add_argument("weights", nargs="?", metavar="MOBILENET_V2_WEIGHTS")
    given = parser.parse_args()
    main(given.data, given.weights)
