"""What the presets of an evaluation spend: which attacks run, with how many steps and questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_tl.adversarial.attacks.apgd import APGD
from edge_tl.adversarial.attacks.base import Attack
from edge_tl.adversarial.attacks.black_box import Noise, SquareAttack
from edge_tl.adversarial.attacks.deepfool import DeepFool
from edge_tl.adversarial.attacks.pgd import FGSM, PGD


@dataclass(frozen=True)
class AttackPreset:
    """What a preset spends. photos: 0 for all. gradient, black_box: attacks by the name that the report gives them.

    borrowed: those of the gradient attacks that are also run with the FP32 file's gradients. smallest: of how many photos
    the smallest perturbation is looked for too; each takes as long as dozens of steps of PGD.
    """

    photos: int
    gradient: Mapping[str, Attack]
    black_box: Mapping[str, Attack]
    borrowed: tuple[str, ...]
    smallest: int = 0


PRESETS: Mapping[str, AttackPreset] = {
    "quick": AttackPreset(
        100,
        {"fgsm": FGSM(), "pgd": PGD(steps=10, loss="margin")},
        {"square": SquareAttack(queries=100)},
        ("pgd",),
    ),
    "standard": AttackPreset(
        200,
        {
            "fgsm": FGSM(),
            "pgd": PGD(steps=20),
            "apgd-ce": APGD(steps=30),
            "apgd-dlr": APGD(steps=30, loss="dlr"),
        },
        {"square": SquareAttack(queries=500)},
        ("pgd", "apgd-dlr"),
        smallest=64,
    ),
    "full": AttackPreset(
        1000,
        {
            "fgsm": FGSM(),
            "pgd": PGD(steps=50, restarts=3),
            "pgd-margin": PGD(steps=50, restarts=3, loss="margin"),
            "apgd-ce": APGD(steps=100, restarts=2),
            "apgd-dlr": APGD(steps=100, restarts=2, loss="dlr"),
        },
        {"square": SquareAttack(queries=5000)},
        ("pgd", "pgd-margin", "apgd-ce", "apgd-dlr"),
        smallest=1000,
    ),
}
QUICK = (
    "quick attacks are for a first look: PGD with 10 steps and Square with 100 queries; --preset standard adds APGD with two "
    "losses, --preset full more steps and restarts, and both may fool more photos"
)
CONTROL: Mapping[str, Attack] = {"noise": Noise()}
SMALLEST = DeepFool(norm="l2")
