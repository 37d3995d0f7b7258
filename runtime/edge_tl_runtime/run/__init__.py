"""Assembling and running it all: source, classifier, sinks, status."""
