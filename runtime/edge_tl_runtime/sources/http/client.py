"""Ask an HTTP server for a picture or a stream, by the standard library; every wait has a limit, every failure a reason.

Python's client follows redirects and answers Basic and Digest challenges. What it lacks for cameras is added here: a limit for
the head as a whole, reading what is there without waiting, and credentials that people write into the address.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import ipaddress
import select
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from email.message import Message
from functools import cache
from typing import Any

from edge_tl_runtime.core.errors import SourceError
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.sources.address import parse_address, shown_address, why_no_address
from edge_tl_runtime.sources.base import mask_credentials

_AGENT = "edge-tl"
_PORTION = 65536
MAX_BODY_BYTES = 64 * 2**20
"""The largest still picture that is waited for."""


class _Limited(io.RawIOBase):
    """What a socket gives, until a time: a server that sends one byte a second does not hold anybody for ever."""

    def __init__(self, connection: socket.socket, kept_open: io.RawIOBase) -> None:
        """kept_open: the file that http.client made of the socket, which stays open as long as that."""
        self._connection, self._kept_open = connection, kept_open
        self.until: float | None = None
        """`time.monotonic()` at which reading fails; None: `silence` seconds after each wait began."""
        self.silence = 10.0
        self.at_once = False
        """Whether a read that would wait gives nothing."""

    def readable(self) -> bool:
        return True

    def readinto(self, memory: object) -> int | None:
        if self.at_once and not self.ready(0.0):
            return None
        left = self.silence if self.until is None else max(0.001, self.until - time.monotonic())
        self._connection.settimeout(left)
        try:
            return self._connection.recv_into(memory)  # type: ignore[arg-type]
        except ConnectionError:
            return 0  # reset by the other side: an end like any other

    def ready(self, seconds: float) -> bool:
        pending = getattr(self._connection, "pending", None)
        if pending is not None and pending():
            return True
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        return bool(poll.poll(1e3 * seconds))

    def close(self) -> None:
        if not self.closed:
            self._kept_open.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """http.client's response, read through `_Limited`."""

    def __init__(
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str | None = None
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        self.limited = _Limited(sock, self.fp.detach())
        self.limited.until = time.monotonic() + (sock.gettimeout() or 10.0)
        self.fp = io.BufferedReader(self.limited, _PORTION)


class _Connection(http.client.HTTPConnection):
    response_class = _Response


class _SecureConnection(http.client.HTTPSConnection):
    response_class = _Response


class _Handler(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, request)


class _SecureHandler(urllib.request.HTTPSHandler):
    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._tls = context

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureConnection, request, context=self._tls)


class _Digest(urllib.request.HTTPDigestAuthHandler):
    """Python's, for passwords in any script and with SHA-256 (RFC 7616)."""

    def get_algorithm_impls(self, algorithm: str) -> tuple[Callable[[str], str], Callable[[str, str], str]]:
        kinds = {"MD5": hashlib.md5, "SHA": hashlib.sha1, "SHA-256": hashlib.sha256}
        if algorithm not in kinds:
            raise ValueError(f"it asks for Digest with {one_line(algorithm, 40)}, which is not spoken here")

        def digest(text: str) -> str:
            return str(kinds[algorithm](text.encode()).hexdigest())

        return digest, lambda secret, data: digest(f"{secret}:{data}")


class _Basic(urllib.request.HTTPBasicAuthHandler):
    """Python's, which does not take offence at servers that ask for Digest."""

    def http_error_401(self, request: Any, file: Any, code: int, message: str, headers: Any) -> Any:
        asked = " ".join(headers.get_all("www-authenticate", []))
        return super().http_error_401(request, file, code, message, headers) if "basic" in asked.lower() else None


class Reply:
    """A server's answer. headers: by any case; note: what a person should know of the connection, or ""."""

    def __init__(self, response: _Response, note: str, silence_s: float) -> None:
        self._response = response
        self.headers: Message = response.headers
        self.status = int(response.status)
        self.note = note
        response.limited.until, response.limited.silence = None, silence_s
        self.kind = response.headers.get_content_type() if "content-type" in response.headers else ""
        """image/jpeg, or "" where the server does not say."""
        self.length = response.length
        """Bytes of the body as the server says, None where it does not."""
        self._came = 0
        if self.kind.startswith("multipart/"):
            response.length = None  # some cameras write 0, or the length of the first picture

    def read_some(self, wait_s: float) -> bytes | None:
        """What has arrived; None when nothing does within `wait_s`, b"" at the end. Raises SourceError for a broken stream."""
        limited = self._response.limited
        limited.at_once = True
        try:
            held = bool(self._response.fp.peek(1)) if self._response.fp else False
        except OSError:
            held = False
        finally:
            limited.at_once = False
        if not held and self._response.fp and not limited.ready(wait_s):
            return None
        try:
            part = self._response.read1(_PORTION)
        except TimeoutError:
            return None
        except (http.client.HTTPException, ValueError, OSError) as error:
            raise SourceError(f"the connection broke ({_reason(error)})") from None
        self._came += len(part)
        return part

    def read_all(self, limit_s: float) -> bytes:
        """The rest of the body. Raises SourceError when it takes longer, is over MAX_BODY_BYTES, or shorter than was said."""
        self._response.limited.until = time.monotonic() + limit_s
        parts, size = [], 0
        try:
            while part := self._response.read1(_PORTION):
                parts.append(part)
                size += len(part)
                if size > MAX_BODY_BYTES:
                    raise SourceError(f"the picture is larger than {MAX_BODY_BYTES >> 20} MB")
        except TimeoutError:
            raise SourceError(f"the picture was not complete after {limit_s:.0f} s ({size} bytes came)") from None
        except (http.client.HTTPException, ValueError, OSError) as error:
            raise SourceError(f"the connection broke ({_reason(error)})") from None
        self._came += size
        self.check_whole()
        return b"".join(parts)

    def check_whole(self) -> None:
        """At the end of the body. Raises SourceError when less came than was said."""
        if self.length is not None and self._came < self.length:
            raise SourceError(f"the picture was cut off: {self._came} of {self.length} bytes came")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._response.close()


