"""The guarded search for a quantized file that keeps the accuracy."""

__all__ = ["compare", "fitted_sets", "qat", "search"]
