"""What the model sees, shown in a picture: what is outside is dimmed, what is inside has a thin border."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from edge_tl_runtime.images.crop import three_channels
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.images.geometry import Box
from edge_tl_runtime.pipeline.decision import Decision
from edge_tl_runtime.pipeline.stream import Result, SeenRegion
from edge_tl_runtime.sinks.draw.overlay import Overlay, answer_line

DIMMED = 0.4
"""What is left of the light of what the model does not see."""
_ROWS_A_PIXEL = 360
_LINE, _EDGE = (255, 255, 255), (0, 0, 0)


def dim_outside(frame: Frame, boxes: Sequence[Box]) -> Frame:
    """Dim what is in none of the boxes and draw a border around each, in place on uint8 (H, W, 3); returns it.

    A picture of which everything is seen stays as it is.
    """
    rows, columns = frame.shape[:2]
    if not boxes or any((box.width, box.height) == (columns, rows) for box in boxes):
        return frame
    if len(boxes) == 1:
        (box,) = boxes
        below, right = box.y + box.height, box.x + box.width
        inside = frame[box.y : below]
        for strip in (frame[: box.y], frame[below:], inside[:, : box.x], inside[:, right:]):
            if strip.size:
                np.copyto(strip, _dimmed(strip))
    else:
        whole = _dimmed(frame)
        for box in boxes:
            np.copyto(box.of(whole), box.of(frame))
        np.copyto(frame, whole)
    width = max(1, round(min(rows, columns) / _ROWS_A_PIXEL))
    for box in boxes:
        for grown, colour in ((width, _EDGE), (0, _LINE)):  # a dark line beside the light one: seen on any picture
            first = box.x - grown, box.y - grown
            last = box.x + box.width - 1 + grown, box.y + box.height - 1 + grown
            cv2.rectangle(frame, first, last, colour, width)
    return frame


def _dimmed(part: Frame) -> Frame:
    return np.asarray(cv2.convertScaleAbs(np.ascontiguousarray(part), alpha=DIMMED), np.uint8)


def draw_answers(
    overlay: Overlay, frame: Frame, decision: Decision, seen: Sequence[SeenRegion], status: str, dims: bool
) -> Frame:
    """The view, and each region's label: over the picture where there is one region, at the top of each box where there are more.

    frame: uint8 (H, W, 3), turned as the boxes are; drawn on in place and returned. status: a second, smaller line.
    """
    if dims:
        dim_outside(frame, [region.box for region in seen])
    if len(seen) < 2:
        return overlay.draw(frame, answer_line(decision), decision.index, decision.confidence, status)
    for place, region in enumerate(seen):
        shown = region.decision
        name = f"{region.name}: {answer_line(shown)}"
        overlay.draw(region.box.of(frame), name, shown.index, shown.confidence, "" if place else status)
    return frame


def picture_of(result: Result) -> Frame:
    """The frame of a result as it is drawn on: three channels, turned. Its own pixels where it is neither grey nor turned."""
    return three_channels(result.picture())
