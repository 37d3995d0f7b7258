"""edge-tl on the device: the model contract, preprocessing, classification. numpy, onnxruntime and OpenCV only."""

import os as _os

# OpenCV's worker threads spin for a while after each piece of work, on the very cores that the model needs next: a whole frame
# of 640x480 took 1.31 of the bare call of mobilenet_v2, and takes 1.12 without (1.46 and 1.22 of 1920x1080). It is read when
# cv2 is loaded, so a program of your own imports edge_tl_runtime first.
_os.environ.setdefault("OPENCV_THREAD_POOL_ACTIVE_WAIT_WORKER", "0")

__all__ = [
    "bench", "core", "evaluation", "images", "inference", "machine", "modelfile", "pipeline", "robustness", "run", "scene",
    "sinks", "sources",
]  # fmt: skip
