"""An ONNX graph as a differentiable PyTorch module."""

__all__ = ["elementwise", "equivalence", "module", "node", "operators", "plan", "shaping"]
