"""What the benchmarks found, as one figure each: `record` hands a figure over, `table` shows all of them.

A benchmark calls `record` for its headline comparisons. Under `benchmarks/all.py` they become rows of one table, where wins and
losses stand alike; a script that runs alone prints what it always prints. To record, the standard library is enough:
other projects' interpreters do it too.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TypedDict

TARGET = "EDGE_TL_RATIOS"
"""The environment variable that names the file which figures are added to."""

BEGIN, END = "<!-- ratios: begin -->", "<!-- ratios: end -->"
"""The lines of a Markdown file that the table stands between."""


@dataclass(frozen=True)
class Kind:
    """A kind of figure. neutral: neither side is ahead. chance: how far from it a figure without an interval is still even."""

    heading: str
    spread: str
    neutral: float
    chance: float
    form: str


KINDS = {
    "ratio": Kind("ratio", "quartiles", 1.0, 0.02, ".3f"),
    "points": Kind("points", "interval", 0.0, 0.05, "+.1f"),
    "count": Kind("count", "interval", 0.0, 0.0, "g"),
}
"""ratio: one over the other. points: percentage points, one less the other. count: how often what must not happen did."""

BETTER = ("lower", "higher", "")
"""Which way is ahead; "": neither, the figure is a cost that is stated and not judged."""


@dataclass(frozen=True)
class Ratio:
    """A figure of `what` against a peer or a bare limit. low, high: quartiles, or the interval that the note names; None without.

    goal: as `bounds` reads it. script: the file that measured it. Raises ValueError on what the table could not say.
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

    def __post_init__(self) -> None:
        texts = (self.what, self.against, self.goal, self.better, self.note, self.script, self.kind)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a name, goal or note that is no text")
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
) -> None:
    """Add a figure to the file that EDGE_TL_RATIOS names, flushed at once; without the variable it is only checked.

    low, high: quartiles, or another interval that `note` names. Raises ValueError as `Ratio` does.
    """
    low, high = (None if bound is None else float(bound) for bound in (low, high))
    row = Ratio(what, against, float(ratio), low, high, goal, better, note, Path(sys.argv[0]).name, kind)
    if name := os.environ.get(TARGET):
        with open(name, "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")


class Spread(TypedDict):
    """A figure and the interval around it, as `record` takes them."""

    ratio: float
    low: float
    high: float


def quartiles(values: Collection[float]) -> Spread:
    """Of at least one paired ratio, for `record(what, against, **quartiles(found))`."""
    low, ratio, high = statistics.quantiles([*values, *values] if len(values) == 1 else values, n=4, method="inclusive")
    return {"ratio": ratio, "low": low, "high": high}


def paired(first: Sequence[float], second: Sequence[float]) -> Spread:
    """Quartiles of the first over the second, pair by pair."""
    return quartiles([a / b for a, b in zip(first, second, strict=True)])


def paired_points(first: Sequence[bool], second: Sequence[bool]) -> Spread:
    """How many points more of the same photos are right in the first, and the 95 % interval (Bonett and Price 2012)."""
    # Here, so that an interpreter without the project's packages can record.
    from edge_tl_runtime.statistics import paired_interval

    pairs = list(zip(first, second, strict=True))
    gained, lost = (sum(bool(a) and not b for a, b in pairs), sum(bool(b) and not a for a, b in pairs))
    low, high = paired_interval(gained, lost, len(pairs))
    return {"ratio": 100 * (gained - lost) / len(pairs), "low": 100 * low, "high": 100 * high}


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
    """Markdown, a table for each kind of figure, rows in the order they were recorded."""
    rows = list(ratios)
    tables = []
    for name, kind in KINDS.items():
        of_kind = [row for row in rows if row.kind == name]
        if of_kind:
            head = ("what", "against", kind.heading, kind.spread, "goal or better", "verdict", "script", "note")
            lines = [_row(head), "|---" * len(head) + "|"]
            tables.append("\n".join([*lines, *(_row(_cells(row, kind)) for row in of_kind)]) + "\n")
    return "\n".join(tables)


def _cells(row: Ratio, kind: Kind) -> tuple[str, ...]:
    figure = f"{row.ratio:{kind.form}}"
    between = "" if row.low is None else f"{row.low:{kind.form}} to {row.high:{kind.form}}"
    verdict = f"**{row.verdict}**" if row.verdict in ("missed", "loss") else row.verdict
    return row.what, row.against, figure, between, row.goal or row.better, verdict, row.script, row.note


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", r"\|").split()) for cell in cells) + " |"


def put_between(text: str, block: str) -> str:
    """`text` with `block` in place of what stands between its BEGIN and END. Raises ValueError unless each is there once."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"it must hold {BEGIN} and, after it, {END}, each once")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{block.strip()}\n{END}{rest.partition(END)[2]}"
