"""The FP32 classifier that an export begins with: a network just trained, or an edge-tl file that is there already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from edge_tl_export.errors import ExportError
from edge_tl_export.onnx_graph.export_graph import to_onnx
from edge_tl_export.onnx_graph.plain_graph import plain_graph
from edge_tl_export.onnx_graph.verify import FIXED_BATCHES, Parity, check_structure, graph_parity, parity, with_batch
from edge_tl_export.quantization.qdq import WEIGHTED
from edge_tl_export.search.compare import open_model
from edge_tl_export.torch_graph.plan import unknown_operators
from edge_tl_runtime.core.errors import EdgeTLError, UsageError
from edge_tl_runtime.core.files import sha256
from edge_tl_runtime.evaluation.evaluate import Logits
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.inference.ood import EARLIER_KEY
from edge_tl_runtime.modelfile.onnx import CHECKSUM_KEY, SPEC_KEY, parse_spec, read_model, read_spec
from edge_tl_runtime.modelfile.spec import ModelSpec

STEM = "model"
_INTEGER = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
_PER_FILE = ("opset", "versions", EARLIER_KEY)
"""Keys of a contract's `export` that are about one file and not about what is made from it."""


@dataclass(frozen=True, kw_only=True)
class Fp32Source:
    """fp32: what everything is compared with. quantizable: the same function in the form that the quantizer knows.

    parent_sha256: of what the FP32 file was made from. existing: the file, where there is one already; it is never changed.
    metadata: the file's other metadata.
    """

    spec: ModelSpec
    fp32: bytes = field(repr=False)
    quantizable: bytes = field(repr=False)
    parent_sha256: str = ""
    existing: Path | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    network: nn.Module | None = None

    @property
    def stem(self) -> str:
        """Of the names of the files that are made."""
        return STEM if self.existing is None else self.existing.stem

    def verified(self, samples: NDArray[np.uint8]) -> Parity:
        """The graph that is quantized against the network, or the file, on pixels uint8 (N, H, W, 3). Raises ExportError."""
        logits = open_model(self.quantizable, "the graph")
        if self.network is None:
            return graph_parity(open_model(self.fp32, str(self.existing)), logits, samples)
        check_structure(self.fp32)
        fixed: dict[int, Logits] = {batch: open_model(with_batch(self.fp32, batch), "fp32") for batch in FIXED_BATCHES}
        return parity(self.network, self.spec, logits, samples, fixed)

    def settings_kept(self) -> dict[str, Any]:
        """What the contract of a file made from this one takes over of its `export`."""
        return {key: value for key, value in self.spec.export.items() if key not in _PER_FILE}


def from_network(network: nn.Module, spec: ModelSpec, parent_sha256: str) -> Fp32Source:
    """network: on the CPU. spec: its contract before export."""
    fp32 = to_onnx(network, spec)
    return Fp32Source(spec=spec, fp32=fp32, quantizable=fp32, parent_sha256=parent_sha256, network=network)


def from_file(path: Path, quantization: str | None, qat: bool) -> Fp32Source:
    """An FP32 file with a contract, exported here or adopted. What cannot be quantized is refused here, before photos are read.

    quantization: "int8", "fp16" or None. Raises UsageError, BadModelError, ExportError.
    """
    data = read_model(path)
    spec = parse_spec(data, str(path))
    if quantization is None:
        raise UsageError(f"{path} is an exported file already; say what to make of it: --quantize, or --quantize fp16")
    if spec.precision != "fp32":
        raise UsageError(f"{path} is {spec.precision.upper()} already; {_counterpart(path, spec)}")
    proto = onnx.load_from_string(data)
    integer = sorted({node.op_type for node in proto.graph.node if node.op_type in _INTEGER})
    if integer:
        raise UsageError(f"{path} is quantized already (it holds {integer[0]}); give the FP32 file it was made from")
    classifier = Classifier(path)  # as the device opens it: checksum, signature, self-test
    _check_free_batch(classifier)
    quantizable = plain_graph(data, str(path))
    check_structure(quantizable)
    if quantization == "int8":
        _check_weights(quantizable, path)
        if qat and (unknown := unknown_operators(onnx.load_from_string(quantizable))):
            raise UsageError(
                f"--qat cannot train through {', '.join(unknown[:5])} of {path}; leave --qat out, the search goes without"
            )
    return Fp32Source(
        spec=spec,
        fp32=data,
        quantizable=quantizable,
        parent_sha256=spec.parent_sha256,
        existing=path,
        metadata={item.key: item.value for item in proto.metadata_props if item.key not in (SPEC_KEY, CHECKSUM_KEY)},
    )


def _counterpart(path: Path, spec: ModelSpec) -> str:
    """Which file to give instead, where it is in the same folder."""
    for other in sorted(path.parent.glob("*.onnx")):
        try:
            if sha256(read_model(other)) == spec.parent_sha256 and read_spec(other).precision == "fp32":
                return f"give the FP32 file it was made from: {other}"
        except EdgeTLError:
            continue
    return "give the FP32 file it was made from, which is not in its folder"


def _check_free_batch(classifier: Classifier) -> None:
    rule = classifier.spec.resize
    try:
        classifier.logits(np.zeros((2, rule.height, rule.width, 3), np.uint8))
    except EdgeTLError:
        raise ExportError(
            f"{classifier.path} takes one photo at a time, and the search compares files in batches; adopt the original again "
            "with this release, which lets the batch be free"
        ) from None


def _check_weights(model: bytes, path: Path) -> None:
    graph = onnx.load_from_string(model).graph
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    layers = [node for node in graph.node if node.op_type in WEIGHTED]
    if not layers:
        kinds = ", ".join(sorted({node.op_type for node in graph.node})[:6])
        raise ExportError(
            f"{path} holds no convolution and no matrix product that INT8 could make faster (it holds {kinds}); use it as it is"
        )
    if not any(node.input[1] in arrays for node in layers):
        raise ExportError(
            f"{path} computes the weights of its layers while it runs, so there is nothing to quantize; use it as it is"
        )
    odd = [
        name
        for name in (node.input[1] for node in layers if node.input[1] in arrays)
        if not np.isfinite(numpy_helper.to_array(arrays[name])).all()
    ]
    if odd:
        raise ExportError(f"{path} has weights that are no numbers ({odd[0]}); adopt or export it again")
