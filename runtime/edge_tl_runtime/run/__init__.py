"""Assembling and running it all: source, classifier, sinks, status."""

__all__ = ["assemble", "documents", "drift_feed", "plan", "runner", "scene_watch", "status"]
