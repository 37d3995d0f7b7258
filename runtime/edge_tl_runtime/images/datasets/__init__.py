"""Labelled photos: which files a folder or list holds, which label each has, and how they are divided."""

__all__ = [
    "choosing", "csv_manifest", "dataset", "grouping", "junk", "labelled", "labels", "layout", "missing", "origins",
    "parts", "splitting", "survey", "tables", "tally", "tree",
]  # fmt: skip
