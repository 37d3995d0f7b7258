"""The page of a result, or of several beside each other, as one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_tl.api.settings import PathLike
from edge_tl.api.show import show_page
from edge_tl.api.train_extra import train_extra
from edge_tl_runtime.core.errors import UsageError

if TYPE_CHECKING:
    from edge_tl.report.bench.compare import BenchRow
    from edge_tl.report.robustness.compare import AttackRow
    from edge_tl.report.run.compare import RunRow

PAGE = Path("comparison.html")


@dataclass(frozen=True)
class ComparedResults:
    """Results of one kind, each but the first compared with the first. The others' rows are empty. page: shows them all."""

    page: Path
    runs: Sequence[RunRow] = field(default=(), repr=False)
    attacks: Sequence[AttackRow] = field(default=(), repr=False)
    benches: Sequence[BenchRow] = field(default=(), repr=False)

    def show(self) -> Path:
        """Show the page, in a notebook or in the browser."""
        return show_page(self.page)

    def to_list(self) -> list[dict[str, Any]]:
        """What `edge-tl report --json` prints, a row for each result."""
        rows: list[Any] = [*self.runs, *self.attacks, *self.benches]
        return [dict(row.to_dict()) for row in rows]


def compare(*results: PathLike, page: PathLike | None = None, dreams: PathLike | None = None) -> ComparedResults:
    """Write the page of a result, or of several of one kind; as `edge-tl report`.

    results: folders of `train` or `attack`, or files of `bench`; a folder of such files stands for all of them. page: the file
    for several results, or for one benchmark; None: comparison.html. dreams: a folder of `dream`, for the page of one attack.
    Raises UsageError, OutputError, MissingPackage.
    """
    from edge_tl.adversarial.document import DOCUMENT

    if not results:
        raise UsageError("compare takes results: folders of train or attack, or files of bench")
    paths, target = [Path(path) for path in results], None if page is None else Path(page)
    attacks = [path for path in paths if (path / DOCUMENT).is_file()]
    benches = [path for path in paths if path.suffix == ".json" or (path not in attacks and _is_fleet(path))]
    runs = [path for path in paths if path not in attacks and path not in benches]
    kinds = [(name, found[0]) for name, found in (("attack", attacks), ("bench", benches), ("train", runs)) if found]
    if len(kinds) > 1:
        (name, path), (_, other) = kinds[:2]
        raise UsageError(f"{path} is of `edge-tl {name}` and {other} is not; compare like with like")
    if dreams is not None and len(attacks) != 1:
        raise UsageError("--dreams belongs to the page of one attack; give one folder of `edge-tl attack`")
    with train_extra("a page"):
        if attacks:
            return _of_attacks(attacks, target or PAGE, None if dreams is None else Path(dreams))
        return _of_benches(benches, target) if benches else _of_runs(runs, target or PAGE)


def _is_fleet(path: Path) -> bool:
    """Whether a folder holds results of benchmarks and is no run."""
    if not path.is_dir() or (path / "settings.json").is_file():
        return False
    with train_extra("a page"):
        from edge_tl.report.bench.compare import is_result

    return any(map(is_result, path.glob("*.json")))


def _of_runs(folders: Sequence[Path], target: Path) -> ComparedResults:
    from edge_tl.report.run.compare import compare, write_comparison
    from edge_tl.report.run.page import write_page

    rows = compare(folders)
    page = write_page(folders[0]) if len(folders) == 1 else write_comparison(folders, rows, target)
    return ComparedResults(page, runs=rows)


def _of_attacks(folders: Sequence[Path], target: Path, dreams: Path | None) -> ComparedResults:
    from edge_tl.report.robustness.compare import compare_robustness, write_robustness_comparison
    from edge_tl.report.robustness.page import write_robustness_page

    rows = compare_robustness(folders)
    single = len(folders) == 1
    page = write_robustness_page(folders[0], dreams) if single else write_robustness_comparison(rows, target)
    return ComparedResults(page, attacks=rows)


def _of_benches(given: Sequence[Path], target: Path | None) -> ComparedResults:
    from edge_tl.report.bench.compare import compare_benches, results_in, write_bench_comparison
    from edge_tl.report.bench.page import write_bench_page

    paths = [found for path in given for found in (results_in(path) if path.is_dir() else [path])]
    rows = compare_benches(paths)
    if len(rows) == 1:
        return ComparedResults(write_bench_page(paths[0], target or paths[0].with_suffix(".html")), benches=rows)
    return ComparedResults(write_bench_comparison(rows, target or PAGE), benches=rows)
