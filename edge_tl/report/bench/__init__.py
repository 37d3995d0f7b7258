"""Pages and plots of the benchmark on the device."""

__all__ = ["compare", "page", "plots"]
