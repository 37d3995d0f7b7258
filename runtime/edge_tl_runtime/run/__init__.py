"""Assembling and running it all: source, classifier, sinks, status; photos to train with."""

__all__ = [
    "assemble", "collect", "collect_settings", "documents", "drift_feed", "plan", "runner", "scene_watch", "status",
]  # fmt: skip
