"""`edge-tl bench MODEL [PACK]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edge_tl.cli.console import say, silent, table
from edge_tl.cli.options import option_of, options
from edge_tl_runtime.bench.settings import BenchSettings
from edge_tl_runtime.evaluation.settings import EvaluateSettings
from edge_tl_runtime.inference.settings import OpenSettings


@click.command(short_help="Measure speed, accuracy and robustness of a model file on this machine.")
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.argument("pack", type=click.Path(path_type=Path), required=False)
@click.option("--data", type=click.Path(path_type=Path), help="Labelled photos instead of a pack.")
@option_of(EvaluateSettings, "split", "Part of --data.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="File for the result.  [default: bench-MODEL.json]"
)
@options(BenchSettings)
@options(OpenSettings)
@click.option(
    "--sign",
    type=click.Path(path_type=Path),
    metavar="KEY",
    help="Sign the result with this Ed25519 private key (PEM).",
)
@click.option(
    "--verify", type=click.Path(path_type=Path), metavar="RESULT", help="Check a result instead of measuring."
)
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    metavar="PUBLIC",
    help="For --verify: public key that the signature must fit.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    model: Path | None,
    pack: Path | None,
    output: Path | None,
    verify: Path | None,
    key: Path | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Measure MODEL on this machine: latency, throughput and memory; with a PACK (or --data) accuracy and robustness too.

    The result is one JSON file with checksums of the model, the pack and itself. Close other programs first. After an
    interruption, even a power cut, give the same command again: it goes on.
    """
    if verify is not None:
        _verify(verify, key)
        return
    if key is not None:
        raise click.UsageError("--key is for --verify; to sign a result give --sign KEY")
    if model is None:
        raise click.UsageError("Missing argument 'MODEL'.")
    if pack is not None and values["data"] is not None:
        raise click.UsageError("give a PACK or --data, not both")
    from edge_tl.api.benching import bench
    from edge_tl.api.reporter import Reporter

    result = bench(model, pack, output, progress=Reporter(_progress, say), **values)
    if as_json:
        click.echo(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    _print(result.document)
    click.echo(f"wrote {result.path}")


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal that is drawn when a piece is done, between two calls that are timed.

    A bar that a thread draws, as that of other commands, would take the processor from the model meanwhile.
    """
    if not sys.stderr.isatty():
        with silent(what, total) as done:
            yield done
        return
    with click.progressbar(length=total, label=what, file=sys.stderr, show_eta=False) as bar:
        yield bar.update


def _verify(path: Path, key: Path | None) -> None:
    from edge_tl_runtime.bench.result import read_result

    document = read_result(path)
    if key is not None:
        from edge_tl_runtime.bench.signature import check_signature, public_key

        check_signature(document, public_key(key))
    signature = document.get("signature")
    whose = (
        ""
        if signature is None
        else f", signed by {signature['public_key']}" + ("" if key else ", unchecked: give --key")
    )
    click.echo(
        f"{path} is as it was written: {document['model']['name']}, {document['ended']}, {document['sha256']}{whose}"
    )


def _print(document: dict[str, Any]) -> None:
    from edge_tl_runtime.bench.summary import lines, tables

    for item in tables(document):
        table(item.title, item.columns, item.rows)
    for line in lines(document):
        click.echo(line.text)
