"""INT8: ranges, rounding, equalization and the quantized graph."""
