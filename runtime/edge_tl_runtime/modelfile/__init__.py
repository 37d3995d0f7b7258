"""The model file: what it says of itself (ModelSpec), and reading and checking it inside ONNX."""
