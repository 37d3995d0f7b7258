"""What looks at each frame before the model does: whether anything moves, and whether the camera sees what it saw."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from edge_tl_runtime.core.errors import BadFrame
from edge_tl_runtime.core.progress import Say, silent
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.scene.condition import CameraWatch
from edge_tl_runtime.scene.motion import MotionGate
from edge_tl_runtime.sources.base import Counts, FrameRecord

if TYPE_CHECKING:
    from edge_tl_runtime.scene.documents import ConditionDocument, MotionDocument, ViewDocument


class SceneWatch:
    """The gate of a run's stream. motion: None to classify every frame. camera: None where its condition is not watched. live:
    whether frames come at the camera's pace. say: told when the condition changes."""

    def __init__(
        self, motion: MotionGate | None, camera: CameraWatch | None = None, *, live: bool, say: Say = silent
    ) -> None:
        self.motion, self.camera, self._live, self._say = motion, camera, live, say
        self._still = 0
        self._now = 0.0

    @property
    def rest_s(self) -> float:
        return self.motion.rest_s if self.motion is not None else 0.0

    def admit(self, record: FrameRecord, view: Callable[[FrameRecord], Frame]) -> FrameRecord | None:
        """As `Gate.admit`. What is no frame is admitted: the stream counts it."""
        now = self._now = record.captured if self._live else record.seconds
        try:
            if self.camera is not None:
                record = self._looked(record, self.camera, now)
            if self.motion is None:
                return record
            wanted = self.motion.wants(view(record), now)
        except BadFrame:
            return record
        if not wanted:
            return None
        still, self._still = self.motion.still - self._still, self.motion.still
        return replace(record, still=still) if still else record

    def _looked(self, record: FrameRecord, camera: CameraWatch, now: float) -> FrameRecord:
        condition = camera.look(record.frame, now)
        while camera.notes:
            self._say(camera.notes.pop(0))
        return replace(record, camera=condition.value.lower()) if condition.wrong else record

    def watch_for(self, watched: Callable[[], bool]) -> None:
        """watched: whether a person looks at the pictures, who is to see some while nothing moves."""
        if self.motion is not None:
            self.motion.watched = watched

    def view(self) -> ViewDocument | None:
        """What was learned of the camera's view."""
        reference = self.camera.reference if self.camera is not None else None
        return reference.to_dict() if reference is not None else None

    def camera_document(self) -> ConditionDocument | None:
        return self.camera.document() if self.camera is not None else None

    def motion_document(self, counts: Counts) -> MotionDocument | None:
        motion = self.motion
        if motion is None:
            return None
        now = time.monotonic() if self._live else self._now
        return {
            "moving": motion.moving,
            "moved_s": None if motion.moved_at is None else round(max(0.0, now - motion.moved_at), 2),
            "every_s": motion.every_s,
            "looked": motion.looked,
            "still": motion.still + counts.unneeded,
        }
