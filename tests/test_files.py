"""Files are whole: under kill -9, on a full disk, in folders that cannot be written."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from edge_tl_runtime.core.errors import OutputError
from edge_tl_runtime.core.files import atomic_path, write_bytes, write_together


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path):
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    process = python(
        """
        import sys, time
        from pathlib import Path
        from edge_tl_runtime.core.files import atomic_path
        with atomic_path(Path(sys.argv[1])) as temporary:
            temporary.write_bytes(b"half")
            print("writing", flush=True)
            time.sleep(60)
        """,
        target,
    )
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert target.read_bytes() == b"old"


def test_a_full_disk_is_one_error_and_leaves_the_old_file(tmp_path):
    """A limit on file size stands for the disk: the write fails in the middle in the same way."""
    target = tmp_path / "model.onnx"
    target.write_bytes(b"old")
    process = python(
        """
        import resource, signal, sys
        from pathlib import Path
        from edge_tl_runtime.core.errors import OutputError
        from edge_tl_runtime.core.files import write_bytes
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_bytes(Path(sys.argv[1]), b"x" * 100_000)
        except OutputError as error:
            print(error)
        """,
        target,
    )
    printed, _ = process.communicate()
    assert "cannot write" in printed
    assert "Traceback" not in printed
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_files_that_belong_together_change_together(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OutputError):
        write_together({tmp_path / "a": b"new", tmp_path / "a" / "below a file": b"new"})
    assert (tmp_path / "a").read_bytes() == b"old"
    write_together({tmp_path / "a": b"new", tmp_path / "b": b"new"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot create the folder"):
        write_bytes(tmp_path / "file" / "inner" / "model.onnx", b"x")
    with pytest.raises(OutputError, match="cannot"):
        write_bytes(Path("/proc/no-such-place/model.onnx"), b"x")


def test_an_error_in_the_block_leaves_nothing(tmp_path):
    def fail() -> None:
        with atomic_path(tmp_path / "a") as temporary:
            temporary.write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_readers_see_the_old_or_the_new_file(tmp_path):
    target = tmp_path / "value"
    write_bytes(target, b"0" * 50_000)
    writer = python(
        """
        import sys
        from pathlib import Path
        from edge_tl_runtime.core.files import write_bytes
        for turn in range(200):
            write_bytes(Path(sys.argv[1]), str(turn % 10).encode() * 50_000)
        """,
        target,
    )
    deadline = time.monotonic() + 30
    while writer.poll() is None and time.monotonic() < deadline:
        data = target.read_bytes()
        assert len(data) == 50_000
        assert len(set(data)) == 1
    assert writer.wait() == 0
