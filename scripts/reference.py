"""Writes docs/reference: every command from click itself, the Python API from the source.

    python scripts/reference.py            # writes both pages
    python scripts/reference.py --check    # exit code 1 when one of them is not what would be written

Nothing of the API is imported: names are looked up in the syntax tree and shown as they are written, so that the pages are the
same on every release of Python, and no training library is loaded.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
PLACES = {"edge_tl": ROOT, "edge_tl_export": ROOT / "export", "edge_tl_runtime": ROOT / "runtime"}
"""Where each package lies."""

API = (
    (
        "Classifying",
        "On the device: numpy, onnxruntime and OpenCV are enough.",
        """
        edge_tl_runtime.inference.classifier Classifier SessionSettings Prediction Score open_session
        edge_tl_runtime.images.preprocess crop_resize preprocess_batch RESAMPLES Resample
        edge_tl_runtime.images.decode read_photo decode_photo
        """,
    ),
    (
        "The contract",
        "What a model file says of itself; [contract.md](../contract.md) is the same for other languages.",
        """
        edge_tl_runtime.modelfile.spec ModelSpec ResizeRule Normalization Scores Accuracy SelfTest spread
        edge_tl_runtime.modelfile.onnx read_spec read_model parse_spec sealed
        """,
    ),
    (
        "The frame loop",
        "Sources give frames, a stream classifies them, sinks take results; the runner joins them.",
        """
        edge_tl_runtime.pipeline.stream Stream Result
        edge_tl_runtime.sources
        edge_tl_runtime.pipeline.decision Decider Decision
        edge_tl_runtime.pipeline.smoothing SMOOTHERS
        edge_tl_runtime.sinks
        edge_tl_runtime.run.runner Runner
        edge_tl_runtime.run.assemble Plan assemble
        """,
    ),
    (
        "Judging",
        "Accuracy of anything that turns pixels into logits.",
        """
        edge_tl_runtime.evaluation.evaluate evaluate evaluate_model photos_to_judge score Evaluation ClassResult
        edge_tl_runtime.evaluation.training_overlap unseen TrainingOverlap
        edge_tl_runtime.robustness.corrupted_accuracy corrupted_accuracy CorruptedAccuracy
        edge_tl_runtime.robustness.corruptions
        """,
    ),
    (
        "Training",
        "Needs the extra `[train]`, as everything below down to the packs does.",
        """
        edge_tl.training.train train resume
        edge_tl.training.settings TrainSettings FinetuneSettings
        edge_tl.models
        """,
    ),
    (
        "Exporting",
        "From PyTorch, or from somebody else's ONNX file.",
        """
        edge_tl_export
        edge_tl_export.adoption.adopt adopt Adopted Choices Original read_original write_adopted
        edge_tl_export.torch_graph.module DifferentiableGraph
        """,
    ),
    (
        "Attacking",
        "An attack is a value with one method, `run`.",
        """
        edge_tl.adversarial
        edge_tl.adversarial.evaluation.report evaluate_robustness
        edge_tl.adversarial.settings AttackSettings DreamSettings
        edge_tl.adversarial.dreams.files write_dreams
        """,
    ),
    (
        "Packs and benchmarks",
        "Packs are made on the workstation; they are read, and measured with, on the device.",
        """
        edge_tl.adversarial.packing write_pack
        edge_tl.adversarial.settings PackSettings
        edge_tl_runtime.bench.pack.pack Pack PackedPhoto Expected StoredAttack Adversarial
        edge_tl_runtime.bench.settings BenchSettings
        edge_tl_runtime.bench.benchmark Subject run_benchmark
        edge_tl_runtime.bench.result read_result write_result sealed_result canonical
        edge_tl_runtime.bench.signature private_key public_key signed check_signature
        """,
    ),
    (
        "Errors",
        "Every failure that a person can meet; the command line makes a line and an exit code of it.",
        """
        edge_tl_runtime.core.errors EdgeTLError UsageError DataError BadImage BadFrame BadModelError UnknownSpecVersion
        edge_tl_runtime.core.errors BadPackError SourceError OutputError WeightsError
        """,
    ),
)
"""A heading, a line below it, and modules with their names; without names: those of the module's `__all__`."""

MADE = "<!-- Written by `python scripts/reference.py`; edit the source instead. -->"
LONGEST = 24
"""Lines of a constant that are still shown; a longer table is read in its module."""


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 when a page is stale.")
def main(check: bool) -> None:
    """Write the pages of docs/reference, or say which of them are stale."""
    made = pages()
    if check:
        stale = [path for path, text in made.items() if not path.is_file() or path.read_text("utf-8") != text]
        for path in stale:
            click.echo(f"{path.relative_to(ROOT)} is stale; run: python scripts/reference.py", err=True)
        sys.exit(1 if stale else 0)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in made.items():
        path.write_text(text, "utf-8")
        click.echo(f"wrote {path.relative_to(ROOT)}")


def pages() -> dict[Path, str]:
    """Text of each page by its path."""
    return {FOLDER / "commands.md": commands_page(), FOLDER / "python.md": python_page()}


