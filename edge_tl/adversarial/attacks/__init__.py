"""Attacks on a model: a small typed class each, and the registry of them."""

__all__ = ["apgd", "base", "black_box", "criteria", "deepfool", "losses", "model", "norms", "pgd", "registry"]
