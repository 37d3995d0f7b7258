"""Adopting a foreign ONNX file: read it, understand its input and its scores, and give it the ends of an edge-tl file."""

__all__ = [
    "adopt", "answers", "assembly", "deciding", "graph", "labels", "loading", "measuring", "notes", "picture",
    "preprocessing", "reading", "reference", "scores", "settings", "tail",
]  # fmt: skip
