"""Where results go: a Sink takes one result at a time, and a QueuedSink puts a thread and a queue before it."""

from __future__ import annotations

from edge_tl_runtime.sinks.base import QueuedSink, Sink, SinkClosed, kept
from edge_tl_runtime.sinks.mqtt import Mqtt
from edge_tl_runtime.sinks.pictures import Record, Snapshots
from edge_tl_runtime.sinks.text import Changes, Csv, FileTarget, JsonLines, Log, StreamTarget
from edge_tl_runtime.sinks.window import Window, window_obstacle

__all__ = [
    "Changes", "Csv", "FileTarget", "JsonLines", "Log", "Mqtt", "QueuedSink", "Record", "Sink", "SinkClosed",
    "Snapshots", "StreamTarget", "Window", "kept", "window_obstacle",
]  # fmt: skip
