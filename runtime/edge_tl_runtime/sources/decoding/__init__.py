"""Videos and network streams become frames: by PyAV, or by OpenCV where PyAV is not installed."""
