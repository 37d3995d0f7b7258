"""What makes a classifier say something: its favourite pictures and the pictures that mislead it."""

from __future__ import annotations

from edge_tl_runtime.core.lazy import lazy_names

_PLACES = {
    "APGD": "edge_tl.adversarial.attacks.apgd",
    "ATTACKS": "edge_tl.adversarial.attacks.registry",
    "FGSM": "edge_tl.adversarial.attacks.pgd",
    "LOSSES": "edge_tl.adversarial.attacks.losses",
    "NORMS": "edge_tl.adversarial.attacks.norms",
    "PGD": "edge_tl.adversarial.attacks.pgd",
    "Attack": "edge_tl.adversarial.attacks.base",
    "Criterion": "edge_tl.adversarial.attacks.criteria",
    "DeepFool": "edge_tl.adversarial.attacks.deepfool",
    "Misclassification": "edge_tl.adversarial.attacks.criteria",
    "AttackedModel": "edge_tl.adversarial.attacks.model",
    "Noise": "edge_tl.adversarial.attacks.black_box",
    "AttackOutcome": "edge_tl.adversarial.attacks.base",
    "SquareAttack": "edge_tl.adversarial.attacks.black_box",
    "TargetedAPGD": "edge_tl.adversarial.attacks.apgd",
    "TargetedMisclassification": "edge_tl.adversarial.attacks.criteria",
}
"""Public names and their modules, imported when asked for: settings and reports live here too, and they need no torch."""

__all__ = list(_PLACES)


__getattr__ = lazy_names(__name__, _PLACES)