# Commands


class Recorder(click.HelpFormatter):
    """Keeps what a command tells of its options, by heading, instead of laying it out for a terminal."""

    def __init__(self) -> None:
        super().__init__(width=10_000)
        self.heading = ""
        self.rows: dict[str, list[tuple[str, str]]] = {}

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        self.heading = name
        yield

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        self.rows.setdefault(self.heading, []).extend(rows)


def commands_page() -> str:
    from edge_tl.cli import COMMANDS, cli

    lines = ["# Commands", "", MADE, "", _prose(cli.help or ""), ""]
    lines += ["`edge-tl [--debug] COMMAND`; exit codes: 0 done, 1 the work failed, 2 wrong use.", ""]
    context = click.Context(cli, info_name="edge-tl")
    lines += ["| command | does |", "|---|---|"]
    lines += [f"| [`edge-tl {name}`](#edge-tl-{name}) | {_cell(line)} |" for name, line in COMMANDS.items()]
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        lines += ["", *_command(command, click.Context(command, parent=context, info_name=name))]
    return "\n".join(lines) + "\n"


def _command(command: click.Command, context: click.Context) -> list[str]:
    level = "##" if context.parent is not None and context.parent.parent is None else "###"
    lines = [f"{level} {context.command_path}", ""]
    if isinstance(command, click.Group):
        lines += [_prose(command.help or "")]
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            lines += ["", *_command(inner, click.Context(inner, parent=context, info_name=name))]
        return lines
    arguments = [_argument(param) for param in command.params if isinstance(param, click.Argument)]
    lines += ["```", " ".join([context.command_path, "[OPTIONS]", *arguments]), "```", "", _prose(command.help or "")]
    recorder = Recorder()
    command.format_options(context, recorder)
    variables = {f"--{param.name}".replace("_", "-"): param.envvar for param in command.params if param.envvar}
    for heading, rows in recorder.rows.items():
        lines += ["", f"| {heading.lower()} | meaning | default, bounds |", "|---|---|---|"]
        lines += [_option(names, text, variables) for names, text in rows if _told(names)]
    return lines


def _told(names: str) -> bool:
    """Arguments are in the line above, and every command has --help."""
    return names.startswith("-") and "--help" not in names


def _argument(param: click.Argument) -> str:
    name = (param.name or "").upper() + ("..." if param.nargs != 1 else "")
    return name if param.required else f"[{name}]"


def _option(names: str, text: str, variables: dict[str, str | Sequence[str]]) -> str:
    """click puts default and bounds in brackets behind the help line, two spaces apart from it."""
    found = re.fullmatch(r"(?P<text>.*?)\s*(?P<extra>(?:\[[^\[\]]*\]\s*)*)", text, re.DOTALL)
    assert found is not None
    extra = re.sub(r"default:\s*", "", "; ".join(re.findall(r"\[([^\[\]]*)\]", found["extra"])))
    variable = next((value for option, value in variables.items() if option in names.split()), None)
    told = _cell(found["text"]) + (f" Environment: `{variable}`." if variable else "")
    return f"| `{_cell(names)}` | {told} | {_cell(extra)} |"


# Python


@dataclass(frozen=True)
class Found:
    """A definition in the source. module: where it is defined, which is not always where it is offered."""

    module: str
    nodes: tuple[ast.stmt, ...]
    source: str

    def text(self, node: ast.AST) -> str:
        """As it is written, its first line moved to the margin."""
        segment = ast.get_source_segment(self.source, node, padded=True)
        assert segment is not None
        return textwrap.dedent(segment)


def python_page() -> str:
    about = "Everything that a command does is a call away. Names that are not here may change without a word."
    lines = ["# Python", "", MADE, "", f"{about} The text of each is that of its docstring."]
    for title, about, modules in API:
        lines += ["", f"## {title}", "", about]
        for module, *names in map(str.split, modules.strip().splitlines()):
            for name in names or offered(module):
                lines += ["", *_entry(module, name)]
    return "\n".join(lines) + "\n"


