"""File formats of photos: which one a file is, by its content, and how each becomes pixels."""

__all__ = ["av1", "decoders", "heif", "isobmff", "kinds", "pixels", "pnm", "several", "tiff"]
