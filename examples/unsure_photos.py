"""Copies the photos of a folder that a model is least sure of, for a person to label and train on next.

    python examples/unsure_photos.py model-int8.onnx new-photos to-label --count 20

A copy is named by its confidence and what the model took it for: 0.412-bees-IMG_2093.jpg.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from edge_tl_runtime.core.errors import BadImage, EdgeTLError
from edge_tl_runtime.core.files import make_folder
from edge_tl_runtime.images.datasets.survey import photo_files
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.inference.classifier import Classifier


def main() -> int:
    parser = argparse.ArgumentParser(description="Copy the photos that a model is least sure of.")
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=20)
    arguments = parser.parse_args()
    try:
        copied, looked_at, unreadable = copy_unsure(arguments.model, arguments.photos, arguments.out, arguments.count)
    except EdgeTLError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"copied {copied} of {looked_at} photos to {arguments.out}; {len(unreadable)} could not be read")
    for line in unreadable:
        print(f"  {line}")
    return 0


def copy_unsure(model: Path, photos: Path, out: Path, count: int) -> tuple[int, int, list[str]]:
    """Copy the `count` photos of least confidence. Returns how many were copied, how many were looked at, and a line for each
    that could not be read.

    Raises EdgeTLError for a model that cannot be used and a folder that cannot be made.
    """
    classifier = Classifier(model)
    answers: list[tuple[float, str, Path]] = []
    unreadable: list[str] = []
    for path in photo_files(photos):
        try:
            answer = classifier.classify(read_photo(path))
        except BadImage as error:
            unreadable.append(f"{path}: {error}")
            continue
        answers.append((answer.confidence, answer.label, path))
    unsure = sorted(answers)[:count]
    make_folder(out)
    for confidence, label, path in unsure:
        shutil.copyfile(path, out / f"{confidence:.3f}-{label.replace('/', '_')}-{path.name}")
    return len(unsure), len(answers), unreadable


if __name__ == "__main__":
    sys.exit(main())
