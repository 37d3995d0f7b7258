"""What this machine makes of photos: `python answers.py JOB OUT`. The same file runs here, on an emulated core and on a board.

JOB/models holds model files and JOB/photos photos; OUT gets a file of answers for each model, in the order of their names,
FRAMES with a digest of each decoded photo, and MACHINE.
Needs edge_tl_runtime, and that on sys.path only. A line on standard output for each photo that is done.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadModelError, EdgeTLError
from edge_tl_runtime.core.files import sha256
from edge_tl_runtime.images.crop import preprocess_batch
from edge_tl_runtime.images.decode import read_photo
from edge_tl_runtime.inference.classifier import INPUT_NAME, OUTPUT_NAME, Classifier, SessionSettings, open_session
from edge_tl_runtime.machine.cpu import cpu_name, this_target
from edge_tl_runtime.modelfile.onnx import parse_spec, read_model

MACHINE, FRAMES = "machine.json", "frames.json"
# The order of float sums does not then depend on how many cores a machine has.
SETTINGS = SessionSettings(threads=1)


class Subject:
    """A model file and its answers so far. `refused` is what its self-test said, "" where it passed."""

    def __init__(self, path: Path) -> None:
        data = read_model(path)
        self.name, self.rule = path.stem, parse_spec(data, str(path)).resize
        # By a session of its own, because a file whose self-test fails is the one whose answers are wanted.
        self.session = open_session(data, str(path), SETTINGS)
        self.refused = _refusal(path)
        self.pixels: list[NDArray[np.uint8]] = []
        self.logits: list[NDArray[np.float32]] = []

    def answer(self, pixels: NDArray[np.uint8]) -> None:
        """pixels: uint8 (1, H, W, 3). One photo a call, as the camera does."""
        self.pixels.append(pixels)
        (scores,) = self.session.run([OUTPUT_NAME], {INPUT_NAME: pixels})
        self.logits.append(np.asarray(scores, np.float32))

    def save(self, out: Path) -> None:
        """pixels: uint8 (N, H, W, 3); logits: float32 (N, C); refused: text."""
        pixels, logits = np.concatenate(self.pixels), np.concatenate(self.logits)
        np.savez(out / f"{self.name}.npz", pixels=pixels, logits=logits, refused=np.array(self.refused))


def _refusal(path: Path) -> str:
    try:
        Classifier(path, SETTINGS)
    except BadModelError as error:
        return str(error)
    return ""


def machine() -> dict[str, str]:
    """What computed the answers."""
    versions = {"onnxruntime": onnxruntime.__version__, "opencv": cv2.__version__, "numpy": np.__version__}
    return {"processor": cpu_name(), "target": this_target(), **versions}


def main(job: Path, out: Path) -> None:
    """Raises EdgeTLError for a photo or a model that cannot be read."""
    out.mkdir(parents=True, exist_ok=True)
    (out / MACHINE).write_text(json.dumps(machine()), "utf-8")
    subjects = [Subject(path) for path in sorted((job / "models").iterdir())]
    rules, frames = {subject.rule for subject in subjects}, []
    for photo in sorted((job / "photos").iterdir()):
        frame = read_photo(photo)
        frames.append(sha256(frame.tobytes()))
        pixels = {rule: preprocess_batch([frame], rule) for rule in rules}
        for subject in subjects:
            subject.answer(pixels[subject.rule])
        sys.stdout.write(f"{photo.name}\n")
        sys.stdout.flush()
    for subject in subjects:
        subject.save(out)
    (out / FRAMES).write_text(json.dumps(frames), "utf-8")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except EdgeTLError as failure:
        sys.exit(str(failure))
