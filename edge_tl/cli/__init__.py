"""The command line: a table of commands, each a small module that is imported when it is called.

Failures become one line and an exit code here and nowhere else: 0 done, 1 the work failed, 2 wrong use.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from difflib import get_close_matches

import click

from edge_tl.cli.examples import epilog

__all__ = ["ALSO_CALLED", "COMMANDS", "GROUPS", "LazyGroup", "cli", "invoke", "main"]

# Name, then the line that `edge-tl --help` shows. The module edge_tl.cli.<name> holds `command`.
COMMANDS = {
    "demo": "Run everything on built-in photos, without the network.",
    "train": "Train a classifier on a folder of photos.",
    "collect": "Take photos from a camera, to train with.",
    "evaluate": "Measure the accuracy of a model on labelled photos.",
    "export": "Make verified ONNX files, FP32 and INT8, from a run.",
    "predict": "Classify photos.",
    "run": "Classify the frames of a camera, video or folder.",
    "attack": "Measure how robust a model file is to pictures made to fool it.",
    "dream": "Make the picture that a model takes for the best example of a class.",
    "report": "Write the page of a run, an attack or a benchmark, or compare several.",
    "data": "Check a folder of photos before training; fetch a data set.",
    "adopt": "Turn a classifier from another tool into an edge-tl file.",
    "inspect": "Show what a model file says of itself.",
    "pack": "Make a benchmark pack of a model, for `edge-tl bench` on a device.",
    "bench": "Measure speed, accuracy and robustness of a model file on this machine.",
    "tune": "Find the fastest way to run a model file on this machine.",
    "doctor": "Show what this machine can do, and what is wrong.",
}

GROUPS = {
    "Make a model": ("demo", "data", "collect", "train", "export", "adopt"),
    "Use it": ("predict", "run"),
    "Evaluate it": ("evaluate", "attack", "dream", "report"),
    "The machine": ("pack", "bench", "tune", "inspect", "doctor"),
}
"""Commands as `edge-tl --help` lists them."""

# What people type for a command of another name, after other tools of the field.
ALSO_CALLED = {
    "benchmark": "bench",
    "camera": "run",
    "check": "data check",
    "classify": "predict",
    "convert": "adopt",
    "download": "data get",
    "eval": "evaluate",
    "finetune": "train",
    "fit": "train",
    "import": "adopt",
    "infer": "predict",
    "info": "inspect",
    "live": "run",
    "quantize": "export",
    "show": "inspect",
    "stream": "run",
    "test": "evaluate",
    "val": "evaluate",
    "validate": "evaluate",
    "webcam": "run",
}


class LazyGroup(click.Group):
    """Lists commands from the table and imports one only when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"edge_tl.cli.{cmd_name}")
        command: click.Command = module.command
        command.epilog = epilog(cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; a command that does not exist is answered with those that were likely meant."""
        name = args[0]
        if name in COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        meant = [ALSO_CALLED[name.lower()]] if name.lower() in ALSO_CALLED else []
        meant += get_close_matches(name.lower(), COMMANDS, n=2)
        hint = " or ".join(f"edge-tl {one}" for one in dict.fromkeys(meant))
        advice = f"Did you mean {hint}?" if hint else "edge-tl --help lists them."
        raise click.UsageError(f"No such command {name!r}. {advice}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, COMMANDS[name]) for name in names])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="edge-tl", prog_name="edge-tl")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def cli(debug: bool) -> None:
    """Train an image classifier on your photos and run it on a small device's camera."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(invoke(sys.argv[1:] if args is None else list(args)))


def invoke(args: Sequence[str]) -> int:
    """Run the command line; returns the exit code. An expected failure prints one line on standard error."""
    # What OpenCV complains of is reported once, with the name of the file or camera; `OpenCvReader` listens to FFmpeg.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    debug = "--debug" in args
    try:
        result = cli.main(args=list(args), prog_name="edge-tl", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        if debug:
            raise
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted; nothing half-written was left behind")
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        from edge_tl.api.train_extra import TRAIN_PACKAGES, missing_line

        if debug or package not in TRAIN_PACKAGES:
            raise
        _say(missing_line("this command", package))
        return 2
    except Exception as error:
        from edge_tl_runtime.core.errors import EdgeTLError

        if debug or not isinstance(error, EdgeTLError):
            raise
        _say(str(error))
        return error.exit_code


def _say(message: str) -> None:
    click.echo(f"edge-tl: {message}", err=True)