class Client:
    """Asks one address again and again. first_s: limit for connecting and the head; silence_s: for each wait afterwards."""

    def __init__(self, url: str, first_s: float, silence_s: float) -> None:
        address = parse_address(url)
        self.shown = shown_address(url)
        if address is None:
            raise SourceError(
                f"{self.shown} names no server: {why_no_address(url) or 'write it as http://192.168.1.5:8080/video'}"
            )
        self.address = address
        # What a person types into a browser may hold spaces; the part after # is not for servers.
        bare = replace(
            address, user=None, password=None, rest=address.rest.partition("#")[0].replace(" ", "%20") or "/"
        )
        self._url = bare.url
        self._first_s, self._silence_s = first_s, silence_s
        self._note = ""
        self._opener = self._make(_authorities())

    def get(self, headers: dict[str, str] | None = None) -> Reply:
        """Raises SourceError, with what went wrong; an answer of 304 is a reply."""
        request = urllib.request.Request(self._url, headers={"User-Agent": _AGENT, "Accept": "*/*", **(headers or {})})
        try:
            return self._reply(request)
        except urllib.error.URLError as error:
            private = _is_private(self.address.host) and not self._note
            if private and isinstance(error.reason, ssl.SSLCertVerificationError):
                # No authority signs addresses of a home network, and cameras sign their own.
                unchecked = ssl.create_default_context()
                unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
                self._opener, self._note = (
                    self._make(unchecked),
                    "its certificate is its own, so who answers is not certain",
                )
                return self.get(headers)
            raise SourceError(f"{self.shown}: {_reason(error.reason)}") from None

    def _reply(self, request: urllib.request.Request) -> Reply:
        try:
            response = self._opener.open(request, timeout=self._first_s)
            return Reply(response, self._note, self._silence_s)
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 304 and isinstance(error.fp, _Response):
                    return Reply(error.fp, self._note, self._silence_s)
                raise SourceError(f"{self.shown} {self._refusal(error)}") from None
        except urllib.error.URLError:
            raise
        except (http.client.HTTPException, TimeoutError, OSError, ValueError) as error:
            raise SourceError(f"{self.shown}: {_reason(error)}") from None

    def _refusal(self, error: urllib.error.HTTPError) -> str:
        # Python adds the address of a forbidden redirection, password and all.
        said = f"answers {error.code} {one_line(str(error.reason).partition(' - ')[0], 60)}".rstrip()
        if "infinite loop" in str(error.reason):
            return "leads in a circle from address to address; open it in a browser to see where it should lead"
        if error.code == 401 and self.address.user is not None:
            return f"{said}: it does not accept this user name and password"
        if error.code == 401:
            host = "HOST" if self.address.doubtful else self.address.host
            return f"{said}: it asks for a user name and password; give http://USER:PASSWORD@{host}/..."
        if error.code == 403:
            return f"{said}: it does not allow this; check the user's rights on the camera"
        if error.code in (404, 410):
            return f"{said}: there is nothing at this path; check the address"
        if error.code in (301, 302, 303, 307, 308):
            return f"{said}: it leads on to {one_line(mask_credentials(error.headers.get('Location', '?')), 120)}; give that"
        if error.code in (429, 503):
            return f"{said}: it is busy or has too many viewers"
        return f"{said}: the camera itself failed; restart it" if error.code >= 500 else said

    def _make(self, context: ssl.SSLContext) -> urllib.request.OpenerDirector:
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        if self.address.user is not None:
            passwords.add_password(None, self._url, self.address.user, self.address.password or "")
        # A proxy is for the world outside; a camera at home is not behind it.
        proxies = [urllib.request.ProxyHandler({})] if _is_private(self.address.host) else []
        return urllib.request.build_opener(
            *proxies,
            _Handler(),
            _SecureHandler(context),
            _Digest(passwords),
            _Basic(passwords),
        )


@cache
def _authorities() -> ssl.SSLContext:
    """Checks certificates against those that the system trusts. Reading them takes some 60 ms, once for all connections."""
    return ssl.create_default_context()


def _is_private(host: str) -> bool:
    """Whether a host is on a network of one's own."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return (
            host == "localhost"
            or "." not in host
            or host.endswith((".local", ".lan", ".home", ".internal", ".home.arpa"))
        )


def _reason(error: object) -> str:
    """What went wrong, for a person."""
    if isinstance(error, socket.gaierror):
        return "no machine of this name is known; check the address, or use the number of the camera"
    if isinstance(error, TimeoutError):
        return "it did not answer in time; check the address, the camera and the network"
    if isinstance(error, ConnectionRefusedError):
        return "it refuses the connection: nothing listens at this port; check the port, and whether the camera serves pictures"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({one_line(error.verify_message)}); SSL_CERT_FILE=FILE trusts one of your own"
    if isinstance(error, ssl.SSLError):
        return "it does not speak TLS at this port; try http:// instead of https://"
    if isinstance(error, http.client.RemoteDisconnected):
        return "it closed the connection without an answer"
    if isinstance(error, (http.client.BadStatusLine, http.client.UnknownProtocol)):
        return "what answers there does not speak HTTP; a camera's other address may begin with rtsp://"
    if isinstance(error, (http.client.LineTooLong, http.client.HTTPException)):
        return f"its answer makes no sense ({one_line(error, 80)})"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}; check the address and the network"
    return one_line(error, 120)
