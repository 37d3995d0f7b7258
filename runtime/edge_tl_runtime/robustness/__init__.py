"""Accuracy under corruptions and under the Square attack, without torch."""
