"""Cameras at http addresses: the client, streams of JPEGs, stills that are asked for again and again."""

__all__ = ["camera", "client", "picture_stream"]
