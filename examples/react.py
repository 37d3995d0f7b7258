"""Watches a camera or a video, and acts when a label comes and when it goes.

    python examples/react.py model-int8.onnx 0 cat --threshold 0.8
    python examples/react.py model-int8.onnx clip.mp4 cat

`act` is where a door opens, a lamp lights, a message goes out. Answers are steadied over half a second, so that one odd frame
does nothing; a camera that fails is opened again for ever.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_tl_runtime.core.errors import EdgeTLError
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.pipeline.decision import Decider
from edge_tl_runtime.pipeline.smoothing import Ema
from edge_tl_runtime.pipeline.stream import Stream
from edge_tl_runtime.sources import open_source


def act(label: str, there: bool, seconds: float) -> None:
    """Yours to fill in. seconds: since the source began."""
    print(f"{seconds:7.2f} s  {label} {'is there' if there else 'is gone'}", flush=True)


def watch(model: Path, source: str, label: str, threshold: float) -> None:
    """Classify every frame until the source ends. Raises EdgeTLError for a model, a label or a source that cannot be used."""

    def decider(classifier: Classifier) -> Decider:
        return Decider(classifier.spec, threshold=threshold, smoother=Ema(0.5))

    classifier = Classifier(model)
    if label not in classifier.spec.labels:
        raise EdgeTLError(f"{model} has no label {label!r}; it has: {', '.join(classifier.spec.labels)}")
    there = False
    with open_source(source) as frames:
        for result in Stream(frames, classifier, decider=decider):
            if (result.label == label) != there:
                there = not there
                act(label, there, result.record.seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description="Act when a label comes and when it goes.")
    parser.add_argument("model", type=Path)
    parser.add_argument("source", help="as for `edge-tl run --source`: 0, an address, a video, test://bars")
    parser.add_argument("label")
    parser.add_argument("--threshold", type=float, default=0.5, help="probability below which a frame is unknown")
    arguments = parser.parse_args()
    try:
        watch(arguments.model, arguments.source, arguments.label, arguments.threshold)
    except EdgeTLError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
