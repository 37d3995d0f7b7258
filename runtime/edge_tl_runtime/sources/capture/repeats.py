"""What tells a quiet scene from a frozen camera, where one frame repeats another.

The pixels of a sensor have noise, so two raw frames, or two JPEGs, that agree byte for byte are one frame given twice. A stream
that is coded as differences (H.264, H.265, VP9...) is another thing: of a quiet scene the encoder sends "nothing changed", and
the decoded frames agree (6 in 10 at CRF 30). There the key frames tell: they are coded from the sensor's picture alone, with
its new noise. Two key frames in a row that agree, with stillness between them, come of an input that is frozen. Where key frames
are far apart, time tells: of photos with sensor noise, x264 at CRF 30 to 35 repeated itself for 7 s at the longest.
"""

from __future__ import annotations

import hashlib

import numpy as np

from edge_tl_runtime.images.decode import Frame

MAX_PRINTS = 4096
"""Frames of a group that are remembered by a few bytes each."""


class Repeats:
    """Told of every frame in turn. inter_coded: see above; else what agrees byte for byte is a repeat. still_s: seconds after
    which it is a repeat there too."""

    def __init__(self, inter_coded: bool = False, still_s: float = 20.0) -> None:
        self._inter_coded, self._still_s = inter_coded, still_s
        self._changed_at = 0.0
        self._sample: Frame | None = None
        self._key = b""
        self._frames = self._same = 0
        """Since the last key frame: all, and those that agree with the one before."""
        self._prints: set[int] = set()
        self._known: set[int] = set()
        self._frozen = False

    def repeats(self, frame: Frame, before: Frame | None, key: bool = False, now: float = 0.0) -> bool:
        """Whether `frame` is no news. before: the last one given, to compare with. key: coded by itself. now: seconds."""
        sample = frame[::31, ::37].copy()
        # The sparse sample tells almost always; only where that agrees is all compared.
        same = (
            self._sample is not None
            and before is not None
            and np.array_equal(sample, self._sample)
            and np.array_equal(frame, before)
        )
        self._sample = sample
        if not same:
            self._changed_at = now
        if same and now - self._changed_at > self._still_s:
            return True
        return self._of_group(frame, hash(sample.tobytes()), same, key) if self._inter_coded else same

    def _of_group(self, frame: Frame, print_: int, same: bool, key: bool) -> bool:
        if key:
            digest = hashlib.blake2b(np.ascontiguousarray(frame).data, digest_size=16).digest()
            still = 2 * self._same >= self._frames
            self._frozen = digest == self._key and still
            self._key, self._known, self._prints = digest, self._prints, set()
            self._frames = self._same = 0
        else:
            self._frames += 1
            self._same += same
        if len(self._prints) < MAX_PRINTS:
            self._prints.add(print_)
        # Something that moves again shows in a frame that the last group did not hold.
        return self._frozen and print_ in self._known
