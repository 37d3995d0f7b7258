"""What cameras look like as JSON."""

from __future__ import annotations

from typing import TypedDict


class CameraDocument(TypedDict):
    """A camera.

    name: what its driver calls it.
    by_id: the name that stays when it is plugged in elsewhere; empty where there is none.
    readable: whether this user may read it.
    """

    path: str
    name: str
    by_id: str
    readable: bool


class PiCameraDocument(TypedDict):
    """A camera module of a Raspberry Pi.

    source: what run --source calls it.
    model: of its sensor.
    size: of its pictures.
    """

    source: str
    model: str
    size: str
