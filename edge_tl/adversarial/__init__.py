"""What makes a classifier say something: its favourite pictures and the pictures that mislead it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "APGD": "attacks.apgd",
    "ATTACKS": "attacks.registry",
    "FGSM": "attacks.pgd",
    "LOSSES": "attacks.losses",
    "NORMS": "attacks.norms",
    "PGD": "attacks.pgd",
    "Attack": "attacks.base",
    "Criterion": "attacks.criteria",
    "DeepFool": "attacks.deepfool",
    "Misclassification": "attacks.criteria",
    "AttackedModel": "attacks.model",
    "Noise": "attacks.black_box",
    "AttackOutcome": "attacks.base",
    "SquareAttack": "attacks.black_box",
    "TargetedAPGD": "attacks.apgd",
    "TargetedMisclassification": "attacks.criteria",
}
"""Public names and their modules, imported when asked for: settings and reports live here too, and they need no torch."""

__all__ = list(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
