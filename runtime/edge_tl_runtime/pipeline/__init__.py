"""Frame by frame: the stream of results, decisions, smoothing, reloading the model."""
