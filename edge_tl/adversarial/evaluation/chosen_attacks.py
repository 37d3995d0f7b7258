"""Which attacks an evaluation runs: those of its preset, or those that a person named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from edge_tl.adversarial.attacks.base import Attack
from edge_tl.adversarial.attacks.black_box import SquareAttack
from edge_tl.adversarial.attacks.registry import ATTACKS, added_attack
from edge_tl.adversarial.evaluation.presets import CONTROL, PRESETS, AttackPreset
from edge_tl.adversarial.settings import AttackSettings
from edge_tl_runtime.core import plugins
from edge_tl_runtime.core.errors import UsageError

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class ChosenAttacks:
    """preset: what is run. added: the plugin of each attack that another package adds, by name."""

    preset: AttackPreset
    added: Mapping[str, plugins.Plugin] = field(default_factory=dict)

    def guarded(self, name: str, run: Callable[[], Answer]) -> Answer:
        """Run an attack. Whatever a plugin raises becomes a UsageError that names its package."""
        if name not in self.added:
            return run()
        advice = "leave it out of --attacks, or tell its author"
        return plugins.guarded(self.added[name], run, UsageError, "failed", advice)


def choose_attacks(settings: AttackSettings) -> ChosenAttacks:
    """Raises UsageError for a name that does not exist and for a package that cannot be used."""
    preset = PRESETS[settings.preset]
    chosen = _named(settings.attacks, preset) if settings.attacks.strip() else ChosenAttacks(preset)
    if not settings.queries:
        return chosen
    black_box = {
        name: replace(attack, queries=settings.queries) if isinstance(attack, SquareAttack) else attack
        for name, attack in chosen.preset.black_box.items()
    }
    return replace(chosen, preset=replace(chosen.preset, black_box=black_box))


def _named(text: str, preset: AttackPreset) -> ChosenAttacks:
    """An attack of the preset is run with the preset's steps; noise is run in any case, as the control."""
    usual = {**ATTACKS, **preset.gradient, **preset.black_box}
    attacks: dict[str, Attack] = {}
    added: dict[str, plugins.Plugin] = {}
    for name in filter(None, (part.strip() for part in text.split(","))):
        if name in usual:
            attacks[name] = usual[name]
        else:
            found = added_attack(name)
            attacks[name], added[name] = found.part, found.plugin
    tried = {name: attack for name, attack in attacks.items() if name not in CONTROL}
    if not tried:
        raise UsageError(
            f"--attacks {text!r} names no attack but the control, which is always run; add one such as pgd"
        )
    gradient = {name: attack for name, attack in tried.items() if attack.needs_gradients}
    black_box = {name: attack for name, attack in tried.items() if not attack.needs_gradients}
    borrowed = tuple(name for name, attack in gradient.items() if name != "fgsm" and not attack.finds_smallest)
    return ChosenAttacks(replace(preset, gradient=gradient, black_box=black_box, borrowed=borrowed), added)
