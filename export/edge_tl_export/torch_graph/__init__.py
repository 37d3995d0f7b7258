"""An ONNX graph as a differentiable PyTorch module."""
