"""The page of an export."""

__all__ = ["page"]
