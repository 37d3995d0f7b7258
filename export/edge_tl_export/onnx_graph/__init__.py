"""ONNX graphs: export, cleaning, checks, other runtimes."""

__all__ = ["cleanup", "export_graph", "other_runtimes", "plain_graph", "verify"]
