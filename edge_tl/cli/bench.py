"""`edge-tl bench MODEL [PACK]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_tl.cli.console import say, silent, table
from edge_tl.cli.options import option_of, options
from edge_tl.cli.session import open_classifier, session_options
from edge_tl_runtime.bench.settings import BenchSettings
from edge_tl_runtime.core.settings import assembled
from edge_tl_runtime.evaluation.settings import EvaluateSettings

if TYPE_CHECKING:
    from edge_tl_runtime.bench.benchmark import BenchmarkModel


@click.command(short_help="How fast, how good and how robust a model file is on this machine.")
@click.argument("model", type=click.Path(path_type=Path), required=False)
@click.argument("pack", type=click.Path(path_type=Path), required=False)
@click.option("--data", type=click.Path(path_type=Path), help="Labelled photos instead of a pack.")
@option_of(EvaluateSettings, "split", "Part of --data.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File for the result; bench-MODEL.json.")
@options(BenchSettings)
@session_options
@click.option("--sign", type=click.Path(path_type=Path), metavar="KEY", help="Sign the result: Ed25519, PEM.")
@click.option(
    "--verify", type=click.Path(path_type=Path), metavar="RESULT", help="Check a result; nothing is measured."
)
@click.option(
    "--key", type=click.Path(path_type=Path), metavar="PUBLIC", help="For --verify: whose signature it must be."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    model: Path | None,
    pack: Path | None,
    data: Path | None,
    split: str,
    output: Path | None,
    threads: int | None,
    provider: str | None,
    profile: bool,
    sign: Path | None,
    verify: Path | None,
    key: Path | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Measure MODEL on this machine: latency, throughput, memory, and with a PACK (or --data) accuracy and robustness.

    The result is one JSON file with digests of the model, the pack and itself. Close other programs first. Interrupted, even by
    a power cut, the same command goes on.
    """
    if verify is not None:
        _verify(verify, key)
        return
    if key is not None:
        raise click.UsageError("--key is for --verify; to sign a result give --sign KEY")
    if model is None:
        raise click.UsageError("Missing argument 'MODEL'.")
    if pack is not None and data is not None:
        raise click.UsageError("give a PACK or --data, not both")
    from edge_tl_runtime.bench.benchmark import run_benchmark
    from edge_tl_runtime.bench.result import write_result

    settings = assembled(BenchSettings, values)
    signing = _signing(sign)
    subject = _subject(model, pack, data, split, settings.shortened().photos, (threads, provider, profile))
    output = output or Path(f"bench-{model.stem}.json")
    document, ledger = run_benchmark(subject, output, settings, _progress, say)
    document = signing(document)
    write_result(output, document)
    if document["complete"]:
        ledger.discard()
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    _print(document)
    click.echo(f"wrote {output}")


def _subject(
    model: Path, pack: Path | None, data: Path | None, split: str, photos: int, session: tuple[Any, ...]
) -> BenchmarkModel:
    from edge_tl_runtime.bench.benchmark import BenchmarkModel
    from edge_tl_runtime.evaluation.evaluate import photos_to_evaluate
    from edge_tl_runtime.evaluation.training_overlap import unseen

    classifier = open_classifier(model, *session)
    given = overlap = None
    if data is not None:
        spec = classifier.spec
        found = photos_to_evaluate(spec, data, split)
        say(found.describe())
        given, overlap = unseen(found, spec, split, lambda rest: rest.spread(photos))
        for line in filter(None, (overlap.left_out_line(), *overlap.lines())):
            say(line)
    opened = None
    if pack is not None:
        from edge_tl_runtime.bench.pack.pack import Pack

        opened = Pack.open(pack)
        # A result names the pack by its digest, so all of it must be what was packed, also what this run does not use.
        opened.archive.verify()
    return BenchmarkModel(model=model, classifier=classifier, pack=opened, photos=given, overlap=overlap)


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


def _signing(key: Path | None) -> Any:
    """What puts the signature on a document; a key that cannot be used is known before anything is measured."""
    if key is None:
        return lambda document: document
    from functools import partial

    from edge_tl_runtime.bench.signature import private_key, signed

    return partial(signed, key=private_key(key))


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
