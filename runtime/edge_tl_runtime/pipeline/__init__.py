"""Frame by frame: the stream of results, decisions, smoothing, reloading the model."""

__all__ = ["decision", "documents", "hot_reload", "smoothing", "stream"]
