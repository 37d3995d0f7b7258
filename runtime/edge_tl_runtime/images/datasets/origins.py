"""What the name of a photo says of where it comes from: frames of one video, copies of one photo, a burst.

Photos of one origin look alike. Where some of them train and others validate, the figure flatters: the model has
seen nearly the same photo.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_COPY = re.compile(
    r"(?P<origin>.*\d.*?)(?:\s*\(\d{1,3}\)|[ _-]+copy(?:[ _-]?\d+)?|[ _-]+kopie(?:[ _-]?\d+)?|~\d+"
    r"|[ _-]+(?:edited|aug(?:mented)?|flip(?:ped)?|rot(?:ated)?|crop(?:ped)?)[ _-]?\d*)$",
    re.IGNORECASE,
)
_EXPORTED = re.compile(r"^(?P<origin>.+?)\.rf\.[0-9a-f]{8,}$")
"""Augmented copies, as an annotation service writes them: `IMG_0012_jpg.rf.<digest>.jpg`."""
_BURST = re.compile(r"^(?P<origin>.*\d.*?)[ _-]*BURST\d+(?:_COVER)?$")
_BURST_TIME = re.compile(r"^.*BURST(?P<origin>\d{14})\d*(?:_COVER)?$")
_FRAME = re.compile(
    r"^(?P<origin>.*\d.*?)(?:[ _.-]+(?:frame|frm|fr|f|img|image|photo|shot)?|(?:frame|frm))[ _.-]*(?P<number>\d{1,6})$",
    re.IGNORECASE,
)
_TIME = re.compile(
    r"^(?P<minute>.*\d{4}[-_.]?\d{2}[-_.]?\d{2}[-_ T.]+(?:at )?\d{2}[-_.]?\d{2})[-_.]?\d{2}(?:\d{3}|[-_.]\d+)?$"
)
_COUNTER = re.compile(r"^(?:frame|frm|img|image|photo|shot)?[ _.-]*\d{1,6}$", re.IGNORECASE)
_SERIES = re.compile(
    r"^(?:video|vid|clip|seq|sequence|scene|burst|session|track|take|cam|camera|movie|mov|series|episode|visit|patient|subject|"
    r"person|object|obj)[ _.-]?\w*\d",
    re.IGNORECASE,
)


def origin(name: str) -> str:
    """What photos of one origin have in common; the name itself where it says nothing. name: the path below the class folder.

    >>> [origin(name) for name in ("video3_frame_0012.jpg", "IMG_0012 (1).jpg", "scene-04-0003.png", "IMG_0012.jpg")]
    ['video3', 'IMG_0012', 'scene-04', 'IMG_0012']
    >>> [origin(name) for name in ("cat.17.jpg", "ants01.jpg", "cat (3).jpg", "clip 2/0001.jpg")]
    ['cat.17', 'ants01', 'cat (3)', 'clip 2']
    """
    folders, _, file = name.rpartition("/")
    stem = file.rpartition(".")[0] or file
    series = next((part for part in reversed(folders.split("/")) if _SERIES.match(part)), "")
    if series and _COUNTER.match(stem):
        return folders
    for _ in range(3):  # a copy of a copy of a frame
        time = _TIME.match(stem)
        if time:  # what a camera calls a photo; within one minute they are a burst
            stem = time["minute"]
            break
        shorter = _shorter(stem)
        if shorter == stem:
            break
        stem = shorter
    return f"{folders}/{stem}" if series else stem


def _shorter(stem: str) -> str:
    for pattern in (_EXPORTED, _BURST_TIME, _BURST, _COPY):
        found = pattern.match(stem)
        if found:
            return found["origin"].rstrip(" _.-")
    frame = _FRAME.match(stem)
    return frame["origin"].rstrip(" _.-") if frame else stem


def origins(names: Sequence[str], targets: Sequence[int], labels: Sequence[str]) -> list[str]:
    """The origin of each photo, its own name where the name says nothing. names: paths below the class folders.

    What is only the class again says nothing (`type1/type1_0001.jpg`), and nor does any name if every class has but one origin
    (`n02099601_1234.jpg`).
    """
    plain = [_letters(label) for label in labels]
    found = [origin(name) for name in names]
    found = [
        name if _letters(key) == plain[target] else key for key, name, target in zip(found, names, targets, strict=True)
    ]
    classes: dict[int, set[str]] = {}
    for key, target in zip(found, targets, strict=True):
        classes.setdefault(target, set()).add(key)
    if len(set(found)) < len(found) and all(len(keys) == 1 for keys in classes.values()):
        return list(names)
    return found


def _letters(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())
