"""The documents of an evaluation and of dreams: their names and formats. Imports nothing heavy."""

from __future__ import annotations

from typing import Any, Final

from edge_tl_runtime.core.formats import renamed

DOCUMENT = "robustness.json"
FORMAT: Final = 2
FORMATS = (1, 2)
"""Of robustness.json, that this release reads; it writes the last."""
DREAMS_DOCUMENT = "dream.json"
DREAMS_FORMAT: Final = 2
DREAMS_FORMATS = (1, 2)

Document = dict[str, Any]
"""What an attack finds looks like as JSON."""

COUNTERPART = "fp32_counterpart"
"""The role of the FP32 file that a quantized one was made from; the other role is "model"."""
EARLIER_KEYS = {
    "twin": COUNTERPART,
    "only_twin": f"only_{COUNTERPART}",
    "subjects": "models_under_test",
    "subject": "role",
    "judged_by": "fooled",
}
"""Keys of format 1 to those of format 2; so in the state of an attack that was interrupted."""
EARLIER_VALUES = {("subject", "twin"): COUNTERPART, ("gradients", "twin"): "fp32-counterpart"}


def in_words_of_now(document: Any) -> Any:
    """What an earlier release wrote, of any form, in the keys of this one; its `format` stays."""
    return renamed(document, EARLIER_KEYS, EARLIER_VALUES)
