"""Pages to read: one self-contained HTML file each, no script, no network."""

__all__ = ["bench", "common", "data", "documents", "export", "robustness", "run"]
