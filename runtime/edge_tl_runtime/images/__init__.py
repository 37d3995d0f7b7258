"""Pictures in files: what a folder holds, what each file is, and how it becomes pixels."""

__all__ = [
    "asked_geometry",
    "crop",
    "datasets",
    "decode",
    "documents",
    "fingerprint",
    "formats",
    "geometry",
    "headers",
    "settings",
    "sizes",
    "uncrop",
]
