"""How often a model is right: accuracy and its intervals, reliability of confidences, photos it was trained on."""

__all__ = [
    "accuracy_claim",
    "covered",
    "documents",
    "evaluate",
    "reliability",
    "settings",
    "training_overlap",
    "unknown",
]
