"""Addresses of streams as people write them: passwords with any character, schemes in capitals. What is secret is never shown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from edge_tl_runtime.sources.base import mask_credentials

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s/?#@:\[\]]+)(?::(\d{1,5}))?(?=[/?#]|$)")
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
        return mask_credentials(f"{self.scheme}://{'' if self.user is None else '***@'}{self._where}{self.rest}")

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
    if host is None or int(host[2] or 0) > 65535:
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
    """What a person is told of the name of a source, whatever it is."""
    address = parse_address(name)
    return mask_credentials(name) if address is None else address.shown
