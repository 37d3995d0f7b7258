"""Where the live page may be reached, and by whom."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import parse_qs, quote

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.text import one_line

SEND_BUFFER = 256 * 1024
"""Bytes that the kernel may hold for one viewer. By default they are megabytes: a slow network would show the past."""
SILENT_S = 20
"""A viewer that takes nothing for so long is gone."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UsageError when it cannot be had."""
    where = one_line(host) or "''"
    try:
        if not host:
            raise socket.gaierror
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError):
        raise UsageError(f"the web page: no address {where} is known; give one of this machine, as 127.0.0.1") from None
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # What is accepted inherits these.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_USER_TIMEOUT", 1000 * SILENT_S), ("TCP_KEEPIDLE", SILENT_S), ("TCP_KEEPINTVL", 5)):
            if option := getattr(socket, name, None):
                found.setsockopt(socket.IPPROTO_TCP, option, value)
        found.bind(address)
        found.listen(64)
    except OSError as error:
        found.close()
        hint = "choose another port, or 0 for any that is free; or give an address of this machine"
        raise UsageError(f"the web page cannot be at {where}, port {port}: {error.strerror or error}; {hint}") from None
    return found


def is_loopback(address: str) -> bool:
    """Whether a numeric address, or the name localhost, is of this machine only."""
    if address.lower() == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    return False


def public_host(host: str) -> str:
    """How others reach what listens on `host`; for a wildcard the address of the way out, or the machine's name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        outside = ("192.0.2.1", 9)  # reserved for documentation; connecting a datagram socket sends nothing
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect(outside)
                return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()
    return f"[{host}]" if address.version == 6 else host


@dataclass(frozen=True, slots=True)
class Access:
    """Who may look. token: "" when none is needed. local: whether only names of this machine are answered to, so that a page
    from elsewhere cannot reach the server through a name that it lets point here."""

    token: str
    local: bool
    port: int

    @property
    def query(self) -> str:
        return f"?token={quote(self.token, safe='')}" if self.token else ""

    @property
    def cookie(self) -> tuple[str, str]:
        """Name, with the port as cookies know none, and value: proof of the token, made of signs that a cookie may hold."""
        proof = hmac.new(self.token.encode("utf-8", "replace"), b"edge-tl live page", hashlib.sha256).hexdigest()
        return f"edge-tl-{self.port}", proof

    def has_token(self, query: bytes) -> bool:
        given = parse_qs(query.decode("latin-1")).get("token", [""])[0]
        return _same(given, self.token)

    def has_cookie(self, cookies: dict[str, str]) -> bool:
        name, proof = self.cookie
        return _same(cookies.get(name, ""), proof)

    def knows_host(self, header: str) -> bool:
        if not self.local:
            return True
        name = re.fullmatch(r"\[([^\]]*)\](?::\d+)?|([^:\[\]]*)(?::\d+)?", header)
        return name is not None and is_loopback(name[1] or name[2] or "")


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode("utf-8", "replace"))
