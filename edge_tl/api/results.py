"""What an attack, a check of photos and a benchmark give back: figures, the document, the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_tl.api.show import show_page
from edge_tl_runtime.core.html import html_table
from edge_tl_runtime.core.text import percent

if TYPE_CHECKING:
    from edge_tl.audit.check import Findings


@dataclass(frozen=True)
class AttackResult:
    """folder: with the document, the page and the adversarial pictures. document: what `edge-tl attack --json` prints."""

    folder: Path
    page: Path
    document: dict[str, Any] = field(repr=False)

    @property
    def clean_accuracy(self) -> float:
        """On the same photos, unchanged."""
        return float(self.document["clean_accuracy"]["rate"])

    @property
    def robust_accuracy(self) -> dict[float, float] | None:
        """By epsilon (/255 for linf): the part that no attack fooled. None where a sign of hidden gradients was found, which
        makes the figure worthless: `alarms` says which."""
        rates = self.document["robust_accuracy"]
        return None if rates is None else {float(radius): float(rate["rate"]) for radius, rate in rates.items()}

    @property
    def withheld(self) -> bool:
        return bool(self.document["withheld"])

    @property
    def alarms(self) -> tuple[str, ...]:
        """Each in a sentence."""
        return tuple(f"{alarm['name']}: {alarm['text']}. {alarm['explanation']}" for alarm in self.document["alarms"])

    @property
    def headline(self) -> str:
        return str(self.document["headline"])

    def show(self) -> Path:
        """Show the page, in a notebook or in the browser."""
        return show_page(self.page)

    def to_dict(self) -> dict[str, Any]:
        return self.document

    def __str__(self) -> str:
        return self.headline

    def _repr_html_(self) -> str:
        rates = {} if self.robust_accuracy is None else self.robust_accuracy
        title = " ".join([self.headline, *self.alarms, f"page: {self.page}"])
        return html_table(title, ["epsilon", "accuracy"], [(f"{e:g}", percent(rate)) for e, rate in rates.items()])


@dataclass(frozen=True)
class DataCheck:
    """What was found in a folder of photos. findings: all of it. page: with thumbnails."""

    findings: Findings = field(repr=False)
    page: Path

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind were found, worst kind first."""
        found = self.findings
        return {
            "the same photo in more than one part": len(found.leaks),
            "the same photo under two labels": len(found.contradictions),
            "labels to look at": len(found.suspects),
            "photos repeated at all": len(found.repeated),
            "tiny or odd pictures": len(found.odd),
            "files passed over": len(found.unreadable),
        }

    def show(self) -> Path:
        """Show the page, in a notebook or in the browser."""
        return show_page(self.page)

    def to_dict(self) -> dict[str, Any]:
        """What `edge-tl data check --json` prints."""
        return dict(self.findings.to_dict())

    def _repr_html_(self) -> str:
        return html_table(f"{self.findings.layout}; page: {self.page}", ["finding", "number"], self.counts.items())
