"""INT8: ranges, rounding, equalization and the quantized graph."""

__all__ = ["calibration", "equalize", "prepare", "qdq", "quantize", "ranges", "recipe", "rounding"]
