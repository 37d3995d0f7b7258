"""Cameras at http addresses: the client, streams of JPEGs, stills that are asked for again and again."""
