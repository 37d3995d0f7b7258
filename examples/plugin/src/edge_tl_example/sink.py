"""`lines:path=FILE`: one line for each result, appended to a file."""

from __future__ import annotations

from edge_tl.plugins import OutputError, Result, Sink


class Lines(Sink):
    name = "lines"

    def __init__(self, path: str, separator: str = " ") -> None:
        self._separator = separator
        try:
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  # closed by close()
        except OSError as error:
            raise OutputError(f"cannot append to {path} ({error.strerror}); choose another path") from None

    def write(self, result: Result) -> None:
        self._file.write(f"{result.label}{self._separator}{result.confidence:.3f}\n")

    def idle(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
