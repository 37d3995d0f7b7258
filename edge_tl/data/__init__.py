"""Photos to train on: data sets by name, and what may be wrong with a folder."""

__all__ = ["cache", "download", "duplicates", "foreign", "grouping", "named", "pictures", "surfaces"]
