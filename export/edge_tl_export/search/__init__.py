"""The guarded search for a quantized file that keeps the accuracy."""

__all__ = ["compare", "qat", "search"]
