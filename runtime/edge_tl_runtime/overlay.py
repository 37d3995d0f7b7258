"""Label, confidence and frame rate drawn on a frame."""

from __future__ import annotations

import cv2
import numpy as np

from edge_tl_runtime.classifier import Prediction
from edge_tl_runtime.photos import Frame

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LETTER_PX = 22.0  # height of a capital at scale 1


class Overlay:
    """Draws in a size that follows the frame's. A label whose script OpenCV cannot draw is replaced by its class number."""

    def draw(self, frame: Frame, prediction: Prediction, fps: float) -> Frame:
        """Draw on `frame`, uint8 (H, W, 3), in place; returns it."""
        lines = [f"{drawable(prediction)} {100 * prediction.confidence:.0f} %", f"{fps:.1f} fps"]
        height, width = frame.shape[:2]
        scale = max(0.3, min(height / 18, 64) / _LETTER_PX)
        thickness = max(1, round(scale * 2))
        widest = max(cv2.getTextSize(line, _FONT, scale, thickness)[0][0] for line in lines)
        if widest > 0.96 * width:
            scale *= 0.96 * width / widest
            thickness = max(1, round(scale * 2))
        step = round(_LETTER_PX * scale * 1.7)
        panel = frame[: min(height, step * len(lines) + step // 2)]
        np.copyto(panel, (panel * 0.35).astype(np.uint8))  # text stays readable on any picture
        for row, line in enumerate(lines):
            place = (round(0.02 * width), step * (row + 1))
            cv2.putText(frame, line, place, _FONT, scale, (255, 255, 255), thickness, cv2.LINE_AA)
        return frame


def drawable(prediction: Prediction) -> str:
    """The label where OpenCV's built-in font has its letters, else the number of the class, never question marks."""
    label = prediction.label
    return label if label.isascii() and label.isprintable() else f"class {prediction.top[0].index}"
