"""From a model file and pixels to labels: the classifier, execution providers, the out-of-distribution score, sets of labels."""

__all__ = [
    "classifier", "documents", "feature_distance", "label_sets", "ood", "ood_fit", "providers", "settings", "usual_keep",
]  # fmt: skip
