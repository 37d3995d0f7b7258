"""Photos: one, a folder, a pattern, a list in a text file, or encoded pictures on standard input. Every picture counts."""

from __future__ import annotations

import glob
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from edge_tl_runtime.core.errors import BadImage, SourceError, UsageError
from edge_tl_runtime.core.files import read_regular
from edge_tl_runtime.core.progress import Say, silent
from edge_tl_runtime.core.text import one_line
from edge_tl_runtime.core.threads import map_in_order
from edge_tl_runtime.images.datasets.missing import looks_like_a_file, name_beside
from edge_tl_runtime.images.datasets.survey import Unreadable, look, survey, why_none_of
from edge_tl_runtime.images.datasets.tally import by_note, say_adjusted
from edge_tl_runtime.images.decode import Frame, decode_noted, read_file
from edge_tl_runtime.images.formats.several import SEVERAL, picture_count
from edge_tl_runtime.sources.address import shown_address
from edge_tl_runtime.sources.base import FrameRecord, Source
from edge_tl_runtime.sources.picture_splitter import split_pictures

LISTS = frozenset({".txt", ".lst", ".list"})
MAX_LIST_BYTES = 64 * 2**20
TERMINAL = (
    "standard input is a terminal; give photos or a video on it, as in: cat *.jpg | edge-tl run MODEL --source - "
    "or: rpicam-vid -t 0 -n -o - | edge-tl run MODEL --source -"
)


class Photos(Source):
    """One photo, a folder of photos, a glob or a list file, in order; unreadable ones are listed in `skipped`."""

    hold_s = 1.0
    sequence = False

    def __init__(self, name: str, say: Say = silent) -> None:
        """say: told of files that hold more than the one picture that is used, and of those whose pixels had to be changed."""
        super().__init__(name)
        self._say = say
        self.adjusted: dict[str, tuple[str, ...]] = {}
        """After all were read: names of photos that are not taken just as they are stored, by what was done."""
        path = Path(name)
        self.paths: list[Path]
        if path.is_dir():
            found = survey(path)
            self.paths = list(found.photos)
            for item in found.passed_over:
                self.skip(item)
        elif path.suffix.lower() in LISTS and path.is_file():
            self.paths = read_list(path)
        elif path.exists():
            self.paths = [path]
        else:
            self.paths = self._matching(name)
        if not self.paths:
            found_instead = why_none_of(self.skipped)
            # A name that is not shown as it stands may hold a password: then no part of it is repeated.
            if looks_like_a_file(name) and not path.exists() and shown_address(name) == name and "://" not in name:
                raise SourceError(f"no photos at {name}: no such file{name_beside(path)}")
            raise SourceError(
                f"no photos at {shown_address(name)}{found_instead}"
                + ("" if found_instead else "; give a photo, a folder, a pattern, a video or a camera index")
            )

    def _matching(self, pattern: str) -> list[Path]:
        """Photos that a pattern names; the other files it names are passed over, folders are those of `**`."""
        photos = []
        for match in sorted(map(Path, glob.glob(pattern, recursive=True))):
            if match.is_dir():
                continue
            item = look(match)
            if item is None:
                photos.append(match)
            else:
                self.skip(item)
        return photos

    def __iter__(self) -> Iterator[FrameRecord]:
        def read(path: Path) -> tuple[str, Frame | Unreadable]:
            try:
                data = read_file(path)
                frame, notes = decode_noted(data)
                if notes:
                    noted[path] = notes
                if SEVERAL in notes:
                    several.add(one_line(path), data)
                return str(path), frame
            except BadImage as error:
                return str(path), look(path) or Unreadable(path, str(error))

        several = _Several()
        noted: dict[Path, tuple[str, ...]] = {}
        yield from _records(self, map_in_order(read, self.paths))
        self.adjusted = by_note((str(path), noted[path]) for path in self.paths if path in noted)
        several.tell(self._say)
        for line in say_adjusted({note: names for note, names in self.adjusted.items() if note != SEVERAL}):
            self._say(line)


class StandardInput(Source):
    """Encoded pictures one after the other on standard input, as `ffmpeg -f image2pipe` or `cat *.jpg` write them."""

    sequence = False

    def __init__(
        self,
        name: str,
        stream: BinaryIO | None = None,
        head: bytes = b"",
        say: Say = silent,
    ) -> None:
        """head: what was read from the stream already. say: as in Photos."""
        super().__init__("standard input")
        if stream is None and sys.stdin.isatty():
            raise UsageError(TERMINAL)
        self._stream = sys.stdin.buffer if stream is None else stream
        self._head = head
        self._say = say

    def __iter__(self) -> Iterator[FrameRecord]:
        def read(numbered: tuple[int, bytes | BadImage]) -> tuple[str, Frame | Unreadable]:
            number, data = numbered
            try:
                if isinstance(data, BadImage):
                    raise data
                frame, notes = decode_noted(data)
                if SEVERAL in notes:
                    several.add(f"picture {number + 1}", data)
                return self.name, frame
            except BadImage as error:
                return self.name, Unreadable(Path(f"{self.name}, picture {number + 1}"), str(error))

        several = _Several()
        # One by one, not ahead of the reader: whoever writes should see at once what was read.
        yield from _records(self, map(read, enumerate(split_pictures(self._stream, self._is_over, self._head))))
        several.tell(self._say)

    def _is_over(self) -> bool:
        """Asked every WAKE_S while nothing comes, so that a silent pipe is not taken for a loop that hangs."""
        self.beat = time.monotonic()
        return self.stopping


class _Several:
    """Files that hold more pictures than the one that is used."""

    def __init__(self) -> None:
        self._found: list[tuple[str, int]] = []

    def add(self, name: str, data: bytes) -> None:
        self._found.append((name, picture_count(data)))

    def tell(self, say: Say) -> None:
        if not self._found:
            return
        name, number = min(self._found)  # several threads find them
        first = f"{name} holds {number if number > 1 else 'several'} pictures"
        if len(self._found) == 1:
            say(f"{first}; the first is used. To use all, save them as files of their own or as a video")
        else:
            say(
                f"{len(self._found)} files hold more than one picture (such as: {first}); the first of each is used. To "
                "use all, save them as files of their own"
            )


def read_list(path: Path) -> list[Path]:
    """The photos that a text file names, one a line, relative to the file's folder; empty lines and `# ...` are passed over.

    Raises SourceError for a file that is not text, or larger than MAX_LIST_BYTES.
    """
    try:
        lines = read_regular(path, MAX_LIST_BYTES).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise SourceError(f"cannot read the list {one_line(path)}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SourceError(
            f"{one_line(path)} is not text; a list holds the path of one photo a line, in UTF-8"
        ) from None
    names = (line.strip() for line in lines)
    return [path.parent / name for name in names if name and not name.startswith("#")]


def _records(source: Source, pictures: Iterable[tuple[str, Frame | Unreadable]]) -> Iterator[FrameRecord]:
    started = time.monotonic()
    index = 0
    for name, picture in pictures:
        if source.stopping:
            return
        if isinstance(picture, Unreadable):
            source.skip(picture)
            continue
        now = time.monotonic()
        yield FrameRecord(picture, name, index, now - started, now)
        index += 1
    source.ended = True
