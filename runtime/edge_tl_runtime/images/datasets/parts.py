"""Names that people give to the parts of a data set: what trains, what validates, what tests."""

from __future__ import annotations

import re

PARTS = ("train", "val", "test")
_WORDS = {
    "train": ("train", "training", "trn", "learn", "learning"),
    "val": ("val", "vali", "valid", "validate", "validation", "dev", "devel", "development"),
    "test": ("test", "testing", "tst", "eval", "evaluate", "evaluation", "holdout"),
}
_PART_OF = {word: part for part, words in _WORDS.items() for word in words}
_FILLERS = frozenset({
    "set", "sets", "data", "dataset", "split", "part", "seg", "image", "images", "img", "imgs", "photo", "photos", "picture",
    "pictures", "pics", "jpg", "x",
})  # fmt: skip
_GLUED = re.compile(r"^(?P<word>[a-z]+?)(?:sets?|data|images|imgs|photos|folder|split)$")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+|[^\W\d_a-zA-Z]+")
FOLD = re.compile(r"^(?:k?fold|cv|split|partition)s?[ _.-]*\d+$", re.IGNORECASE)
"""A fold of a cross-validation."""


def part_of(name: str) -> str | None:
    """ "train", "val" or "test" where that is what the name says, in any case and with what people add to it; None otherwise.

    >>> [part_of(name) for name in ("Training", "val_images", "seg_test", "test1", "trainSet", "trainer", "bus")]
    ['train', 'val', 'test', 'test', 'train', None, None]
    """
    if name.lower().replace("-", "_") in ("hold_out", "held_out"):
        return "test"
    words = [word.lower() for word in _WORD.findall(name)]
    meaningful = [word for word in words if word not in _FILLERS and not word.isdigit()]
    if len(meaningful) != 1:
        return None
    word = meaningful[0]
    if word in _PART_OF:
        return _PART_OF[word]
    glued = _GLUED.match(word)
    return _PART_OF.get(glued["word"]) if glued else None
