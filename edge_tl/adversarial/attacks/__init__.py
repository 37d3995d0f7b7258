"""Attacks on a model: a small typed class each, and the registry of them."""
