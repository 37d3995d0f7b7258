"""Import torchvision also where its compiled operators do not fit the torch beside it.

The registry's torchvision wheel is built for CUDA. Beside a CPU build of torch its extension cannot be loaded, and then its
import fails on two operators (box suppression) that no classifier uses. Declaring them is enough; where the extension
loads, nothing is touched. timm imports torchvision, so it comes through here as well.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []  # torch forgets a declaration when its owner is collected


def import_torchvision() -> ModuleType:
    """The torchvision package, imported."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(name + _SIGNATURE)
    _declared.append(library)
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]  # halves of the failed import
    return importlib.import_module("torchvision")


def import_timm() -> ModuleType:
    """The timm package, imported."""
    import_torchvision()
    return importlib.import_module("timm")
