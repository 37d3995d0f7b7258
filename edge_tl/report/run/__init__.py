"""Pages and plots of a training run."""

__all__ = ["compare", "gradcam", "page", "plots", "tensorboard"]
