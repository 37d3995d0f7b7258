"""Label, confidence and the state of the stream drawn on a frame."""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.inference.label_sets import in_words
from edge_tl_runtime.pipeline.decision import Decision
from edge_tl_runtime.sinks.draw import text_layout
from edge_tl_runtime.sinks.draw.text_layout import TextMask

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_CAPITAL = 0.71  # height of a capital in ems
_FONT_CAPITAL_PX = 22.0  # the same of OpenCV's font at scale 1

_ROWS_AN_EM = 12.5  # a frame's height in ems of the label
_LABEL_EM = (12, 90)  # pixels, least and most
_STATUS_EM = 0.58  # of the label's
_LEAST_EM = 8  # pixels; nothing is readable below
_WIDTH_USED = 0.96  # of the frame's
_SHADE = 0.35  # what is left of the picture's light behind text
_STATUS_INK = 0.8
_GAP = 0.55  # ems between label and number, wider than a space: a label may end in a number too
_LONGEST = 120  # letters of a label; a longer one is cut


class Overlay:
    """Draws any script that HarfBuzz and a font of this machine can; else a label is replaced by its class number.

    obstacle: why labels of these cannot be drawn and what to do, in one line, or "".
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.obstacle = text_layout.obstacle(labels)

    def draw(self, frame: Frame, label: str, index: int, confidence: float, status: str) -> Frame:
        """Draw in place on `frame`, uint8 (H, W, 3), BGR, any H, W >= 1; returns it.

        index: the class, -1 for none. confidence: in [0, 1]. status: a second, smaller line; left out where it has no room.
        """
        height, width = frame.shape[:2]
        left = max(1, round(0.02 * width))
        # Set apart, so that the number stands to the right of a label that is read from right to left too.
        name, percent = drawable(label, index), f"{100 * confidence:.0f} %"
        em = round(min(max(height / _ROWS_AN_EM, _LABEL_EM[0]), _LABEL_EM[1]))
        # For the widest number, so that the size does not tremble with the confidence.
        number = _GAP + _advance("100 %")
        label_em = _fit(em, _advance(name) + number, width)
        name = _cut(name, _WIDTH_USED * width / label_em - number)
        status = text_layout.cleaned(status)
        status = status if _is_drawable(status) else _ascii(status)
        status_em = _fit(max(round(_STATUS_EM * em), _LEAST_EM), _advance(status), width)
        shown = status and 3 * em < height and _advance(status) * status_em < width
        baselines = _baselines(label_em, status_em if shown else 0)
        panel = frame[: min(height, baselines[-1])]
        shaded = np.asarray(cv2.convertScaleAbs(np.ascontiguousarray(panel), alpha=_SHADE), np.uint8)
        pen = left + _paint(shaded, name, label_em, 1.0, left, baselines[0])
        _paint(shaded, percent, label_em, 1.0, round(pen + _GAP * label_em), baselines[0])
        if shown:
            _paint(shaded, status, status_em, _STATUS_INK, left, baselines[1])
        np.copyto(panel, shaded)
        return frame


def answer_line(decision: Decision) -> str:
    """The label, or those of its set, each as `drawable`."""
    if decision.label_set is None or len(decision.label_set) == 1:
        return decision.label
    return in_words([drawable(score.label, score.index) for score in decision.label_set])


def drawable(label: str, index: int) -> str:
    """The label as far as it fits in a line, or, where not all its letters can be drawn, the number of the class."""
    label = text_layout.cleaned(label)
    if len(label) > _LONGEST:
        label = label[: _LONGEST - 3] + "..."
    if label and _is_drawable(label):
        return label
    return f"class {index}" if index >= 0 else "unknown"


def _is_drawable(text: str) -> bool:
    return text_layout.advance(text) is not None or (text.isascii() and text.isprintable())


def _ascii(text: str) -> str:
    """What OpenCV's font has of it, never question marks."""
    return "".join(letter for letter in text.replace("·", "-") if letter.isascii() and letter.isprintable())


def _fit(em: int, ems: float, width: int) -> int:
    """The size, in pixels an em, in which a text of that many ems keeps to the width used; not below the readable."""
    return max(min(em, math.floor(_WIDTH_USED * width / max(ems, 1e-6))), min(em, _LEAST_EM))


@functools.lru_cache(maxsize=64)
def _cut(text: str, ems: float) -> str:
    """The text, or as much of its beginning as has room with dots after it; with room for nothing, all of it."""
    if _advance(text) <= ems + 1e-6:
        return text
    beginnings = range(len(text))
    kept = bisect.bisect_right(beginnings, ems, key=lambda kept: _advance(text[:kept] + "...")) - 1
    return text[:kept] + "..." if kept > 0 else text


def _baselines(label_em: int, status_em: int) -> list[int]:
    """Rows of the label's baseline, of the status's (when it has a size), and the panel's end.

    The marks above Thai letters reach 1.1 em up, those below 0.4 em down.
    """
    rows = [round(1.2 * label_em)]
    if status_em:
        rows.append(rows[0] + round(0.4 * label_em + 1.0 * status_em))
    return [*rows, rows[-1] + round(0.45 * (status_em or label_em))]


def _paint(panel: NDArray[np.uint8], text: str, em: int, strength: float, pen: int, baseline: int) -> float:
    """White ink on the panel, uint8 (H, W, 3), cut at its edges. Returns the pixels that the pen moves."""
    ink, line = _ink(text, em, strength)
    top, left = baseline - line.ascent, pen + line.left
    rows = slice(max(top, 0), min(top + ink.shape[0], panel.shape[0]))
    columns = slice(max(left, 0), min(left + ink.shape[1], panel.shape[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        part = ink[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        under = panel[rows, columns]
        np.copyto(under, cv2.add(under, cv2.multiply(cv2.bitwise_not(under), part, scale=1 / 255)))
    return line.advance


@functools.lru_cache(maxsize=64)
def _ink(text: str, em: int, strength: float) -> tuple[NDArray[np.uint8], TextMask]:
    """The mask as uint8 (H, W, 3), which OpenCV multiplies with a picture at once."""
    line = text_layout.text_mask(text, em) or _opencv_mask(text, em)
    mask = (line.mask * strength).astype(np.uint8)
    return np.repeat(mask[..., None], 3, axis=2), line


def _advance(text: str) -> float:
    """Width in ems."""
    ems = text_layout.advance(text)
    return _opencv_mask(text, 100).advance / 100 if ems is None else ems


@functools.lru_cache(maxsize=64)
def _opencv_mask(text: str, em: int) -> TextMask:
    """A line in OpenCV's own font, which has ASCII only."""
    scale = _CAPITAL * em / _FONT_CAPITAL_PX
    thickness = max(1, round(scale * 2))
    (width, ascent), below = cv2.getTextSize(text, _FONT, scale, thickness)
    margin = thickness + 1
    mask = np.zeros((ascent + below + 2 * margin, width + 2 * margin), np.uint8)
    cv2.putText(mask, text, (margin, ascent + margin), _FONT, scale, (255,), thickness, cv2.LINE_AA)
    return TextMask(mask, -margin, ascent + margin, float(width))
