"""Write files so that a killed process leaves the old file or the new one, never half of either."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

from edge_tl_runtime.core.errors import OutputError


def make_folder(path: Path) -> Path:
    """Create `path` and its parents. Raises OutputError where that cannot be done."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create the folder {path}: {error.strerror}; choose another place") from None
    return path


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that replaces it when the block ends well and is removed when it does not.

    Raises OutputError on a full disk or a read-only folder.
    """
    import tempfile  # commands that only read do without

    make_folder(target.parent)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}; choose another place") from None
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}; free some space and try again") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(target: Path, data: bytes) -> None:
    """Replace `target` by `data` in one step."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def write_together(files: Mapping[Path, bytes]) -> None:
    """Replace several files: every byte is on the disk before the first takes its name, so a full disk changes none."""
    with contextlib.ExitStack() as stack:
        for target, data in files.items():
            stack.enter_context(atomic_path(target)).write_bytes(data)


def write_text(target: Path, text: str) -> None:
    """Replace `target` by `text`, as UTF-8, in one step."""
    write_bytes(target, text.encode("utf-8"))


def replace_text(target: Path, text: str) -> None:
    """Replace `target` in one step without waiting for the disk: for what is written every few seconds and may be lost with the
    power. Never replaces what is no plain file, such as /dev/null. Not for two threads at once. Raises OutputError."""
    temporary: Path | None = None
    try:
        if target.exists() and not target.is_file():
            raise OSError(errno.EINVAL, "not a regular file")
        # A name of its own: another runner may write to the same target.
        temporary = target.parent / f".{target.name}.{os.getpid()}"
        temporary.write_text(text, "utf-8", "backslashreplace")
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        raise OutputError(f"cannot write {target}: {error.strerror}; choose another place") from None


def read_regular(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes. Never waits and never takes more memory than the file's size.

    A file that grows meanwhile gives the bytes it had, one that shrinks gives fewer. Raises OSError, whose `strerror` is the
    reason, for everything else: pipes, devices, sockets, names that no file can have.
    """
    try:
        # Asked before opening: to open a device can have effects.
        _require_regular(os.stat(path))
        # A pipe that took the file's name since would make a plain open() wait for its writer.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            _require_regular(status)
            if status.st_size > limit:
                raise OSError(errno.EFBIG, f"larger than {(limit + 1) >> 20} MB")
            return file.read(status.st_size)
    except MemoryError:
        raise OSError(errno.ENOMEM, "too large for the memory of this machine") from None
    except ValueError:
        raise OSError(errno.EINVAL, "not a name that a file can have") from None


def text_or_empty(path: Path) -> str:
    """The text of a small file, such as those of the kernel; "" where it is not there or cannot be read."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def name_part(label: str) -> str:
    """A label as a part of a file name: letters, their marks and digits of any script, at most 60 bytes of UTF-8."""
    plain = "".join(x if x in "-." or unicodedata.category(x)[0] in "LMN" else "_" for x in label)
    plain = re.sub("_+", "_", plain).strip("._") or "label"
    return plain.encode()[:60].decode("utf-8", "ignore")


def _require_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "a folder")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")


def sha256(data: bytes) -> str:
    """The digest in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current
