"""Pages and plots of attacks and dreams."""

__all__ = ["compare", "dreams", "page", "pictures", "plots"]
