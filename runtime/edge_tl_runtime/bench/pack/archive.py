"""The file around a pack: a zip whose bytes are covered by checksums, written alike each time and read with suspicion.

The members are `pack.json`, which lists every other with its size and SHA-256, and those, in the order listed. The comment of the
zip is the SHA-256 of `pack.json`: the identity of the pack.
"""

from __future__ import annotations

import json
import re
import stat
import threading
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edge_tl_runtime.core.errors import BadPackError, OutputError
from edge_tl_runtime.core.files import atomic_path, sha256
from edge_tl_runtime.core.strict_json import strict_json
from edge_tl_runtime.core.text import one_line, shell_command

MANIFEST = "pack.json"
MAX_MEMBERS = 200_000
MAX_MEMBER = 64 * 2**20
MAX_TOTAL = 4 * 2**30
"""Bytes after decompression, of one member and of all."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9._-]*)*\.(png|npy|json)")
_TIME = (1980, 1, 1, 0, 0, 0)
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LISTED = ("name", "bytes", "sha256")
_AGAIN = "fetch or make the pack again"


def write_archive(target: Path, manifest: Mapping[str, Any], members: Iterable[tuple[str, bytes]]) -> str:
    """Write a pack, the same bytes for the same contents; returns its identity. PNG is stored, the rest compressed.

    manifest: JSON values, looked at once every member is written, so that it may be filled in meanwhile; "members" is added here.
    Raises OutputError; nothing is left then.
    """
    with atomic_path(target) as partial:
        listed: list[dict[str, Any]] = []
        total = 0
        body = partial.with_name(partial.name + ".members")
        try:
            # The list comes first in the file and is known last: members wait in a file of their own, not in memory.
            with zipfile.ZipFile(body, "w", allowZip64=True) as waiting:
                for name, data in members:
                    listed.append({"name": name, "bytes": len(data), "sha256": sha256(data)})
                    total += len(data)
                    if total > MAX_TOTAL or len(data) > MAX_MEMBER:
                        raise OutputError(f"{target} would be larger than a pack can be; take fewer --photos")
                    waiting.writestr(_info(name), data)
            text = json.dumps({**manifest, "members": listed}, ensure_ascii=False, sort_keys=True, allow_nan=False)
            identity = sha256(text.encode("utf-8"))
            with zipfile.ZipFile(body) as waiting, zipfile.ZipFile(partial, "w", allowZip64=True) as archive:
                archive.comment = identity.encode("ascii")
                archive.writestr(_info(MANIFEST), text.encode("utf-8"))
                for item in listed:
                    archive.writestr(_info(item["name"]), waiting.read(item["name"]))
        finally:
            body.unlink(missing_ok=True)
    return identity


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _TIME)
    info.compress_type = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
    # What else would differ between systems.
    info.create_system, info.external_attr = 3, 0o644 << 16
    return info


class Archive:
    """An opened pack. Nothing is unpacked to disk; members are read, and checked, when they are asked for.

    sha256: the identity. manifest: what `pack.json` holds, of JSON values in bounds; its meaning is not checked here.
    """

    def __init__(self, path: Path) -> None:
        """Raises BadPackError for a file that is no pack or was altered where that shows before a member is read."""
        self.path = path
        self._lock = threading.Lock()
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise BadPackError(
                f"no pack at {path}; make one with: {shell_command('pack', 'MODEL', 'DATA', '-o', path)}"
            ) from None
        except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeDecodeError) as error:
            raise BadPackError(f"{path} is no pack, or cut short ({one_line(error)}); {_AGAIN}") from None
        except OSError as error:
            raise BadPackError(f"{path}: {error.strerror or one_line(error)}") from None
        try:
            self._infos = self._checked(path.stat().st_size)
            self.sha256 = self._zip.comment.decode("ascii", "replace")
            data = self._raw(MANIFEST, MAX_MEMBER)
            if sha256(data) != self.sha256:
                raise self._bad("its list of contents is not the one that was written")
            self.manifest = self._parsed(data)
            self._listed = self._compared()
        except BaseException:
            self._zip.close()
            raise

    def close(self) -> None:
        self._zip.close()

    def __contains__(self, name: object) -> bool:
        return name in self._listed

    def read(self, name: str) -> bytes:
        """The bytes of a member, which are those that were packed. Raises BadPackError when they are not."""
        if name not in self._listed:
            raise self._bad(f"{one_line(name, 60)} is not in it")
        size, digest = self._listed[name]
        data = self._raw(name, size)
        if sha256(data) != digest:
            raise self._bad(f"{name} is not what was packed")
        return data

    def verify(self) -> None:
        """Read every member once. Raises BadPackError when one is not what was packed."""
        for name in self._listed:
            self.read(name)

    def _bad(self, reason: str) -> BadPackError:
        return BadPackError(f"{self.path}: {reason}; {_AGAIN}")

    def _checked(self, file_size: int) -> dict[str, zipfile.ZipInfo]:
        """Members by name, by the list at the end of the zip, before anything is decompressed."""
        infos = self._zip.infolist()
        if len(infos) > MAX_MEMBERS:
            raise self._bad(f"{len(infos)} members are more than a pack has")
        found: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            name = one_line(info.filename, 60)
            if info.filename != MANIFEST and not _NAME.fullmatch(info.filename):
                raise self._bad(f"a member is called {name!r}, which no pack has")
            if info.filename in found:
                raise self._bad(f"{name} is in it twice")
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.flag_bits & 1 or info.compress_type not in _COMPRESSIONS or kind not in (0, stat.S_IFREG):
                raise self._bad(f"{name} is encrypted, a link, or compressed in a way that no pack is")
            if info.file_size > MAX_MEMBER:
                raise self._bad(f"{name} has {info.file_size} bytes, more than the {MAX_MEMBER} of any member")
            found[info.filename] = info
        if sum(info.file_size for info in infos) > MAX_TOTAL:
            raise self._bad(f"unpacked it has more than {MAX_TOTAL >> 30} GiB")
        if sum(info.compress_size for info in infos) > file_size:
            raise self._bad("members overlap")
        if MANIFEST not in found:
            raise self._bad(f"it has no {MANIFEST}")
        return found

    def _raw(self, name: str, size: int) -> bytes:
        """At most so many bytes of a member. Raises BadPackError when it is longer, or its checksum is wrong."""
        try:
            with self._lock, self._zip.open(self._infos[name]) as member:
                data = member.read(size + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
            raise self._bad(f"{name} is damaged ({one_line(error)})") from None
        except OSError as error:
            raise self._bad(f"{name} cannot be read ({error.strerror or one_line(error)})") from None
        if len(data) > size:
            raise self._bad(f"{name} is longer than its list says")
        return data

    def _parsed(self, data: bytes) -> dict[str, Any]:
        try:
            manifest = strict_json(data.decode("utf-8"))
        except (ValueError, UnicodeDecodeError) as error:
            raise self._bad(f"{MANIFEST}: {one_line(error)}") from None
        if not isinstance(manifest, dict):
            raise self._bad(f"{MANIFEST} is no JSON object")
        return manifest

    def _compared(self) -> dict[str, tuple[int, str]]:
        """Size and digest of each member, by the manifest, which must name exactly those that are there."""
        listed: dict[str, tuple[int, str]] = {}
        members = self.manifest.get("members")
        for item in members if isinstance(members, list) else ():
            name, size, digest = (item.get(key) for key in _LISTED) if isinstance(item, dict) else (None,) * 3
            if not isinstance(name, str) or not isinstance(digest, str) or type(size) is not int or size < 0:
                raise self._bad(f"{MANIFEST} lists {one_line(item, 60)}")
            listed[name] = (min(size, MAX_MEMBER), digest)
        if set(listed) != set(self._infos) - {MANIFEST}:
            names = sorted(set(listed) ^ (set(self._infos) - {MANIFEST}))
            raise self._bad(f"{one_line(names[0], 60)} is only in the list, or only in the file")
        return listed
