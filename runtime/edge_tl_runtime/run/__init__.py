"""Assembling and running it all: source, classifier, sinks, status; photos to train with."""

__all__ = ["assemble", "collect", "collect_settings", "documents", "plan", "runner", "status"]
