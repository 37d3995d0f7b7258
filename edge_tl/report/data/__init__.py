"""The page of a data check."""

__all__ = ["page"]
