"""ONNX graphs: export, cleaning, checks, other runtimes."""

__all__ = ["cleanup", "export_graph", "feature_output", "other_runtimes", "plain_graph", "verify"]
