"""What makes a classifier say something: its favourite pictures and the pictures that mislead it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "APGD": "apgd",
    "ATTACKS": "attacks",
    "FGSM": "pgd",
    "LOSSES": "losses",
    "NORMS": "norms",
    "PGD": "pgd",
    "Attack": "attack",
    "Criterion": "criterion",
    "DeepFool": "deepfool",
    "Misclassification": "criterion",
    "Model": "model",
    "Noise": "black_box",
    "Result": "attack",
    "SquareAttack": "black_box",
    "TargetedAPGD": "apgd",
    "TargetedMisclassification": "criterion",
}
"""Public names and their modules, imported when asked for: settings and reports live here too, and they need no torch."""

__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
