"""Results to an MQTT broker: the label when it changes, the status, and whether the runner is there at all."""

from __future__ import annotations

import contextlib
import json
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.progress import Say, say_if_heard, silent
from edge_tl_runtime.pipeline.stream import Result
from edge_tl_runtime.sinks.base import Sink

STATUS_S = 10.0
Answer = tuple[str, frozenset[str]]
"""A label and the labels of its set."""
_INSTALL = "MQTT needs paho-mqtt; run: pip install 'edge-tl[mqtt]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """mqtt://user:password@host:port/topic, mqtts:// for TLS. topic: what all topics begin with, edge-tl when none is given."""

    host: str
    port: int
    tls: bool
    topic: str
    user: str
    password: str = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> Broker:
        """Raises UsageError for anything else."""
        try:
            address = urlsplit(url)
            port = address.port
        except ValueError:
            address, port = urlsplit(""), None
        strange = any(sign in url for sign in "?#")
        if address.scheme not in ("mqtt", "mqtts") or not address.hostname or strange:
            raise UsageError(f"{_masked(url)} is no broker; give mqtt://HOST[:PORT]/TOPIC")
        topic = unquote(address.path).strip("/") or "edge-tl"
        if any(sign in topic for sign in "+#\0"):
            raise UsageError(f"{topic!r} is no topic to publish to: it holds a wildcard")
        tls = address.scheme == "mqtts"
        user, password = unquote(address.username or ""), unquote(address.password or "")
        return cls(
            host=address.hostname,
            port=port or (8883 if tls else 1883),
            tls=tls,
            topic=topic,
            user=user,
            password=password,
        )


def _masked(url: str) -> str:
    """The URL without what may be a password, however badly it is written."""
    kind, mark, rest = url.rpartition("://")
    return (
        f"{kind if kind in ('mqtt', 'mqtts') else ''}{mark}" + ("***@" if "@" in rest else "") + rest.rpartition("@")[2]
    )


class Mqtt(Sink):
    """Publishes under the broker's topic, quality of service 1: `label` (JSON of the result, retained) at each change, or
    `REGION/label` where there are several regions, `status` (retained) every STATUS_S, `drift` (retained, a part of the status)
    when another change is told, and `available` ("online", "offline"), the latter also by the broker when the runner vanishes.

    every: also `result` for every frame, quality 0. The client connects by itself, again and again. A label that changes while
    the broker is away is not an error: the newest is published when it is back, those in between are counted as lost.
    """

    name = "mqtt"
    depth = 64

    def __init__(self, url: str, every: bool = False, say: Say = silent) -> None:
        """Raises UsageError when the client library is missing or the URL makes no sense."""
        try:
            from paho.mqtt import client as paho
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError:
            raise UsageError(_INSTALL) from None
        broker = self.broker = Broker.parse(url)
        self._every, self._say = every, say
        self._answers: dict[str, Answer] = {}  # of the loop's thread, by region
        self._newest: dict[str, tuple[Answer, str]] = {}
        """By region: the newest answer, and its result as text."""
        self._due: set[str] = set()
        """Regions whose newest label is yet to be published."""
        self._lost = 0
        self._on_the_way: deque[Any] = deque()
        self._status_at = -STATUS_S
        self._drift: str | None = None
        self._told = ""
        self.notice = self._where("not connected to")
        client: Any = paho.Client(CallbackAPIVersion.VERSION2, clean_session=True)
        if broker.user:
            client.username_pw_set(broker.user, broker.password or None)
        if broker.tls:
            client.tls_set()
        client.will_set(f"{broker.topic}/available", "offline", qos=1, retain=True)
        client.reconnect_delay_set(1, 30)
        client.max_queued_messages_set(100)
        client.on_connect = self._connected
        client.on_connect_fail = self._unreachable
        client.on_disconnect = self._disconnected
        self._client = client
        client.connect_async(broker.host, broker.port, keepalive=30)
        client.loop_start()

    @property
    def lost(self) -> int:
        return self._lost

    def wants(self, result: Result) -> bool:
        answer = result.decision.answer
        changed = answer != self._answers.get(result.region)
        self._answers[result.region] = answer
        return changed or self._every

    def write(self, result: Result) -> None:
        text = json.dumps(result.to_dict(), ensure_ascii=False)
        if self._every:
            self._stream(text)
        region, answer = result.region, result.decision.answer
        if region not in self._newest or answer != self._newest[region][0]:
            self._lost += region in self._due and not self._every
            self._newest[region] = answer, text
            self._due.add(region)
        self._catch_up()

    def idle(self) -> None:
        self._catch_up()

    def status(self, document: dict[str, Any]) -> None:
        now = time.monotonic()
        drift = document.get("drift")
        if drift and drift["notice"] != self._drift and self._client.is_connected():
            self._drift = drift["notice"]
            self._publish("drift", json.dumps(drift, ensure_ascii=False))
        if now - self._status_at >= STATUS_S and self._client.is_connected():
            self._status_at = now
            self._publish("status", json.dumps(document, ensure_ascii=False))

    def close(self) -> None:
        try:
            if self._client.is_connected():
                self._catch_up()
                sent = self._publish("available", "offline")
                # The client library refuses to wait for what it could not even queue.
                with contextlib.suppress(RuntimeError, ValueError):
                    sent.wait_for_publish(0.5)
        finally:
            self._client.disconnect()
            self._client.loop_stop()

    def _publish(self, name: str, text: str, qos: int = 1, retain: bool = True) -> Any:
        return self._client.publish(
            f"{self.broker.topic}/{name}", text.encode("utf-8", "backslashreplace"), qos=qos, retain=retain
        )

    def _catch_up(self) -> None:
        """Publish the newest labels that are due; in this thread only, so that an older one never comes after it."""
        for region in sorted(self._due) if self._client.is_connected() else ():
            self._due.discard(region)
            if self._publish(f"{region}/label" if region else "label", self._newest[region][1]).rc:
                self._due.add(region)

    def _stream(self, text: str) -> None:
        """Publish one of all results. The client library would keep any number for a broker that takes them too slowly."""
        while self._on_the_way and self._on_the_way[0].is_published():
            self._on_the_way.popleft()
        if len(self._on_the_way) >= self.depth or not self._client.is_connected():
            self._lost += 1
            return
        sent = self._publish("result", text, qos=0, retain=False)
        if sent.rc:
            self._lost += 1
        else:
            self._on_the_way.append(sent)

    # What the client calls from its own thread; an exception there would end it.

    def _connected(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._report(f"{self._where('refused by')} ({reason})")
            return
        self._publish("available", "online")
        self._on_the_way.clear()
        self._due = set(self._newest)  # the broker may have forgotten
        self._drift = None
        self.notice = ""
        if self._told:
            self._told = ""
            self._tell(self._where("connected to"))

    def _unreachable(self, client: Any, userdata: Any) -> None:
        self._report(self._where("cannot reach"))

    def _disconnected(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure and not self._told:  # a refusal is followed by this too
            self._report(self._where("lost"))

    def _report(self, notice: str) -> None:
        """The first trouble of a row is told."""
        self.notice = notice
        if not self._told:
            self._tell(f"{notice}; trying again for as long as it takes")
        self._told = notice

    def _tell(self, line: str) -> None:
        say_if_heard(self._say, f"mqtt: {line}")

    def _where(self, what: str) -> str:
        return f"{what} the broker {self.broker.host}:{self.broker.port}"
