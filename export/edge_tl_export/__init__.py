"""PyTorch to ONNX: one graph from pixels to logits, quantization, and the checks a file must pass before it is handed over."""

from edge_tl_export.errors import ExportError
from edge_tl_export.export import Stage, export_file, export_model
from edge_tl_export.export_report import ExportReport, ExportSettings, ModelFile
from edge_tl_export.onnx_graph.export_graph import OPSET, PixelModel, to_onnx
from edge_tl_export.onnx_graph.verify import Parity, make_self_test, parity
from edge_tl_export.quantization.quantize import Quantizer, quantize, to_fp16
from edge_tl_export.quantization.recipe import Recipe
from edge_tl_export.search.compare import Comparison, Judge, Row
from edge_tl_export.search.search import Candidate, Layer, Search

__all__ = [
    "OPSET",
    "Candidate",
    "Comparison",
    "ExportError",
    "ExportReport",
    "ExportSettings",
    "Judge",
    "Layer",
    "ModelFile",
    "Parity",
    "PixelModel",
    "Quantizer",
    "Recipe",
    "Row",
    "Search",
    "Stage",
    "export_file",
    "export_model",
    "make_self_test",
    "parity",
    "quantize",
    "to_fp16",
    "to_onnx",
]
