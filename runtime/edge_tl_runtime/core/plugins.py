"""Parts that other packages add, found by their entry points; `edge_tl.plugins` says what an author writes.

Nothing of a package is imported before one of its names is asked for. A name that edge-tl has itself always means edge-tl's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from edge_tl_runtime.core.errors import EdgeTLError, UsageError
from edge_tl_runtime.core.text import error_line, one_line

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from edge_tl_runtime.core.documents import PluginDocument

KINDS: Mapping[str, str] = {
    "sources": "source",
    "sinks": "sink",
    "backbones": "backbone",
    "attacks": "attack",
    "corruptions": "corruption",
    "providers": "execution provider",
}
"""What the group of entry points `edge_tl.<key>` adds, in words."""

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True)
class Plugin:
    """An entry point of a package. kind: a key of KINDS. package, version: of the distribution that brings it."""

    kind: str
    name: str
    package: str
    version: str
    entry: EntryPoint

    def load(self) -> Any:
        """What the entry point names, imported. Raises UsageError, in one line, for whatever goes wrong in the package."""
        try:
            return self.entry.load()
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"{self}: cannot be imported ({error_line(error)}); update or uninstall {self.package}"
            ) from error

    def to_dict(self) -> PluginDocument:
        return {"name": self.name, "package": self.package, "version": self.version}

    def __str__(self) -> str:
        return f"{KINDS[self.kind]} {self.name!r} of the package {self.package} {self.version}"


@dataclass(frozen=True, slots=True)
class LoadedPlugin(Generic[Part]):
    """A plugin and the part that it gave."""

    plugin: Plugin
    part: Part


@cache
def plugins(kind: str) -> tuple[Plugin, ...]:
    """Every entry point of a kind, by name, also those that cannot be used. Nothing is imported."""
    # With it come some thirty modules, e-mail among them, that a command without plugins need not load.
    from importlib.metadata import entry_points

    found = {}
    for entry in entry_points(group=f"edge_tl.{kind}"):
        package = (entry.dist.name, entry.dist.version) if entry.dist is not None else ("an unknown package", "")
        # The same folder may be on the path twice.
        found[entry.name, package[0], entry.value] = Plugin(kind, entry.name, *package, entry)
    return tuple(sorted(found.values(), key=lambda plugin: (plugin.name, plugin.package)))


def names(kind: str, built_in: Collection[str] = ()) -> tuple[str, ...]:
    """Names that plugins of a kind add to those of edge-tl."""
    return tuple(dict.fromkeys(plugin.name for plugin in plugins(kind) if plugin.name not in built_in))


def find(kind: str, name: str) -> Plugin | None:
    """The plugin of that name, None where there is none. Raises UsageError where two packages add it."""
    found = [plugin for plugin in plugins(kind) if plugin.name == name]
    if len(found) > 1:
        packages = " and ".join(f"{plugin.package} {plugin.version}" for plugin in found)
        raise UsageError(f"{packages} both add a {KINDS[kind]} {name!r}; uninstall one of them")
    return found[0] if found else None


def load(kind: str, name: str, check: Callable[[object], Part]) -> LoadedPlugin[Part] | None:
    """The part that a plugin adds by that name; None where no package adds it.

    check: returns the part where it is of the right kind, and raises TypeError, which says what it should be, where it is not.
    Raises UsageError for a package that cannot be imported, gives something else, or shares the name with another.
    """
    plugin = find(kind, name)
    return None if plugin is None else LoadedPlugin(plugin, checked(plugin, check))


def checked(plugin: Plugin, check: Callable[[object], Part]) -> Part:
    """The part of a plugin. Raises UsageError as `load` does."""
    part = plugin.load()
    try:
        return check(part)
    except Exception as error:
        why = one_line(error) if isinstance(error, TypeError) else error_line(error)
        raise UsageError(f"{plugin}: {why}; update or uninstall {plugin.package}") from error


def guarded(plugin: Plugin, action: Callable[[], Part], kind: type[EdgeTLError], what: str, advice: str) -> Part:
    """What code of a plugin gives. Its EdgeTLErrors pass; any other error becomes a `kind`, whose line names the package.

    what, advice: what went wrong and what to do, for that line.
    """
    try:
        return action()
    except EdgeTLError:
        raise
    except Exception as error:
        raise kind(f"{plugin} {what} ({error_line(error)}); {advice}") from error


def made(part: object) -> object:
    """A part, or what a function that makes it gives."""
    return part() if callable(part) else part


def instance(part: object, kind: type[Part]) -> Part:
    """`part` itself. Raises TypeError when it is no instance of `kind`."""
    if not isinstance(part, kind):
        given = f"the class {part.__name__}" if isinstance(part, type) else type(part).__name__
        raise TypeError(f"it gives {given}, not an instance of {kind.__module__}.{kind.__name__}")
    return part


def maker(part: object, kind: type[Part]) -> Callable[..., Part]:
    """`part` as what makes a `kind`. Raises TypeError for a class that is no subclass of it, and for what cannot be called."""
    if isinstance(part, type) and not issubclass(part, kind):
        raise TypeError(f"its class {part.__name__} is no subclass of {kind.__module__}.{kind.__name__}")
    if not callable(part):
        raise TypeError(f"it gives {type(part).__name__}, not a class or function that makes a {kind.__name__}")
    return part
