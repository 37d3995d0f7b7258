"""From a folder of photos to an image classifier on a small device's camera.

    import edge_tl as et

    run = et.train("photos", "runs/mine")
    model = run.export(quantize="int8")
    print(model.predict("bee.jpg").label)

Names are imported when they are used: `import edge_tl` loads nothing heavy, and `load` and all that a device does work without
the training libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_tl_runtime.core.lazy import lazy_names

if TYPE_CHECKING:
    from edge_tl.api.adopting import adopt
    from edge_tl.api.attacking import attack
    from edge_tl.api.benching import bench
    from edge_tl.api.checking import check
    from edge_tl.api.comparing import ComparedResults, compare
    from edge_tl.api.dreaming import dream
    from edge_tl.api.model import EdgeTLWarning, Model, export, load
    from edge_tl.api.packing import pack
    from edge_tl.api.reporter import Reporter
    from edge_tl.api.results import AttackResult, BenchResult, DataCheck, DreamResult, PackResult, TuneResult
    from edge_tl.api.runs import Run, resume, train
    from edge_tl.api.tuning import tune
    from edge_tl_runtime.core.errors import EdgeTLError
    from edge_tl_runtime.evaluation.evaluate import Evaluation
    from edge_tl_runtime.inference.classifier import Prediction
    from edge_tl_runtime.pipeline.stream import Result, Stream

__version__ = "0.1.0"

__all__ = [
    "AttackResult",
    "BenchResult",
    "ComparedResults",
    "DataCheck",
    "DreamResult",
    "EdgeTLError",
    "EdgeTLWarning",
    "Evaluation",
    "Model",
    "PackResult",
    "Prediction",
    "Reporter",
    "Result",
    "Run",
    "Stream",
    "TuneResult",
    "__version__",
    "adopt",
    "attack",
    "bench",
    "check",
    "compare",
    "dream",
    "export",
    "load",
    "pack",
    "resume",
    "train",
    "tune",
]

_PLACES = {
    "AttackResult": "edge_tl.api.results",
    "BenchResult": "edge_tl.api.results",
    "ComparedResults": "edge_tl.api.comparing",
    "DataCheck": "edge_tl.api.results",
    "DreamResult": "edge_tl.api.results",
    "EdgeTLError": "edge_tl_runtime.core.errors",
    "EdgeTLWarning": "edge_tl.api.model",
    "Evaluation": "edge_tl_runtime.evaluation.evaluate",
    "Model": "edge_tl.api.model",
    "PackResult": "edge_tl.api.results",
    "Prediction": "edge_tl_runtime.inference.classifier",
    "Reporter": "edge_tl.api.reporter",
    "Result": "edge_tl_runtime.pipeline.stream",
    "Run": "edge_tl.api.runs",
    "Stream": "edge_tl_runtime.pipeline.stream",
    "TuneResult": "edge_tl.api.results",
    "adopt": "edge_tl.api.adopting",
    "attack": "edge_tl.api.attacking",
    "bench": "edge_tl.api.benching",
    "check": "edge_tl.api.checking",
    "compare": "edge_tl.api.comparing",
    "dream": "edge_tl.api.dreaming",
    "export": "edge_tl.api.model",
    "load": "edge_tl.api.model",
    "pack": "edge_tl.api.packing",
    "resume": "edge_tl.api.runs",
    "train": "edge_tl.api.runs",
    "tune": "edge_tl.api.tuning",
}
"""Where each public name is; the block above says the same to type checkers and editors, and a test compares them."""


__getattr__ = lazy_names(__name__, _PLACES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
