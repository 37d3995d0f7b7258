"""Addresses of streams as people write them: passwords with any character, schemes in capitals. What is secret is never shown."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from edge_tl_runtime.core.text import UNPRINTABLE, one_line
from edge_tl_runtime.sources.base import mask_credentials

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s/?#@:\[\]]+)(?::([0-9]{1,5}))?(?=[/?#]|$)")
_START = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:/{1,2})?/*")
MAX_SHOWN = 300
"""Characters of a name that a message shows."""
PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935}


@dataclass(frozen=True, slots=True)
class Address:
    """A URL in parts. user, password: as they are, not percent-encoded; None where there is none. rest: path, query and all."""

    scheme: str
    user: str | None
    password: str | None
    host: str
    port: int
    rest: str

    @property
    def shown(self) -> str:
        """For a person: what is secret is ***."""
        if self.doubtful:
            return _without_credentials(f"{self.scheme}://{self._where}{self.rest}")
        who = "" if self.user is None else "***@"
        return mask_credentials(f"{self.scheme}://{who}{self._where}{one_line(self.rest, MAX_SHOWN)}")

    @property
    def doubtful(self) -> bool:
        """Whether host, port and path may be the beginning of a password: `u:12/ss@cam` is such an address by the rules."""
        return self.user is None and "@" in self.rest

    @property
    def told_host(self) -> str:
        """The host for a message."""
        return "the server" if self.doubtful else self.host

    @property
    def told_path(self) -> str:
        """Path and query for a message, without what may be secret in them."""
        return "this path" if self.doubtful else mask_credentials(one_line(self.rest or "/"))

    @property
    def url(self) -> str:
        """As FFmpeg wants it: the scheme in small letters, user and password percent-encoded."""
        who = ""
        if self.user is not None:
            who = quote(self.user, safe="")
            who += "" if self.password is None else ":" + quote(self.password, safe="")
            who += "@"
        return f"{self.scheme}://{who}{self._where}{self.rest}"

    @property
    def _where(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port in (0, PORTS.get(self.scheme)) else f"{host}:{self.port}"


def parse_address(text: str) -> Address | None:
    """A URL with a host, or None.

    A password may hold `@`, `/`, `:` and `#` as they are, and %40 for `@` as the rules have it. Where `@` occurs more than once,
    the host is what follows the last one and looks like a host: an IP address, a name with a dot, or one with a port or a path.
    """
    found = _URL.fullmatch(text)
    if found is None:
        return None
    scheme, after = found[1].lower(), found[2]
    at = _end_of_credentials(after)
    who, where = (after[:at], after[at + 1 :]) if at >= 0 else (None, after)
    host = _HOST.match(where)
    if host is None or int(host[2] or 1) not in range(1, 65536) or "\0" in text:
        return None
    user, colon, password = who.partition(":") if who is not None else ("", "", "")
    return Address(
        scheme=scheme,
        user=_decoded(user) if who is not None else None,
        password=_decoded(password) if colon else None,
        host=host[1].strip("[]"),
        port=int(host[2]) if host[2] else PORTS.get(scheme, 0),
        rest=where[host.end() :],
    )


def _end_of_credentials(after: str) -> int:
    """Where the `@` before the host is in what follows `://`; -1 where nobody is named."""
    authority = re.split(r"[/?#]", after, maxsplit=1)[0]
    first = authority.rfind("@")
    host = _HOST.match(authority)
    if ":" not in authority or (first < 0 and host and host.end() == len(authority)):
        return first  # no password, which alone may hold a slash
    for at in (found.start() for found in reversed(list(re.finditer("@", after)))):
        if at <= first:
            break
        host = _HOST.match(after, at + 1)
        if host and (host[2] or "." in host[1] or host[1].startswith("[") or host.end() < len(after)):
            return at
    return first


def _decoded(text: str) -> str:
    """Percent-encoding undone where all of it is valid; a lone % is a character like any other."""
    return unquote(text) if re.fullmatch(r"(?:[^%]|%[0-9A-Fa-f]{2})*", text, re.DOTALL) else text


def shown_address(name: str) -> str:
    """What a person is told of the name of a source, whatever it is: one line, without what is secret."""
    if os.path.lexists(name):
        return one_line(name, MAX_SHOWN)  # whatever it looks like, it is a file of that name
    address = parse_address(name)
    return _without_credentials(name) if address is None else address.shown


def _without_credentials(text: str) -> str:
    """A name that is no address. Before its last `@`, all may be a password, spaces and slashes included."""
    head, at, host = text.rpartition("@")
    if at and (":" in head or "//" in head):
        start = _START.match(head)
        text = f"{start[0] if start else ''}***@{host}"
    return mask_credentials(one_line(text, MAX_SHOWN))


def why_no_address(text: str) -> str:
    """What is wrong with a URL that `parse_address` does not take, in words, and what to write; "" where nothing is.

    Nothing of the text itself is repeated but its scheme: it may hold a password.
    """
    found = _URL.fullmatch(text)
    if found is None or parse_address(text) is not None:
        return ""
    scheme, after = found[1].lower(), found[2]
    example = f"{scheme}://192.168.1.5:{PORTS.get(scheme) or 8554}/stream"
    where = re.split(r"[/?#]", after[after.rfind("@") + 1 :], maxsplit=1)[0]
    if UNPRINTABLE.search(text):
        return "it holds a line break or another control character; copy it again, as one line"
    if where.startswith("["):
        inside, bracket, port = where[1:].partition("]")
        if not bracket:
            return f"the bracket around its IPv6 address is not closed; write {scheme}://[fe80::1]/stream"
        if not re.fullmatch(r"[0-9A-Fa-f:.%]+", inside):
            return f"between its brackets is no IPv6 address; write {scheme}://[fe80::1]/stream"
        return _wrong_port(port.removeprefix(":")) or f"after the bracket comes a port or a path, as in {example}"
    if where.count(":") > 1:
        return f"an IPv6 address stands in brackets: {scheme}://[fe80::1]/stream"
    host, colon, port = where.partition(":")
    if not host:
        return f"it names no host; an address goes on after the slashes, as in {example}"
    if re.search(r"[\s\[\]]", host):
        return f"its host holds a character that no name of a machine has; write it as in {example}"
    if wrong := _wrong_port(port) if colon else "":
        return wrong
    if "@" in after:
        return "where its password ends is not clear; write / in it as %2F, ? as %3F, # as %23 and @ as %40"
    return f"it is no address; write it as in {example}"


def _wrong_port(port: str) -> str:
    if not port:
        return "its port is missing after the colon; give one, or leave the colon out"
    if not (port.isascii() and port.isdecimal()):
        return "its port is not a number; ports are 1 to 65535"
    if not 0 < int(port[:9]) <= 65535:
        return "its port is not between 1 and 65535"
    return ""
