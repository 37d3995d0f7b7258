"""The model file: what it says of itself (ModelSpec), and reading and checking it inside ONNX."""

__all__ = ["documents", "not_a_model", "onnx", "sections", "spec", "training_images"]
