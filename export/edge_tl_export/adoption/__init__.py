"""The parts of `edge_tl_export.adoption.adopt`: reading a foreign ONNX file, understanding its two ends, and putting ours on."""

__all__ = [
    "adopt", "assembly", "deciding", "graph", "labels", "loading", "measuring", "notes", "picture", "preprocessing",
    "reading", "reference", "scores", "settings", "tail",
]  # fmt: skip
