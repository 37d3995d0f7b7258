"""ONNX graphs: export, cleaning, checks, other runtimes."""
