"""The stopwatch of the tests: it forgives what a busy machine takes, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import stopwatch
from stopwatch import PRESSURE, Stopwatch

BUSY = "while True: pass"


def test_quiet_time_and_waiting_add_up_to_the_clock():
    watch = Stopwatch()
    time.sleep(0.2)
    assert watch.passed() >= 0.2
    assert 0 <= watch.waited() <= watch.passed()
    assert 0 <= watch.quiet() <= watch.passed()


@pytest.mark.skipif(not PRESSURE.exists(), reason="this system counts no waiting for cores")
def test_time_in_which_others_want_the_cores_is_forgiven():
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        time.sleep(0.5)  # they start
        watch = Stopwatch()
        while watch.passed() < 1.5:
            pass
        assert watch.waited() > 0.5
        assert watch.quiet() < 1.0
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_without_figures_of_the_system_the_load_decides(monkeypatch):
    monkeypatch.setattr(stopwatch, "_waited", lambda: None)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.3, 0.3, 0.3))
    watch = Stopwatch()
    time.sleep(0.1)
    assert watch.waited() == 0
    monkeypatch.setattr(os, "getloadavg", lambda: (8.0, 8.0, 8.0))
    assert watch.quiet() == pytest.approx(watch.passed() / 4, abs=0.02)


def test_what_hangs_is_not_forgiven(monkeypatch):
    watch = Stopwatch()
    watch._started -= 2 * stopwatch.HANGING
    with pytest.raises(AssertionError, match="hangs"):
        watch.quiet()
