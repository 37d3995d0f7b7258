"""What is drawn on a frame stays readable at any size and never invents a label."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import THAI

from edge_tl_runtime.classifier import Prediction, Score
from edge_tl_runtime.overlay import Overlay, drawable


def prediction(label: str) -> Prediction:
    return Prediction((Score(label, 0.934, 7),), 2.0)


@pytest.mark.parametrize("size", [(1, 1), (120, 160), (480, 640), (640, 360), (2160, 3840)])
@pytest.mark.parametrize("label", ["bee", "a label that is much longer than a small frame is wide"])
def test_text_is_drawn_in_a_panel_above_the_picture(size, label):
    frame = np.full((*size, 3), 100, np.uint8)
    drawn = Overlay().draw(frame, prediction(label), 29.9)
    assert drawn is frame
    if min(size) > 100:
        assert drawn.max() > 200
        bright = np.argwhere(drawn.max(2) > 200)
        assert bright[:, 0].max() < 0.3 * size[0]
        assert bright[:, 1].max() < size[1] - 1
        assert (drawn[-1] == 100).all()


def test_a_script_the_font_lacks_is_shown_by_number():
    assert drawable(prediction("bee")) == "bee"
    assert drawable(prediction(THAI)) == "class 7"
