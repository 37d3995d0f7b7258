"""`edge-tl train DATA -o RUN` and `edge-tl train --resume RUN`."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from edge_tl.cli.console import percent, progress, say, say_skipped, silent, table
from edge_tl.cli.options import Sections, moved, options
from edge_tl.training.settings import FinetuneSettings, TrainSettings
from edge_tl.training.settings_file import by_name, choose
from edge_tl_runtime.core.errors import EdgeTLError, OutputError, PeerFailed, UsageError
from edge_tl_runtime.core.text import shell_command

if TYPE_CHECKING:
    from edge_tl.training.result import TrainResult


class Interrupted(EdgeTLError):
    """A signal ended the training."""

    exit_code = 128 + signal.SIGINT


class TrainCommand(Sections):
    """Fine-tuning's options come after the others."""

    sections: ClassVar = {fields(FinetuneSettings)[0].name: "Fine-tuning"}


def _show_all(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    """The help, then every setting with its default and bounds."""
    if not asked or context.resilient_parsing:
        return
    formatter = context.make_formatter()
    context.command.format_help(context, formatter)
    groups = {"Settings, by --set NAME=VALUE or in a file for --settings": False, "Settings of fine-tuning": True}
    for title, nested in groups.items():
        with formatter.section(title):
            formatter.write_dl([_described(name) for name in by_name() if ("." in name) == nested])
    click.echo(formatter.getvalue().rstrip())
    context.exit()


def _described(name: str) -> tuple[str, str]:
    item = by_name()[name]
    rules, default = item.metadata, "auto" if item.default is None else item.default
    low, high = rules["low"], rules["high"]
    bounds = f"; {low:g} to {high:g}" if high is not None else f"; at least {low:g}" if low is not None else ""
    bounds = f"; {', '.join(map(str, rules['choices']))}" if rules["choices"] else bounds
    return name, f"{rules['help']}  [default: {str(default).lower() if isinstance(default, bool) else default}{bounds}]"


@click.command(cls=TrainCommand, short_help="Train a classifier on labelled photos.")
@click.argument("data", required=False)
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), help="Folder for the run.")
@click.option(
    "--resume",
    "interrupted",
    type=click.Path(path_type=Path),
    help="Folder of an interrupted training to go on with.",
)
@options(TrainSettings)
@click.option(
    "--diagnose",
    is_flag=True,
    help="Train in several ways and say whether the backbone fits these photos; no run is written.",
)
@click.option("--tensorboard", is_flag=True, help="Also write TensorBoard records into the run.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set any setting, such as finetune.mixup=0.2; repeatable.",
)
@click.option(
    "--settings", "file", type=click.Path(path_type=Path), help="Take settings from a TOML file or a run folder."
)
@click.option(
    "--help-all",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_all,
    help="Show every setting and exit.",
)
@options(FinetuneSettings)
@moved(TrainSettings)
@moved(FinetuneSettings, "finetune.")
def command(
    data: str | None,
    folder: Path | None,
    interrupted: Path | None,
    diagnose: bool,
    tensorboard: bool,
    as_json: bool,
    assignments: tuple[str, ...],
    file: Path | None,
    **values: Any,
) -> None:
    """Train a classifier on DATA.

    DATA is a folder with a sub-folder of photos for each class, or with train/ and val/ (and test/) that hold such folders; a CSV
    or TSV file with the columns path, label and split; or the name of a data set (oxford-pets, cats-dogs, hymenoptera, surfaces).

    The defaults are the settings that measured best. docs/training.md explains them.
    """
    chosen = choose(file, assignments, _given(values))
    settings = chosen.settings
    if int(os.environ.get("RANK", "0")) == 0:
        for line in chosen.lines:
            say(line)
    if interrupted is not None:
        given = [name for name, there in ((str(data), data), ("-o", folder), ("--diagnose", diagnose)) if there]
        if given:
            raise UsageError(
                f"--resume takes the run alone and cannot take {', '.join(given)}; its photos and settings are stored in it"
            )
        folder = interrupted
    elif data is None or (folder is None and not diagnose):
        raise UsageError("give the photos and a folder for the run: edge-tl train DATA -o RUN")
    stage = silent if as_json else progress
    if tensorboard:
        _require_tensorboard()
    if diagnose:
        _diagnose(str(data), settings, stage, as_json)
        return
    assert folder is not None
    with _stoppable(folder) as ready:
        import edge_tl.report.run.page
        import edge_tl.training.train  # noqa: F401  # all that training loads, before a signal may interrupt it
        from edge_tl.api.reporter import Reporter
        from edge_tl.api.runs import resume_and_show, train_and_show

        report = Reporter(stage, say)
        ready()
        if interrupted is None:
            result = train_and_show(str(data), folder, settings, report)
        else:
            changes = {name.split(".")[-1]: value for name, value in chosen.given.items()}
            result = resume_and_show(folder, changes, report)
        if result is None:  # a further process of torchrun
            return
        if tensorboard:
            from edge_tl.report.run.tensorboard import write_events

            say(f"TensorBoard records: {write_events(result.folder)}")
    _print(result, as_json)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Of the settings, those that were written on the command line, by their dotted names."""
    context = click.get_current_context()
    line = click.core.ParameterSource.COMMANDLINE
    nested = {item.name for item in fields(FinetuneSettings)}
    return {
        f"finetune.{name}" if name in nested else name: value
        for name, value in values.items()
        if context.get_parameter_source(name) is line
    }


def _require_tensorboard() -> None:
    from importlib.util import find_spec

    if find_spec("tensorboard") is None:
        raise UsageError("--tensorboard needs tensorboard, which is not installed here; run: pip install tensorboard")


@contextmanager
def _stoppable(folder: Path) -> Iterator[Callable[[], None]]:
    """Ctrl-C and SIGTERM end in one line that says how to go on; so does a disk that fills up.

    Until the function it gives is called, a signal waits: in the middle of an import it would come out as another error.
    """
    waiting: list[int] | None = []

    def stop(number: int, frame: object) -> None:
        if waiting is None:
            raise KeyboardInterrupt(number)
        waiting.append(number)

    def ready() -> None:
        nonlocal waiting
        numbers, waiting = waiting, None
        if numbers:
            raise KeyboardInterrupt(numbers[0])

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ready
    except KeyboardInterrupt as error:
        if int(os.environ.get("RANK", "0")):  # the first process speaks for all
            raise click.exceptions.Exit(128 + (error.args[0] if error.args else signal.SIGINT)) from None
        from edge_tl.training.run_folder import RESUME, WEIGHTS

        onward = f"the run in {folder} is whole" if (folder / WEIGHTS).is_file() else "nothing was begun"
        if (folder / RESUME).is_file():
            onward = f"go on with: {shell_command('train', '--resume', folder)}"
        stopped = Interrupted(f"interrupted; {onward}")
        stopped.exit_code = 128 + (error.args[0] if error.args else signal.SIGINT)
        raise stopped from None
    except UsageError as error:
        if int(os.environ.get("RANK", "0")):  # every process finds the same, the first says it
            raise click.exceptions.Exit(error.exit_code) from None
        raise
    except PeerFailed as error:
        if error.told:  # in a line of the process that failed
            raise click.exceptions.Exit(error.exit_code) from None
        raise
    except OutputError as error:
        from edge_tl.training.run_folder import CHECKPOINT

        if (folder / CHECKPOINT).is_file():
            raise OutputError(f"{error}; then go on with: {shell_command('train', '--resume', folder)}") from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(result: TrainResult, as_json: bool) -> None:
    used = sum(result.photos) + (result.test.n if result.test else 0)
    say_skipped(result.skipped, used, result.root, result.adjusted)
    if as_json:
        click.echo(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    rows = [
        [row.label, str(row.n), percent(row.recall), percent(row.precision)] for row in result.evaluation.per_class[:50]
    ]
    table("", ["class", "val photos", "recall", "precision"], rows)
    if result.cross_validated is not None:
        click.echo(f"the probe, cross-validated on all photos: {result.cross_validated.describe()}")
    click.echo(f"val  {result.evaluation.describe()}, from: {result.best}")
    if result.test is not None:
        click.echo(f"test {result.test.describe()}, photos that chose nothing")
    click.echo(f"run: {result.folder}, its page: {result.folder / 'report.html'}")
    click.echo(f"next: {shell_command('export', result.folder, '--quantize')}")


def _diagnose(data: str, settings: TrainSettings, stage: Any, as_json: bool) -> None:
    from edge_tl.training.diagnose import diagnose

    diagnosis = diagnose(data, settings, stage, say)
    if as_json:
        click.echo(json.dumps(diagnosis.to_dict(), ensure_ascii=False))
        return
    rows = [
        [way.name, percent(way.evaluation.top1), f"{100 * low:.1f} to {100 * high:.1f}", f"{way.seconds:.0f} s"]
        for way in diagnosis.ways
        for low, high in [way.evaluation.ci95]
    ]
    table("", ["way to train", "val top-1", "95 % interval", "time"], rows)
    click.echo(diagnosis.verdict)
