"""What the benchmarks found, one figure each: `record` writes a figure down, `table` shows them.

Under `benchmarks/all.py` the figures of a script become rows of its table, wins and losses alike; a script that runs alone prints
what it always prints. Only the standard library is needed, so other projects' interpreters can record too.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

TARGET = "EDGE_TL_RATIOS"
"""The environment variable that names the file which figures are added to."""

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
"""The lines of a page that the sections of the scripts stand between."""

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Kind:
    """A kind of figure. neutral: neither side is ahead. chance: how far from it a figure without an interval is still even."""

    neutral: float
    chance: float
    form: str
    unit: str = ""


KINDS = {
    "ratio": Kind(1.0, 0.02, ".3f"),
    "points": Kind(0.0, 0.05, "+.1f", " points"),
    "count": Kind(0.0, 0.0, "g"),
}
"""ratio: one over the other. points: percentage points, one less the other. count: how often what must not happen did."""

BETTER = ("lower", "higher", "")
"""Which way is ahead; "": neither, the figure is a cost that is stated without a verdict."""


@dataclass(frozen=True)
class Ratio:
    """A figure of `what` against a peer or a bare limit. low, high: quartiles, or the interval that the note names; None without.

    goal: as `bounds` reads it. script: the file that measured it. headline: whether the page shows it, or the document of the
    run alone. Raises ValueError on what the table could not say.
    """

    what: str
    against: str
    ratio: float
    low: float | None = None
    high: float | None = None
    goal: str = ""
    better: str = "lower"
    note: str = ""
    script: str = ""
    kind: str = "ratio"
    headline: bool = True

    def __post_init__(self) -> None:
        texts = (self.what, self.against, self.goal, self.better, self.note, self.script, self.kind)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a name, goal or note that is no text")
        if not isinstance(self.headline, bool):
            raise ValueError(f"headline is {self.headline!r}, neither true nor false")
        if not self.what or not self.against:
            raise ValueError("a figure of nothing, or against nothing")
        if self.kind not in KINDS or self.better not in BETTER:
            raise ValueError(f"no kind {self.kind!r}" if self.kind not in KINDS else f"no side {self.better!r}")
        found = [self.ratio, *(bound for bound in (self.low, self.high) if bound is not None)]
        if len(found) == 2:
            raise ValueError("half an interval")
        if any(isinstance(x, bool) or not isinstance(x, (int, float)) or not math.isfinite(x) for x in found):
            raise ValueError(f"no finite number among {found}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"an interval from {self.low} to {self.high}")
        if self.goal:
            bounds(self.goal)

    @property
    def verdict(self) -> str:
        """With a goal "met" or "missed", by the figure itself. Without one "win", "loss", or "even" where the interval holds
        the neutral value; "" where neither way is better."""
        if self.goal:
            return "met" if meets(self.ratio, self.goal) else "missed"
        if not self.better:
            return ""
        kind = KINDS[self.kind]
        low, high = self.ratio - kind.chance, self.ratio + kind.chance
        if self.low is not None and self.high is not None:
            low, high = self.low, self.high
        if low <= kind.neutral <= high:
            return "even"
        return "win" if (high < kind.neutral) == (self.better == "lower") else "loss"


def bounds(goal: str) -> tuple[Decimal | None, Decimal | None]:
    """The least and the largest figure that meet a goal: "<= 1.05", ">= 0.95" or "1.00 +- 0.03". Raises ValueError."""
    words = goal.split()
    try:
        if len(words) == 2 and words[0] in ("<=", ">="):
            bound = Decimal(words[1])
            return (None, bound) if words[0] == "<=" else (bound, None)
        if len(words) == 3 and words[1] == "+-":
            middle, half = Decimal(words[0]), Decimal(words[2])
            return middle - half, middle + half
    except InvalidOperation:
        pass
    raise ValueError(f"no goal: {goal!r}; one is written as <= 1.05, >= 0.95 or 1.00 +- 0.03")


def meets(figure: float, goal: str) -> bool:
    """Whether a figure lies within a goal; its borders meet it. Decimal, since 1.03 - 1.00 is more than 0.03 in binary."""
    low, high = bounds(goal)
    exact = Decimal(repr(float(figure)))
    return (low is None or exact >= low) and (high is None or exact <= high)


def record(
    what: str,
    against: str,
    ratio: float,
    *,
    low: float | None = None,
    high: float | None = None,
    goal: str = "",
    better: str = "lower",
    note: str = "",
    kind: str = "ratio",
    headline: bool = True,
) -> None:
    """Add a figure to the file that EDGE_TL_RATIOS names, flushed at once; without the variable it is only checked.

    low, high: quartiles, or another interval that `note` names. Raises ValueError as `Ratio` does.
    """
    low, high = (None if bound is None else float(bound) for bound in (low, high))
    row = Ratio(what, against, float(ratio), low, high, goal, better, note, _script(), kind, headline)
    if name := os.environ.get(TARGET):
        with open(name, "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")


def _script() -> str:
    """The script that runs, as `STEPS` names it."""
    path = Path(sys.argv[0]).resolve()
    return path.relative_to(HERE).as_posix() if path.is_relative_to(HERE) else path.name


def read(path: Path) -> tuple[list[Ratio], list[str]]:
    """The figures in a file of `record`, in order, and why lines were left out. Both empty where there is no such file."""
    found: list[Ratio] = []
    refused: list[str] = []
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(Ratio(**json.loads(line)))
        except (TypeError, ValueError) as error:
            refused.append(f"line {number} of the figures is left out: {error}")
    return found, refused


def counted(ratios: Sequence[Ratio]) -> str:
    """One line: how many figures won, lost, met and missed."""
    verdicts = [ratio.verdict for ratio in ratios]
    words = [f"{verdicts.count(word)} {word}" for word in ("met", "missed", "win", "loss", "even")]
    return f"{len(ratios)} figures; against goals: {', '.join(words[:2])}; against peers: {', '.join(words[2:])}"


def table(ratios: Iterable[Ratio]) -> str:
    """Markdown, a row for each figure in the order they were recorded; "" without any."""
    rows = list(ratios)
    if not rows:
        return ""
    head = ["what", "against", "figure", "goal or better", "verdict", "note"]
    width = len(head) - (not any(row.note for row in rows))
    lines = [_row(head[:width]), "|---" * width + "|", *(_row(_cells(row)[:width]) for row in rows)]
    return "\n".join(lines) + "\n"


def _cells(row: Ratio) -> tuple[str, ...]:
    kind = KINDS[row.kind]
    figure = f"{row.ratio:{kind.form}}{kind.unit}"
    if row.low is not None:
        figure += f" ({row.low:{kind.form}} to {row.high:{kind.form}})"
    verdict = f"**{row.verdict}**" if row.verdict in ("missed", "loss") else row.verdict
    return row.what, row.against, figure, row.goal or row.better, verdict, row.note


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", r"\|").split()) for cell in cells) + " |"


def put_section(page: str, title: str, section: str) -> str:
    """`page` with `section` in place of the one of this title between BEGIN and END, or after the last one there.

    section: begins with the line `### title`. Raises ValueError unless BEGIN and END are there once, in this order.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"it must hold {BEGIN} and, after it, {END}, each once")
    before, _, rest = page.partition(BEGIN)
    inside, _, after = rest.partition(END)
    found = {part.split("\n")[0].strip(): f"### {part.strip()}" for part in f"\n{inside}".split("\n### ")[1:]}
    found[title] = section.strip()
    return "\n\n".join([before + BEGIN, *found.values(), END + after])
