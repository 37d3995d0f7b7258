"""Accuracy under corruptions and under the Square attack, without torch."""

__all__ = ["corrupted_accuracy", "corruptions", "documents", "random_noise", "square_attack", "square_proposals"]
