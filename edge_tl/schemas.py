"""JSON Schemas of the documents that edge-tl writes, made of the classes that describe them.

python -m edge_tl.schemas                  the names
python -m edge_tl.schemas predict          one schema
python -m edge_tl.schemas --to FOLDER      all of them, each in a file
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, is_typeddict

import click
import msgspec

from edge_tl.adversarial.documents import DreamsDocument, RobustnessDocument
from edge_tl.audit.documents import CheckDocument
from edge_tl.report.documents import AttackComparedDocument, BenchComparedDocument, RunComparedDocument
from edge_tl.training.documents import (
    DiagnoseDocument,
    MetricsLine,
    ResumeDocument,
    RunSettingsDocument,
    TrainDocument,
)
from edge_tl_export.documents import ExportDocument
from edge_tl_runtime.bench.documents import BenchDocument
from edge_tl_runtime.bench.pack.documents import PackDocument, PackSummaryDocument
from edge_tl_runtime.core.files import write_text
from edge_tl_runtime.inference.documents import PredictLine
from edge_tl_runtime.machine.documents import BrokenLibrariesDocument, DoctorDocument, ProfileDocument, TuneDocument
from edge_tl_runtime.modelfile.documents import ContractDocument, InspectDocument
from edge_tl_runtime.pipeline.documents import RunLine
from edge_tl_runtime.robustness.documents import EvaluateDocument
from edge_tl_runtime.run.documents import StatusDocument
from edge_tl_runtime.scene.documents import DriftState

DOCUMENTS: dict[str, type] = {
    "bench": BenchDocument,
    "check": CheckDocument,
    "contract": ContractDocument,
    "diagnose": DiagnoseDocument,
    "doctor": DoctorDocument,
    "doctor-broken": BrokenLibrariesDocument,
    "dream": DreamsDocument,
    "drift": DriftState,
    "evaluate": EvaluateDocument,
    "export": ExportDocument,
    "inspect": InspectDocument,
    "metrics": MetricsLine,
    "pack": PackDocument,
    "pack-summary": PackSummaryDocument,
    "predict": PredictLine,
    "profile": ProfileDocument,
    "report-attack": AttackComparedDocument,
    "report-bench": BenchComparedDocument,
    "report-run": RunComparedDocument,
    "resume": ResumeDocument,
    "robustness": RobustnessDocument,
    "run": RunLine,
    "settings": RunSettingsDocument,
    "status": StatusDocument,
    "train": TrainDocument,
    "tune": TuneDocument,
}
"""By the name of the schema. The version of a document is its key `format` where it has one."""


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a document of DOCUMENTS; it refers to nothing outside itself."""
    made: dict[str, Any] = msgspec.json.schema(DOCUMENTS[name])
    parts = {place: _told(part) for place, part in made.pop("$defs", {}).items()}
    root = parts.pop(made["$ref"].rpartition("/")[2])
    first = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:edge-tl:schema:{name}"}
    return {**first, **root, **({"$defs": parts} if parts else {})}


_ABOUT_A_KEY = re.compile(r"^(\w+(?:, \w+)*): (.*(?:\n +.*)*)$", re.MULTILINE)


def _told(part: dict[str, Any]) -> dict[str, Any]:
    """The schema of a class, its keys in the order of the class, with descriptions from docstrings: the first paragraph is about
    the object, lines `key: text` are about keys, also those of the classes it extends."""
    kind = _classes()[part["title"]]
    properties = {key: part["properties"][key] for key in kind.__annotations__}
    properties = {key: _without_pattern_of_enum(value) for key, value in properties.items()}
    for each in reversed(list(_with_bases(kind))):
        for keys, about in _ABOUT_A_KEY.findall(inspect.getdoc(each) or ""):
            for key in keys.split(", "):
                properties[key] = {**properties[key], "description": _sentence(about)}
    about = _sentence((inspect.getdoc(kind) or "").partition("\n\n")[0])
    required = [key for key in properties if key in part["required"]]
    return {**part, "description": about, "properties": properties, "required": required}


def _without_pattern_of_enum(value: dict[str, Any]) -> dict[str, Any]:
    """`one_of` gives both: the pattern is what msgspec checks, the list is what a person reads."""
    return {key: inner for key, inner in value.items() if key != "pattern" or "enum" not in value}


def _classes() -> dict[str, type]:
    """Those that describe documents, by name."""
    modules = [module for name, module in sys.modules.items() if name.endswith(".documents")]
    return {kind.__name__: kind for module in modules for kind in vars(module).values() if is_typeddict(kind)}


def _with_bases(kind: type) -> Iterator[type]:
    """A class and those that it extends, which a TypedDict does not remember before Python 3.12."""
    yield kind
    (defined,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(defined, ast.ClassDef)
    for base in defined.bases:
        if isinstance(base, ast.Name) and base.id != "TypedDict":
            yield from _with_bases(vars(sys.modules[kind.__module__])[base.id])


def _sentence(text: str) -> str:
    words = " ".join(text.split())
    return words[:1].upper() + words[1:]


@click.command()
@click.argument("name", required=False, type=click.Choice(sorted(DOCUMENTS)))
@click.option("--to", type=click.Path(path_type=Path, file_okay=False), help="Write every schema into this folder.")
def main(name: str | None, to: Path | None) -> None:
    """Print the JSON Schema of a document, or write all of them."""
    if to is not None:
        to.mkdir(parents=True, exist_ok=True)
        for each in DOCUMENTS:
            write_text(to / f"{each}.schema.json", text_of(each))
    click.echo(text_of(name) if name else "\n".join(sorted(DOCUMENTS)), nl=not name)


def text_of(name: str) -> str:
    return json.dumps(schema(name), ensure_ascii=False, indent=2) + "\n"


if __name__ == "__main__":
    main()
