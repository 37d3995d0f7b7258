"""What the reference needs: public names say what they are, options say what they do, examples run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import cv2
import numpy as np
import pytest

import edge_tl
import edge_tl_export
import edge_tl_runtime
from edge_tl.cli import COMMANDS, cli
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.modelfile.onnx import with_checksum
from edge_tl_runtime.pipeline.smoothing import Ema
from edge_tl_runtime.pipeline.stream import Stream
from edge_tl_runtime.sinks import FileTarget, Log, QueuedSink
from edge_tl_runtime.sources import open_source

PACKAGES = (edge_tl, edge_tl_export, edge_tl_runtime)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def commands() -> Iterator[tuple[str, click.Command]]:
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        inner = command.commands if isinstance(command, click.Group) else {"": command}
        yield from ((f"{name} {sub}".strip(), item) for sub, item in inner.items())


def test_every_command_and_option_says_what_it_is():
    assert [name for name, command in commands() if not command.help] == []
    options = [
        (name, item) for name, command in commands() for item in command.params if isinstance(item, click.Option)
    ]
    assert len(options) > 150
    assert [(name, item.opts) for name, item in options if not (item.help or item.hidden)] == []


def public() -> Iterator[tuple[str, object]]:
    """Classes and functions in `__all__` of a package or module."""
    for package in PACKAGES:
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            for name in getattr(module, "__all__", ()):
                value = getattr(module, name)
                if callable(value) and getattr(value, "__module__", "").startswith("edge_tl"):
                    yield f"{found.name}.{name}", value


def test_every_public_name_says_what_it_is():
    assert [name for name, value in public() if not (value.__doc__ or "").strip()] == []


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests: list[doctest.DocTest] = []
    for package in PACKAGES:
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                tests += finder.find(importlib.import_module(found.name))
    return [test for test in tests if test.examples]


@pytest.fixture
def shop(tmp_path, monkeypatch, color_graph, color_spec) -> dict[str, object]:
    """A folder as the examples assume it, with model-int8.onnx and bee.jpg, and the names they use."""
    monkeypatch.chdir(tmp_path)
    spec = replace(color_spec, labels=("bees", "ants", "wasps"))
    Path("model-int8.onnx").write_bytes(with_checksum(color_graph, spec))
    frame = np.zeros((40, 40, 3), np.uint8)
    frame[..., 2] = 250
    cv2.imwrite("bee.jpg", frame)
    classifier = Classifier("model-int8.onnx")
    unsure = np.zeros(3, np.float32)
    return {
        "cv2": cv2,
        "Path": Path,
        "classifier": classifier,
        "Classifier": Classifier,
        "Ema": Ema,
        "open_source": open_source,
        "logits": unsure,
        "probabilities": classifier.probabilities(unsure),
        "now": 0.0,
        "Stream": Stream,
        "Log": Log,
        "FileTarget": FileTarget,
        "QueuedSink": QueuedSink,
        "work": lambda: None,
        "queries": 10,
    }


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_an_example_runs_as_it_stands(example, shop):
    example.globs.update(shop)
    told: list[str] = []
    result = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=told.append)
    assert (result.failed, result.attempted > 0) == (0, True), "".join(told)
