"""Sources that other packages add: `NAME` or `NAME:ADDRESS`, read in the capture process as any device is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from edge_tl_runtime.core import plugins
from edge_tl_runtime.core.errors import SourceError
from edge_tl_runtime.images.decode import Frame
from edge_tl_runtime.sources.device import Device
from edge_tl_runtime.sources.request import CaptureRequest, Opened

PREFIX = "plugin "
"""Begins the kind of a CaptureRequest for such a source; its name follows."""
BUILT_IN = frozenset({"test", "rpicam", "file", "http", "https", "rtsp", "rtsps", "rtmp", "udp", "tcp", "srt"})
"""Names before a colon that are edge-tl's own."""
_NAME = re.compile(r"([a-z][a-z0-9_+.-]+)(?::|$)")

MakeDevice = Callable[[CaptureRequest], Device]


def added_name(name: str) -> str:
    """The plugin that a string names, "" where it names none. Nothing is imported; of most strings nothing is looked up."""
    found = _NAME.match(name)
    if found is None or found[1] in BUILT_IN or Path(name).exists():
        return ""
    return found[1] if any(plugin.name == found[1] for plugin in plugins.plugins("sources")) else ""


def checked_maker(part: object) -> MakeDevice:
    """Raises TypeError for what is no Device class and no function."""
    return plugins.maker(part, Device)


def added_device(request: CaptureRequest) -> Device:
    """The device of a plugin. Raises UsageError and SourceError, each in one line that names the package."""
    found = plugins.load("sources", request.kind.removeprefix(PREFIX), checked_maker)
    if found is None:
        raise SourceError(f"no package adds the source {request.kind.removeprefix(PREFIX)!r} any more")
    plugin = found.plugin
    device = _guarded(plugin, lambda: found.part(request))
    if not isinstance(device, Device):
        raise SourceError(f"{plugin}: it gives {type(device).__name__}, not a Device")
    return Guarded(device, plugin)


class Guarded(Device):
    """A plugin's device, whose failures become lines that name its package."""

    def __init__(self, device: Device, plugin: plugins.Plugin) -> None:
        super().__init__()
        self._device, self._plugin = device, plugin
        self.rejections, self.notes = device.rejections, device.notes

    def open(self) -> Opened:
        opened = _guarded(self._plugin, self._device.open)
        self.inter_coded = self._device.inter_coded
        if not isinstance(opened, Opened):
            raise SourceError(f"{self._plugin}: open() gives {type(opened).__name__}, not Opened")
        return opened

    def grab(self) -> bool:
        good = bool(_guarded(self._plugin, self._device.grab))
        device = self._device
        self.ended, self.error = device.ended, device.error
        self.key_frame, self.captured = device.key_frame, device.captured
        return good

    def retrieve(self, out: Frame | None) -> object:
        return _guarded(self._plugin, lambda: self._device.retrieve(out))

    def close(self) -> None:
        _guarded(self._plugin, self._device.close)


def _guarded(plugin: plugins.Plugin, call: Callable[[], object]) -> object:
    return plugins.guarded(plugin, call, SourceError, "failed", "tell its author")
