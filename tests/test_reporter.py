"""How far a long work is, told where no bar can be drawn."""

from __future__ import annotations

import pytest

from edge_tl.api.reporter import EVERY_S, LinesOfProgress
from edge_tl_runtime.core.text import duration


def test_a_log_hears_now_and_then_how_far_a_stage_is():
    lines: list[str] = []
    now = 100.0
    done = LinesOfProgress("INT8 pgd", 400, lines.append, lambda: now)
    for _ in range(200):
        now += 1.0
        done(1)
    assert len(lines) == 200 // EVERY_S
    assert lines[0] == "INT8 pgd: 30 of 400, about 6 min left"
    assert lines[-1] == "INT8 pgd: 180 of 400, about 4 min left"


def test_what_is_done_soon_says_nothing():
    lines: list[str] = []
    now = 0.0
    done = LinesOfProgress("reading", 10, lines.append, lambda: now)
    for _ in range(10):
        now += EVERY_S / 11
        done(1)
    now += EVERY_S
    done(0)
    assert lines == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (40, "40 s"),
        (89, "89 s"),
        (90, "2 min"),
        (720, "12 min"),
        (12000, "3 h 20 min"),
        (5400, "1 h 30 min"),
    ],
)
def test_time_in_words(seconds, words):
    assert duration(seconds) == words
