"""What every other room stands on: errors, text for people, files, strict JSON, settings, statistics, threads."""

__all__ = [
    "documents", "errors", "files", "formats", "html", "lazy", "malloc", "plugins", "progress", "settings",
    "statistics", "strict_json", "text", "threads",
]  # fmt: skip
