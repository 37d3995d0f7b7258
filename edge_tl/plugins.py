"""What a package that adds a part to edge-tl writes. Everything it needs is imported from here.

A package names its parts in its pyproject.toml; nothing of it is imported before one of them is asked for:

    [project.entry-points."edge_tl.sources"]
    countdown = "my_package.source:Countdown"

| group | the entry point names | used as |
|---|---|---|
| `edge_tl.sources` | a `Device` class, or a function of a `CaptureRequest` that makes one | `run --source countdown:...` |
| `edge_tl.sinks` | a `Sink` class, or a function that makes one; its arguments are its options | `run --sink mine:path=x` |
| `edge_tl.attacks` | an `Attack` value, or its class | `attack --attacks pgd,mine` |
| `edge_tl.backbones` | a `Backbone` value, or a function that makes it | `train --arch mine --weights none` |
| `edge_tl.corruptions` | a `Corruption` value | `attack --corruptions mine`, `bench --corruptions mine` |
| `edge_tl.providers` | a `Provider` value, or a function that registers its library first | `--provider mine` |

- **Device**: `__init__` checks the request and opens nothing; `open()` gives an `Opened` or
  raises `SourceError`; `grab()` waits for a frame and says whether one came;
  `retrieve(out)` gives it, uint8 (H, W, 3), BGR; `close()`. It runs in the capture process, where nothing of the run's own
  memory is; the whole string that was given to --source is `request.name`. A class with `ends = True` ends the run when it sets
  `self.ended`; any other is connected again.
- **Sink**: `write(result)` takes a `Result`, in a thread of its own; `close()` is called at the end. Options come as text.
  Raise `UsageError` for one that makes no sense and `OutputError` for a place that cannot be written.
- **Attack**: a frozen dataclass with `paper`, `needs_gradients` and `_search(search, keys, stop)`: try pixels by `search.ask` on
  the photos of `search.active`. The file itself says what fools it, and a change larger than epsilon is refused.
- **Backbone**: `create(classes)` gives a network with random weights for float32 (N, 3, size, size); its `normalization`.
- **Corruption**: `apply(picture, strength, rng)` gives values of the picture's shape; five `strengths`.
- **Provider**: onnxruntime's name of it and where its threads come from.

A name that edge-tl has itself always means edge-tl's part; two packages with one name are refused when it is asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_tl_runtime.core.errors import OutputError, SourceError, UsageError
from edge_tl_runtime.core.lazy import lazy_names
from edge_tl_runtime.core.plugins import KINDS, Plugin, checked, find, plugins

if TYPE_CHECKING:
    from edge_tl.adversarial.attacks.base import Attack, AttackState
    from edge_tl.models.backbones import Backbone
    from edge_tl_runtime.inference.providers import Provider
    from edge_tl_runtime.machine.documents import FoundPluginDocument
    from edge_tl_runtime.modelfile.spec import Normalization
    from edge_tl_runtime.pipeline.stream import Result
    from edge_tl_runtime.robustness.corruptions.base import Corruption
    from edge_tl_runtime.sinks.base import Sink
    from edge_tl_runtime.sources.device import Device
    from edge_tl_runtime.sources.request import CaptureRequest, Opened

# Imported when they are asked for: an attack brings torch, which a source on the device must not.
_PLACES = {
    "Attack": "edge_tl.adversarial.attacks.base",
    "AttackState": "edge_tl.adversarial.attacks.base",
    "Backbone": "edge_tl.models.backbones",
    "Provider": "edge_tl_runtime.inference.providers",
    "Normalization": "edge_tl_runtime.modelfile.spec",
    "Result": "edge_tl_runtime.pipeline.stream",
    "Corruption": "edge_tl_runtime.robustness.corruptions.base",
    "Sink": "edge_tl_runtime.sinks.base",
    "Device": "edge_tl_runtime.sources.device",
    "CaptureRequest": "edge_tl_runtime.sources.request",
    "Opened": "edge_tl_runtime.sources.request",
}
# Of each kind: the module and its function that says whether a part is right, and the table of edge-tl's own names.
_CHECKS = {
    "sources": ("edge_tl_runtime.sources.plugin_sources", "checked_maker", "BUILT_IN"),
    "sinks": ("edge_tl_runtime.sinks.plugin_sinks", "checked_maker", ""),
    "backbones": ("edge_tl.models.backbones", "checked_backbone", "BACKBONES"),
    "attacks": ("edge_tl.adversarial.attacks.registry", "checked_attack", "ATTACKS"),
    "corruptions": ("edge_tl_runtime.robustness.corruptions", "checked_corruption", "TAKEN"),
    "providers": ("edge_tl_runtime.inference.providers", "checked_provider", "PROVIDERS"),
}

__all__ = [
    "Attack",
    "AttackState",
    "Backbone",
    "CaptureRequest",
    "Corruption",
    "Device",
    "FoundPlugin",
    "Normalization",
    "Opened",
    "OutputError",
    "Provider",
    "Result",
    "Sink",
    "SourceError",
    "UsageError",
    "found_plugins",
]


__getattr__ = lazy_names(__name__, _PLACES)


@dataclass(frozen=True, slots=True)
class FoundPlugin:
    """An installed plugin. problem: why it cannot be used, or ""."""

    plugin: Plugin
    problem: str

    def to_dict(self) -> FoundPluginDocument:
        found = self.plugin
        return {
            "kind": found.kind,
            "name": found.name,
            "package": found.package,
            "version": found.version,
            "problem": self.problem,
        }

    def __str__(self) -> str:
        found = self.plugin
        unusable = ", cannot be used" if self.problem else ""
        return f"{KINDS[found.kind]} {found.name} ({found.package} {found.version}{unusable})"


def found_plugins() -> tuple[FoundPlugin, ...]:
    """Every installed plugin, imported and checked. Never raises for what it finds."""
    return tuple(FoundPlugin(plugin, _problem(plugin)) for kind in KINDS for plugin in plugins(kind))


def _problem(plugin: Plugin) -> str:
    module, function, table = _CHECKS[plugin.kind]
    try:
        room = importlib.import_module(module)
    except ImportError as error:
        return f"{plugin}: it needs {error.name}; run: pip install 'edge-tl[train]'"
    if table and plugin.name in getattr(room, table):
        return (
            f"{plugin} is never used: edge-tl has a {KINDS[plugin.kind]} of that name; ask its author for another name"
        )
    check: Callable[[object], object] = getattr(room, function)
    try:
        find(plugin.kind, plugin.name)  # alone by that name
        checked(plugin, check)
    except UsageError as error:
        return str(error)
    return ""
