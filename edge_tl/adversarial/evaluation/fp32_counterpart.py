"""The FP32 file that a quantized one was made from."""

from __future__ import annotations

from pathlib import Path

from edge_tl_runtime.core.errors import EdgeTLError
from edge_tl_runtime.core.files import sha256
from edge_tl_runtime.modelfile.onnx import parse_spec, read_model
from edge_tl_runtime.modelfile.spec import ModelSpec


def fp32_counterpart(path: Path, spec: ModelSpec) -> Path | None:
    """The model file in the folder of `path` from which it was quantized; None where there is none.

    path: a quantized file; spec: its contract. The counterpart is known by its SHA-256, so a file that was exported anew since,
    or is damaged, is none. An FP32 file has no counterpart: what it was made from are weights.
    """
    if spec.precision == "fp32" or not spec.parent_sha256:
        return None
    for other in sorted(path.parent.glob("*.onnx")):
        try:
            data = read_model(other)
            if sha256(data) == spec.parent_sha256 and parse_spec(data, str(other)).precision == "fp32":
                return other
        except EdgeTLError:
            continue
    return None
