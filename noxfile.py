"""The same tests on other releases of Python, each in an environment of its own.

    nox                     # what a device needs, on every release that is installed here: minutes
    nox -s device-3.12      # on one release
    nox -s everything-3.12  # all checks of `make test` there; on Linux this brings PyTorch with CUDA, unless TORCH_INDEX is set

A release that is not installed is skipped, and nox says so.
"""

from __future__ import annotations

import os

import nox

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
DEVICE_TESTS = [
    "tests/test_set_up.py",
    "tests/test_examples.py",
]

nox.options.sessions = ["device"]
nox.options.error_on_missing_interpreters = False


@nox.session(python=PYTHONS)
def device(session: nox.Session) -> None:
    """The base install and the tests that need no PyTorch."""
    session.install("--constraint", "constraints.txt", ".", "hypothesis", "onnx", "psutil", "pytest")
    session.run("edge-tl", "--help", silent=True)
    session.run("edge-tl", "doctor", silent=True)
    session.run("python", "-m", "pytest", *(session.posargs or DEVICE_TESTS))


@nox.session(python=PYTHONS)
def everything(session: nox.Session) -> None:
    """Every check."""
    index = os.environ.get("TORCH_INDEX")
    session.run("python", "scripts/set_up.py", "dev", *(["--torch-index", index] if index else []))
    session.run("ruff", "check", ".")
    session.run("mypy")
    session.run("python", "-m", "pytest", *session.posargs)
