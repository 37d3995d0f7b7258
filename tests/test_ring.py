"""The shared memory between capture and runner: newest frame, never a torn or an overwritten one."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.synchronize import Event

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_tl_runtime.sources.capture.ring import SLOTS, Ring, create_memory


def both_ends(frame_bytes: int = 300) -> tuple[Ring, Ring]:
    handle = create_memory(frame_bytes)
    writer, reader = Ring(os.dup(handle)), Ring(handle)
    writer.prepare()
    return writer, reader


def put(writer: Ring, value: int, shape: tuple[int, ...] = (4, 5, 3)) -> None:
    slot = writer.free_slot()
    writer.pixels(slot, shape)[:] = value
    writer.publish(slot, shape, value, float(value))


def test_the_reader_gets_the_newest_once():
    writer, reader = both_ends()
    assert reader.take(0) is None
    for value in (1, 2, 3):
        put(writer, value)
    taken = reader.take(0)
    assert (taken.index, taken.captured, taken.frame.shape, int(taken.frame[0, 0, 0])) == (3, 3.0, (4, 5, 3), 3)
    assert reader.take(taken.sequence) is None


def test_a_held_frame_is_never_written_to():
    writer, reader = both_ends()
    put(writer, 7)
    taken = reader.take(0)
    for value in range(100):
        put(writer, value)
        assert reader.intact(taken)
        assert (taken.frame == 7).all()


def test_frames_are_read_only_for_the_reader():
    writer, reader = both_ends()
    put(writer, 1)
    assert not reader.take(0).frame.flags.writeable


def test_a_slot_that_was_taken_for_writing_is_not_intact():
    """What the sequence number is for: a reader that says too late what it holds."""
    writer, reader = both_ends()
    put(writer, 1)
    taken = reader.take(0)
    reader._words[1] = -1  # lets go of it
    put(writer, 2)
    for _ in range(SLOTS):
        put(writer, 3)
    assert not reader.intact(taken)


@given(st.lists(st.tuples(st.sampled_from("wr"), st.integers(1, 6), st.integers(1, 6)), max_size=60))
def test_whatever_the_order_a_frame_is_whole_and_newer_than_the_last(actions):
    writer, reader = both_ends(6 * 6)
    after, written, held = 0, 0, None
    for action, height, width in actions:
        if action == "w":
            written += 1
            put(writer, written, (height, width))
        else:
            taken = reader.take(after)
            assert (taken is None) == (written == 0 or (held is not None and held.index == written))
            if taken is not None:
                after, held = taken.sequence, taken
                assert taken.index == written
        if held is not None:
            assert (held.frame == held.index).all()
            assert reader.intact(held)


def _write_until(handle: int, enough: Event) -> None:
    writer, number = Ring(handle), 0
    while not enough.is_set():
        number += 1
        slot = writer.free_slot()
        writer.pixels(slot, (64, 64, 3))[:] = number % 251
        writer.publish(slot, (64, 64, 3), number, time.monotonic())


def test_two_processes_at_full_speed_never_tear_a_frame():
    handle = create_memory(64 * 64 * 3)
    reader = Ring(os.dup(handle))
    reader.prepare()
    context = multiprocessing.get_context("fork")
    enough = context.Event()
    process = context.Process(target=_write_until, args=(handle, enough), daemon=True)
    process.start()
    after, frames, last = 0, 0, 0
    while frames < 400:
        assert process.is_alive()
        taken = reader.take(after)
        if taken is None:
            continue
        first = np.array(taken.frame)
        again = np.array(taken.frame)
        assert reader.intact(taken)
        assert (first == taken.index % 251).all()
        assert (again == first).all()
        assert taken.index > last
        after, last, frames = taken.sequence, taken.index, frames + 1
    enough.set()
    process.join()
    os.close(handle)
