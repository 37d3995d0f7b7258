"""Fetch a file over HTTP so that a broken connection costs nothing but time.

What has arrived is kept beside the target as `NAME.part`; the next attempt, in this process or a later one, asks for the
rest. The target appears only when its checksum is right.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from edge_tl_runtime.core.errors import EdgeTLError, OutputError
from edge_tl_runtime.core.progress import Progress

TIMEOUT_S = 30.0
ATTEMPTS = 5
_BLOCK = 1 << 18

Wait = Callable[[float], None]


class DownloadError(EdgeTLError):
    """The file could not be fetched, or is not the one that was published."""


@dataclass(frozen=True)
class Remote:
    """A published file. checksum: "sha256:..." or "md5:...", a prefix of the digits will do; "" when none is published."""

    url: str
    checksum: str = ""

    @property
    def name(self) -> str:
        return Path(urlsplit(self.url).path).name

    def mirrored(self, variable: str) -> Remote:
        """With scheme and host replaced by the base URL in the environment's `variable`, for closed networks."""
        mirror = os.environ.get(variable)
        if not mirror:
            return self
        base, own = urlsplit(mirror), urlsplit(self.url)
        return Remote(urlunsplit((base.scheme, base.netloc, base.path.rstrip("/") + own.path, "", "")), self.checksum)


def fetch(remote: Remote, target: Path, progress: Progress = lambda done: None, wait: Wait = time.sleep) -> Path:
    """Download to `target` unless it is there. progress: bytes just received, those of an earlier attempt included.

    Raises DownloadError with the last reason after ATTEMPTS broken connections without progress, or when the checksum is
    wrong twice; OutputError when the disk is full.
    """
    if target.is_file():
        return target
    part = target.with_name(target.name + ".part")
    failures, corrupt = 0, False
    if part.is_file():
        progress(part.stat().st_size)
    while True:
        before = part.stat().st_size if part.is_file() else 0
        try:
            _receive(remote.url, part, progress)
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                raise DownloadError(f"cannot download {remote.url}: {error.code} {error.reason}") from None
            failures, reason = failures + 1, f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise OutputError(f"cannot write {part}: {error.strerror}; free some space and try again") from None
            grown = part.is_file() and part.stat().st_size > before
            failures, reason = (0 if grown else failures + 1), str(getattr(error, "reason", None) or error)
        else:
            if _matches(part, remote.checksum):
                os.replace(part, target)
                return target
            part.unlink()
            if corrupt:
                raise DownloadError(f"{remote.url} is not the published file (its checksum differs); try again later")
            corrupt = True
            continue
        if failures >= ATTEMPTS:
            raise DownloadError(f"cannot download {remote.url} ({reason}); check the network; what arrived is kept")
        wait(min(8.0, 0.5 * 2**failures))


def _receive(url: str, part: Path, progress: Progress) -> None:
    """Append to `part` what is still missing. Raises OSError or HTTPException for a connection that ends early."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(
        url, headers={"User-Agent": "edge-tl"} | ({"Range": f"bytes={have}-"} if have else {})
    )
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send
            return
        raise
    with contextlib.closing(response):
        resumed = response.status == 206
        expected = response.headers.get("Content-Length")
        received = 0
        try:
            output = open(part, "ab" if resumed else "wb")  # noqa: SIM115
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(part)) from None
        with output:
            while block := response.read(_BLOCK):
                try:
                    output.write(block)
                    output.flush()
                except OSError as error:
                    raise OSError(error.errno, error.strerror, str(part)) from None
                received += len(block)
                progress(len(block))
        if expected is not None and received < int(expected):
            raise http.client.IncompleteRead(b"", int(expected) - received)


def _matches(path: Path, checksum: str) -> bool:
    if not checksum:
        return True
    kind, _, digits = checksum.partition(":")
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest().startswith(digits)
