"""PyTorch to ONNX: one graph from pixels to logits, quantization, and the checks a file must pass before it is handed over."""

from edge_tl_export.compare import Row, measure
from edge_tl_export.export import ExportReport, ModelFile, Stage, export_model
from edge_tl_export.graph import OPSET, PixelModel, to_onnx
from edge_tl_export.quantize import DEFAULT_RECIPE, Recipe, quantize
from edge_tl_export.verify import ExportError, Parity, make_self_test, parity

__all__ = [
    "DEFAULT_RECIPE",
    "OPSET",
    "ExportError",
    "ExportReport",
    "ModelFile",
    "Parity",
    "PixelModel",
    "Recipe",
    "Row",
    "Stage",
    "export_model",
    "make_self_test",
    "measure",
    "parity",
    "quantize",
    "to_onnx",
]
