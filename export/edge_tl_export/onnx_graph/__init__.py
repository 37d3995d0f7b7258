"""ONNX graphs: export, cleaning, checks, other runtimes."""

__all__ = [
    "cleanup",
    "export_graph",
    "feature_output",
    "other_runtimes",
    "pixel_model",
    "plain_graph",
    "trace",
    "verify",
]
