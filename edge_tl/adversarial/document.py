"""The documents of an evaluation and of dreams: their names and formats. Imports nothing heavy."""

from __future__ import annotations

from typing import Any, Final

DOCUMENT = "robustness.json"
FORMAT: Final = 1
DREAMS_DOCUMENT = "dream.json"
DREAMS_FORMAT = 1

Document = dict[str, Any]
