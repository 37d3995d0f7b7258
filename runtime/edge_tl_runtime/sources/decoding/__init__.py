"""Videos and network streams become frames: by PyAV, or by OpenCV where PyAV is not installed."""

__all__ = ["opencv_reader", "pixels", "pyav_reader", "reader", "reasons", "unwritten", "wholeness"]
