"""The attacks there are, by name. A new one is a class of its own, with its paper, and an entry here (or in a package's entry
point)."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from edge_tl.adversarial.attacks.apgd import APGD, TargetedAPGD
from edge_tl.adversarial.attacks.base import Attack
from edge_tl.adversarial.attacks.black_box import Noise, SquareAttack
from edge_tl.adversarial.attacks.deepfool import DeepFool
from edge_tl.adversarial.attacks.pgd import FGSM, PGD
from edge_tl_runtime.core import plugins
from edge_tl_runtime.core.errors import UsageError

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


def added_attack(name: str) -> plugins.LoadedPlugin[Attack]:
    """The attack that a package adds. Raises UsageError with names that come near, or with what is wrong with the package."""
    found = plugins.load("attacks", name, checked_attack)
    if found is None:
        there = [*ATTACKS, *plugins.names("attacks", ATTACKS)]
        near = get_close_matches(name, there, 3) or there
        raise UsageError(f"--attacks: no attack is called {name!r}; there are {', '.join(near)}")
    return found


def checked_attack(part: object) -> Attack:
    """An Attack, or what its class gives without arguments. Raises TypeError for anything else."""
    return plugins.instance(plugins.made(part), Attack)  # type: ignore[type-abstract]
