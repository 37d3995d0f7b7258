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
BESIDE = ["hypothesis", "jsonschema", "onnx", "pillow", "psutil", "pytest", "scipy"]
DEVICE_TESTS = [
    "tests/test_accuracy_claim.py",
    "tests/test_addresses.py",
    "tests/test_contract.py",
    "tests/test_dataset.py",
    "tests/test_decision.py",
    "tests/test_device_commands.py",
    "tests/test_evaluate.py",
    "tests/test_files.py",
    "tests/test_uncrop.py",
    "tests/test_hostile_contracts.py",
    "tests/test_hostile_files.py",
    "tests/test_lists.py",
    "tests/test_machine.py",
    "tests/test_onnx_file.py",
    "tests/test_overlay.py",
    "tests/test_ring.py",
    "tests/test_rooms.py",
    "tests/test_smoothing.py",
    "tests/test_source_names.py",
    "tests/test_sources.py",
    "tests/test_spec.py",
    "tests/test_split.py",
    "tests/test_square.py",
    "tests/test_preprocess.py",
    "tests/test_photos.py",
    "tests/test_examples.py",
]
"""Tests that need no PyTorch."""

nox.options.sessions = ["device"]
nox.options.error_on_missing_interpreters = False


@nox.session(python=PYTHONS)
def device(session: nox.Session) -> None:
    """The base install and DEVICE_TESTS."""
    session.install("--constraint", "constraints.txt", ".", *BESIDE)
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
