"""The attacks there are, by name. A new one is a class of its own, with its paper, and an entry here."""

from __future__ import annotations

from collections.abc import Mapping

from edge_tl.adversarial.attacks.apgd import APGD, TargetedAPGD
from edge_tl.adversarial.attacks.base import Attack
from edge_tl.adversarial.attacks.black_box import Noise, SquareAttack
from edge_tl.adversarial.attacks.deepfool import DeepFool
from edge_tl.adversarial.attacks.pgd import FGSM, PGD

ATTACKS: Mapping[str, Attack] = {
    "fgsm": FGSM(),
    "pgd": PGD(),
    "pgd-margin": PGD(loss="margin"),
    "apgd-ce": APGD(),
    "apgd-dlr": APGD(loss="dlr"),
    "apgd-t": TargetedAPGD(),
    "deepfool": DeepFool(norm="l2"),
    "square": SquareAttack(),
    "noise": Noise(),
}
