"""Pages and plots of a training run."""
