"""What the reference needs: public names say what they are, options say what they do, examples run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import click
import cv2
import numpy as np
import pytest

import edge_tl
import edge_tl_export
import edge_tl_runtime
from edge_tl.cli import COMMANDS, cli

PACKAGES = (edge_tl, edge_tl_export, edge_tl_runtime)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def commands() -> Iterator[tuple[str, click.Command]]:
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        inner = command.commands if isinstance(command, click.Group) else {"": command}
        yield from ((f"{name} {sub}".strip(), item) for sub, item in inner.items())


def test_every_command_and_argument_says_what_it_is():
    assert [name for name, command in commands() if not command.help] == []


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
def shop(tmp_path, monkeypatch, color_model, color_photos, color_spec) -> dict[str, object]:
    """A folder as the examples assume it: model-int8.onnx and bee.jpg, and the names they use."""
    monkeypatch.chdir(tmp_path)
    Path("model-int8.onnx").write_bytes(color_model.read_bytes())
    frame = np.zeros((40, 40, 3), np.uint8)
    frame[..., 2] = 250
    cv2.imwrite("bee.jpg", frame)
    return {"cv2": cv2, "np": np, "frame": frame}
