"""PyTorch to ONNX: one graph from pixels to logits, quantization, and the checks a file must pass before it is handed over.

Names are imported when they are used: what can be asked of an export (`edge_tl_export.settings`) is known without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_tl_runtime.core.lazy import lazy_names

if TYPE_CHECKING:
    from edge_tl_export.errors import ExportError
    from edge_tl_export.export import export_file, export_model
    from edge_tl_export.export_report import ExportReport, ModelFile
    from edge_tl_export.onnx_graph.export_graph import OPSET, to_onnx
    from edge_tl_export.onnx_graph.pixel_model import PixelModel
    from edge_tl_export.onnx_graph.verify import Parity, make_self_test, parity
    from edge_tl_export.quantization.quantize import Quantizer, quantize, to_fp16
    from edge_tl_export.quantization.recipe import Recipe
    from edge_tl_export.search.compare import CandidateRow, Comparison, FileEvaluator
    from edge_tl_export.search.search import Candidate, Layer, QuantizationSearch
    from edge_tl_export.settings import ExportSettings
    from edge_tl_runtime.core.progress import Stage

__all__ = [
    "OPSET",
    "Candidate",
    "CandidateRow",
    "Comparison",
    "ExportError",
    "ExportReport",
    "ExportSettings",
    "FileEvaluator",
    "Layer",
    "ModelFile",
    "Parity",
    "PixelModel",
    "QuantizationSearch",
    "Quantizer",
    "Recipe",
    "Stage",
    "export_file",
    "export_model",
    "make_self_test",
    "parity",
    "quantize",
    "to_fp16",
    "to_onnx",
]

_PLACES = {
    "Candidate": "edge_tl_export.search.search",
    "Comparison": "edge_tl_export.search.compare",
    "ExportError": "edge_tl_export.errors",
    "ExportReport": "edge_tl_export.export_report",
    "ExportSettings": "edge_tl_export.settings",
    "FileEvaluator": "edge_tl_export.search.compare",
    "Layer": "edge_tl_export.search.search",
    "ModelFile": "edge_tl_export.export_report",
    "OPSET": "edge_tl_export.onnx_graph.export_graph",
    "Parity": "edge_tl_export.onnx_graph.verify",
    "PixelModel": "edge_tl_export.onnx_graph.pixel_model",
    "Quantizer": "edge_tl_export.quantization.quantize",
    "Recipe": "edge_tl_export.quantization.recipe",
    "CandidateRow": "edge_tl_export.search.compare",
    "QuantizationSearch": "edge_tl_export.search.search",
    "Stage": "edge_tl_runtime.core.progress",
    "export_file": "edge_tl_export.export",
    "export_model": "edge_tl_export.export",
    "make_self_test": "edge_tl_export.onnx_graph.verify",
    "parity": "edge_tl_export.onnx_graph.verify",
    "quantize": "edge_tl_export.quantization.quantize",
    "to_fp16": "edge_tl_export.quantization.quantize",
    "to_onnx": "edge_tl_export.onnx_graph.export_graph",
}
"""Where each public name is; the block above says the same to type checkers and editors, and a test compares them."""


__getattr__ = lazy_names(__name__, _PLACES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
