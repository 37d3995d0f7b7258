"""When a connection is given up and tried again. The clock is a number, so nothing here waits."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.sources import Patience, State
from edge_tl_runtime.sources.capture.watchdog import Verdict, Watchdog

PATIENCE = Patience(first_frame=15, stale=2, lost=10, frozen=5, backoff=1, backoff_max=30, steady=10)


def connected(at: float = 0.0) -> Watchdog:
    dog = Watchdog(PATIENCE, random.Random(0))
    dog.connecting(at)
    return dog


def test_it_begins_by_connecting_at_once():
    dog = Watchdog(PATIENCE)
    assert dog.verdict(0.0) is Verdict.START
    dog.connecting(0.0)
    assert dog.state(0.0) is State.CONNECTING
    assert dog.verdict(14.9) is Verdict.WAIT


def test_the_first_frame_may_take_longer_than_the_others():
    dog = connected()
    assert dog.verdict(15.1) is Verdict.END
    dog.frame(14.0)
    assert dog.verdict(23.9) is Verdict.WAIT
    assert dog.verdict(24.1) is Verdict.END


def test_silence_is_told_before_it_is_acted_on():
    dog = connected()
    dog.frame(1.0)
    assert dog.state(2.9) is State.LIVE
    assert dog.state(3.1) is State.STALE
    assert dog.verdict(3.1) is Verdict.WAIT
    dog.frame(4.0)
    assert dog.state(4.1) is State.LIVE


def test_one_frame_for_ever_is_a_frozen_camera():
    dog = connected()
    dog.frame(1.0)
    for tenth in range(10, 300):
        now = tenth / 10
        dog.read(now)
        assert dog.repeating(now) or now == 1.0
        assert dog.state(now) is (State.STALE if now > 6 else State.LIVE)
        if now > 16:
            assert dog.verdict(now) is Verdict.END
            return
        assert dog.verdict(now) is Verdict.WAIT


def test_waits_double_to_a_ceiling_and_leave_half_to_chance():
    dog = Watchdog(PATIENCE, random.Random(1))
    waits = []
    now = 0.0
    for _ in range(200):
        dog.connecting(now)
        waits.append(dog.gone(now))
        assert dog.verdict(now + waits[-1] - 1e-6) is Verdict.WAIT
        assert dog.verdict(now + waits[-1]) is Verdict.START
        now += waits[-1]
    for number, wait in enumerate(waits):
        longest = min(30.0, 2.0**number)
        assert longest / 2 <= wait <= longest
    assert len({round(wait, 6) for wait in waits[10:]}) > 100


def test_the_wait_is_short_again_after_steady_frames_and_only_then():
    dog = connected()
    for now in (0.0, 1.0, 2.0, 3.0):
        dog.connecting(now)
        dog.frame(now)  # a stream that dies after its first frame
        last = dog.gone(now)
    assert last > 4
    dog.connecting(10.0)
    dog.frame(10.0)
    dog.frame(20.0)
    assert dog.gone(20.0) <= 1.0


@given(st.lists(st.tuples(st.sampled_from(["frame", "read", "gone", "connect"]), st.floats(0, 100)), max_size=50))
def test_no_order_of_events_wedges_it(events):
    dog = Watchdog(PATIENCE, random.Random(0))
    now = 0.0
    is_connected = False
    for event, wait in events:
        now += wait
        if event == "connect" and not is_connected:
            dog.connecting(now)
            is_connected = True
        elif event == "gone" and is_connected:
            dog.gone(now)
            is_connected = False
        elif is_connected and event == "frame":
            dog.frame(now)
        elif is_connected and event == "read":
            dog.read(now)
    # Left alone it always comes to a verdict: it connects when it is not, and ends what is silent.
    assert dog.verdict(now + 1000) is (Verdict.END if is_connected else Verdict.START)


@pytest.mark.parametrize("wrong", [{"lost": 0}, {"backoff": -1}, {"frozen": -0.1}, {"first_frame": float("nan")}])
def test_patience_must_make_sense(wrong):
    with pytest.raises(UsageError):
        Patience(**wrong)
