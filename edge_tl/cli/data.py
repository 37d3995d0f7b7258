"""`edge-tl data check DIR` and `edge-tl data get NAME`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge_tl.audit.settings import CheckSettings
from edge_tl.cli.console import percent, progress, say, silent, table
from edge_tl.cli.options import options


@click.group(short_help="Check a folder of photos before training; fetch a data set.")
def command() -> None:
    """Check photos before training, or fetch a data set."""


@command.command(short_help="Find leaks, duplicates, doubtful labels and bad files.")
@click.argument("data")
@options(CheckSettings)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def check(data: str, as_json: bool, **values: Any) -> None:
    """Check DATA (a folder, a list or the name of a data set, as for `edge-tl train`) and write a page
    with a contact sheet of each class and thumbnails of the findings."""
    from edge_tl.api.checking import check as check_photos
    from edge_tl.api.reporter import Reporter
    from edge_tl_runtime.images.datasets.survey import count_reasons
    from edge_tl_runtime.images.datasets.tally import say_adjusted, say_counts

    report = Reporter(silent if as_json else progress, say)
    checked = check_photos(data, progress=report, **values)
    found, page = checked.findings, checked.page
    if as_json:
        click.echo(json.dumps(found.to_dict(), ensure_ascii=False))
        return
    rows = [
        [
            "the same photo in more than one part",
            str(len(found.leaks)),
            _first([g.photos[-1].name for g in found.leaks]),
        ],
        [
            "the same photo under two labels",
            str(len(found.contradictions)),
            _first([g.photos[-1].name for g in found.contradictions]),
        ],
        ["labels to look at", str(len(found.suspects)), _first([s.photo.name for s in found.suspects])],
        ["photos repeated at all", str(len(found.repeated)), _first([g.photos[-1].name for g in found.repeated])],
        ["tiny or odd photos", str(len(found.odd)), _first([f"{o.photo.name}: {o.why[0]}" for o in found.odd])],
        [
            "files passed over",
            str(len(found.unreadable)),
            _first([reason for reason, _ in count_reasons(found.unreadable)]),
        ],
    ]
    table("", ["finding", "number", "the first"], rows)
    adjusted = {note: [photo.name for photo in photos] for note, photos in found.adjusted.items()}
    for line in (*say_counts(found.used, found.unreadable, root=found.base), *say_adjusted(adjusted)):
        click.echo(line)
    if found.held_out is not None:
        click.echo(f"a linear probe gets {percent(found.held_out)} of held-out photos right")
    click.echo(f"largest class over smallest: {found.imbalance:.1f} ({found.extremes[0]}, {found.extremes[1]})")
    click.echo(f"page: {page}")


@command.command(short_help="Fetch a data set by name.")
@click.argument("name")
@click.option(
    "-o", "--output", "parent", type=click.Path(path_type=Path), help="Folder to put it in.  [default: the cache]"
)
def get(name: str, parent: Path | None) -> None:
    """Fetch the data set NAME: oxford-pets, cats-dogs, hymenoptera or surfaces."""
    from edge_tl.data.cache import cache_folder
    from edge_tl.data.named import NAMES
    from edge_tl.data.named import get as fetch
    from edge_tl_runtime.core.errors import UsageError

    if name not in NAMES:
        raise UsageError(f"no data set called {name!r}; there are {', '.join(NAMES)}")
    click.echo(f"{name}: {fetch(name, parent or cache_folder('data'), progress, say)}")


def _first(names: list[str]) -> str:
    return names[0] if names else ""