@cache
def _parsed(module: str) -> tuple[ast.Module, str]:
    base = PLACES[module.split(".")[0]].joinpath(*module.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    source = path.read_text("utf-8")
    return ast.parse(source), source


def offered(module: str) -> tuple[str, ...]:
    """The names of a module's `__all__`, also where it is made of a table."""
    tree, _ = _parsed(module)
    values = {target: node.value for node in tree.body for target in _targets(node) if isinstance(node, ast.Assign)}
    made = values["__all__"]
    if isinstance(made, ast.Call):
        assert isinstance(made.args[0], ast.Name)
        made = values[made.args[0].id]
    names = ast.literal_eval(made)
    return tuple(sorted(names, key=str.lower))


def located(module: str, name: str) -> Found:
    """Where a name is defined: in the module, where the module imports it from, or where its table of places says."""
    tree, source = _parsed(module)
    for place, node in enumerate(tree.body):
        if name in _targets(node):
            # A text right below a constant tells about it.
            return Found(module, tuple(tree.body[place : place + 2]), source)
        if isinstance(node, ast.ImportFrom) and any((item.asname or item.name) == name for item in node.names):
            return located(str(node.module), name)
        if isinstance(node, ast.Assign) and "_PLACES" in _targets(node):
            places = ast.literal_eval(node.value)
            if name in places:
                return located(f"{module}.{places[name]}", name)
    raise LookupError(f"{module} has no {name}")


def _targets(node: ast.stmt) -> tuple[str, ...]:
    if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
        return (node.name,)
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return tuple(target.id for target in targets if isinstance(target, ast.Name))


def _entry(module: str, name: str) -> list[str]:
    found = located(module, name)
    node = found.nodes[0]
    lines = [f"### {name}", "", f"`from {module} import {name}`", ""]
    if isinstance(node, ast.ClassDef):
        return lines + _class(found, node)
    if isinstance(node, ast.FunctionDef):
        return [*lines, *_code(_header(found, node)), *_docstring(ast.get_docstring(node))]
    text = found.text(node)
    if text.count("\n") >= LONGEST:
        text = text.split("\n", 1)[0] + " ..."
    return [*lines, *_code(text), *_docstring(_below(found.nodes[1:]))]


def _class(found: Found, node: ast.ClassDef) -> list[str]:
    """Fields and methods as they are written; below, what is said of each method that says something."""
    bases = ", ".join(found.text(base) for base in [*node.bases, *(word.value for word in node.keywords)])
    shown = [f"@{found.text(item)}" for item in node.decorator_list]
    shown += [f"class {node.name}({bases}):" if bases else f"class {node.name}:"]
    told: list[str] = []
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and (not item.name.startswith("_") or item.name in SPECIAL):
            said = ast.get_docstring(item)
            if said is None and item.name.startswith("_"):
                continue
            shown.append(textwrap.indent(_header(found, item), "    "))
            if said is not None:
                told += ["", f"**`{node.name}.{item.name}`**", *_docstring(said)]
        elif isinstance(item, ast.AnnAssign) and not "".join(_targets(item)).startswith("_"):
            shown.append(textwrap.indent(found.text(item), "    "))
    if len(shown) == 1 + len(node.decorator_list):
        shown[-1] += " ..."
    return [*_code("\n".join(shown)), *_docstring(ast.get_docstring(node)), *told]


SPECIAL = ("__init__", "__call__", "__iter__")
"""Methods with such names that a caller meets."""


def _header(found: Found, node: ast.FunctionDef) -> str:
    """Decorators and signature as they are written."""
    lines = found.source.splitlines()[node.lineno - 1 : node.body[0].lineno]
    text = textwrap.dedent("\n".join(lines))
    # The first colon at the end of a line, or before a body on the same line, that closes the signature.
    end = re.search(r"(?:\)|->[^\n:]*(?:\[[^\n]*\])?[^\n:]*):(?=\s|$)", text)
    assert end is not None, node.name
    return "".join(f"@{found.text(item)}\n" for item in node.decorator_list) + text[: end.end()] + " ..."


def _below(nodes: Sequence[ast.stmt]) -> str | None:
    """The text below a constant, if there is one."""
    node = nodes[0] if nodes else None
    value = node.value if isinstance(node, ast.Expr) else None
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None


# Markdown


def _code(text: str) -> list[str]:
    return ["```python", text, "```"]


def _docstring(text: str | None) -> list[str]:
    """Paragraphs; a line for each parameter; examples as code."""
    if not text:
        return []
    lines: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        lines += ["", *(_code(paragraph) if paragraph.lstrip().startswith(">>>") else _paragraph(paragraph))]
    return lines


_NEW = re.compile(r"(?:(?P<name>[a-z_][A-Za-z0-9_]*(?:, [a-z_][A-Za-z0-9_]*)*): |(?=Returns |Raises ))(?=\S)")


def _paragraph(text: str) -> list[str]:
    """A line that begins with a parameter and a colon begins a point; so do Returns and Raises."""
    items: list[str] = []
    for line in text.splitlines():
        found = _NEW.match(line)
        if found or not items:
            line = f"- `{found['name']}`: {line[found.end() :]}" if found and found["name"] else line.strip()
            items.append(f"- {line}" if found and not line.startswith("- ") else line)
        else:
            items[-1] += f" {line.strip()}"
    return [_escaped(item) for item in items]


def _prose(text: str) -> str:
    """Text of a command's help: one line for each paragraph."""
    paragraphs = re.split(r"\n\s*\n", text.replace("\b", "").strip())
    return "\n\n".join(_escaped(" ".join(paragraph.split())) for paragraph in paragraphs)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _escaped(text: str) -> str:
    """Angle brackets and stars mean something in Markdown; between backticks they do not."""
    parts = text.split("`")
    return "`".join(part.replace("<", "&lt;") if place % 2 == 0 else part for place, part in enumerate(parts))


if __name__ == "__main__":
    main()
