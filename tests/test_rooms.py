"""What the packages of the device say of themselves: `__all__` is true, and to import a package loads nothing heavy."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import edge_tl
import edge_tl_export
import edge_tl_runtime

PACKAGES = [
    "edge_tl_runtime",
    *(found.name for found in pkgutil.walk_packages(edge_tl_runtime.__path__, "edge_tl_runtime.") if found.ispkg),
]
WITH_NAMES = {"sources", "sinks", "sinks.web", "robustness.corruptions"}
"""Packages that hold names of their own, which bring NumPy and OpenCV; all others only name their modules."""
HEAVY = ("numpy", "cv2", "onnxruntime", "msgspec", "asyncio")


def with_names(package: str) -> bool:
    return package.removeprefix("edge_tl_runtime.") in WITH_NAMES


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_exist(package):
    room = importlib.import_module(package)
    assert len(set(room.__all__)) == len(room.__all__)
    if with_names(package):
        assert all(hasattr(room, name) for name in room.__all__)
        return
    modules = {module.name for module in pkgutil.iter_modules(room.__path__) if not module.name.startswith("_")}
    assert set(room.__all__) == modules, f"__all__ of {package} is not the list of its modules"


def test_packages_load_nothing_heavy():
    parents = tuple(f"edge_tl_runtime.{name}" for name in WITH_NAMES)
    plain = [package for package in PACKAGES if not package.startswith(parents)]
    assert len(plain) > 10
    program = f"import sys, {', '.join(plain)}; print([name for name in {HEAVY} if name in sys.modules])"
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"


OF_THE_WORKSTATION = [
    found.name
    for package in (edge_tl, edge_tl_export)
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if found.ispkg
]
NAMING = {"edge_tl.adversarial", "edge_tl.cli", "edge_tl.models"}
"""Packages of the workstation that hold names of their own."""


@pytest.mark.parametrize("package", OF_THE_WORKSTATION)
def test_public_names_of_the_workstation_exist(package):
    room = importlib.import_module(package)
    if package in NAMING:
        assert all(hasattr(room, name) for name in room.__all__)
        return
    modules = {module.name for module in pkgutil.iter_modules(room.__path__) if not module.name.startswith("_")}
    assert sorted(room.__all__) == sorted(modules), f"__all__ of {package} is not the list of its modules"
