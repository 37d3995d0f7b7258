"""Where to compute."""

from __future__ import annotations

import torch

from edge_tl_runtime.core.errors import UsageError


def pick_device(name: str) -> torch.device:
    """The device called "cpu", "cuda" or "mps"; "auto" takes the best there is. Raises UsageError when it is not there."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if name not in available:
        raise UsageError(f"no device called {name!r}; there are auto, cpu, cuda and mps")
    if not available[name]:
        raise UsageError(f"device {name!r} was asked for and is not available here; use --device auto")
    return torch.device(name)
