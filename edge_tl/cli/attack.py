"""`edge-tl attack MODEL DATA -o FOLDER`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import click

from edge_tl.adversarial.settings import AttackSettings
from edge_tl.cli.console import progress, say, table
from edge_tl.cli.options import Sections, options


class AttackCommand(Sections):
    """What is written, what is tried, on which photos, how it runs."""

    sections: ClassVar = {
        "folder": "Results",
        "preset": "Attacks",
        "photos": "Photos",
        "queries": "How it runs",
    }


@click.command(cls=AttackCommand, short_help="Measure how robust a model file is to pictures made to fool it.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder for the report and the pictures.  [default: attack-MODEL]",
)
@options(AttackSettings)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(model: Path, data: Path, folder: Path | None, as_json: bool, **values: Any) -> None:
    """Attack MODEL, an ONNX file (INT8 too), on the labelled photos of DATA, with gradients and without.

    onnxruntime checks every success on whole pixel values; the picture is written as PNG, read back and checked again. If there
    is a sign that an attack failed, no robust accuracy is printed, and the sign is explained. After an interruption, give the
    same command again: it goes on.
    """
    from edge_tl.api.attacking import attack
    from edge_tl.api.reporter import Reporter

    count = values.pop("photos")
    result = attack(model, data, folder, count=count, progress=Reporter(progress, say), **values)
    document = result.document
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    _print(document)
    click.echo(f"wrote {result.page}, {len(document['examples'])} adversarial pictures beside it")


def _print(document: Mapping[str, Any]) -> None:
    radii = [f"{radius:g}" for radius in document["threat"]["epsilons"]]
    unit = document["threat"]["unit"]
    for role, under_test in document["models_under_test"].items():
        robust = [_share(under_test["worst"][radius]) for radius in radii]
        if role == "model":
            hidden = document["robust_accuracy_withheld"] or {}
            robust = ["withheld" if radius in hidden else text for radius, text in zip(radii, robust, strict=True)]
        rows = [["right under the worst attack", *robust]]
        for line in under_test["attacks"]:
            title = line["name"] + (f", {line['route']}" if line["route"] else "") + f" ({line['kind']})"
            rows.append([title, "", *(_share(line["success"][radius], ">=") for radius in radii[1:])])
        counts = f"{document['n']} photos, {under_test['attackable']} attacked"
        heading = f"{under_test['name']}, {counts}: % by epsilon ({unit}); below the first row, what each attack fools"
        table(heading, ["", *radii], rows)
    for check in document["sanity"]:
        verdict = "not known" if check["holds"] is None else "holds" if check["holds"] else "FAILS"
        click.echo(f"{verdict}: {check['name']}: {check['text']}")
    if document["faithfulness"]:
        click.echo(f"rebuild in PyTorch: {document['faithfulness']['text']}")
    for item in document["routes_absent"]:
        click.echo(f"no {item['route']}: {item['why']}")
    for row in document["survival"]:
        click.echo(f"still fooling after {row['name']}: {row['still']['count']} of {row['still']['n']}")
    for note in document["notes"]:
        click.echo(f"note: {note}")
    if document["quantization"]:
        click.echo(document["quantization"])
    for alarm in document["alarms"]:
        where = document["models_under_test"][alarm["role"]]["name"]
        click.echo(f"ALARM, {where}: {alarm['name']}: {alarm['text']}. {alarm['explanation']}")
    click.echo(document["headline"])


def _share(rate: dict[str, Any], bound: str = "<=") -> str:
    if rate["rate"] is None:
        return "n/a"
    sign = bound if rate.get("bound") else ""
    return f"{sign}{100 * rate['rate']:.1f}"
