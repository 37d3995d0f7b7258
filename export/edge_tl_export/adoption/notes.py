"""What adoption tells a person, sorted by what kind of knowledge it is."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Notes:
    """recognised: found in the file. changed: what differs from the original. measured: found by running it.

    unknown: what nobody has said or measured, and how to find out. Lines of text each.
    """

    recognised: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Every line with its kind in front, in this order."""
        kinds = (
            ("recognised", self.recognised),
            ("changed", self.changed),
            ("measured", self.measured),
            ("not known", self.unknown),
        )
        return [f"{kind}: {text}" for kind, texts in kinds for text in texts]
