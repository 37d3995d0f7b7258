"""From a model file and pixels to labels: the classifier, execution providers, the out-of-distribution score."""

__all__ = ["classifier", "documents", "feature_distance", "ood", "ood_fit", "providers", "settings"]
