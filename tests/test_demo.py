"""The demonstration, as `make demo` runs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from stopwatch import HANGING

from edge_tl.data.surfaces import CLASSES, write_surfaces


def test_the_same_seed_gives_the_same_photos(tmp_path):
    first, second = (write_surfaces(tmp_path / name, train=2, val=1) for name in "ab")
    files = sorted(path.relative_to(first) for path in first.rglob("*.jpg"))
    assert len(files) == 3 * len(CLASSES)
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes()


@pytest.mark.slow
def test_the_demo_ends_with_a_table_and_three_commands_that_work(tmp_path):
    demo = [sys.executable, "-m", "edge_tl", "demo", "-o", "demo"]
    result = subprocess.run(demo, cwd=tmp_path, capture_output=True, text=True, timeout=20 * HANGING, check=False)
    assert result.returncode == 0, result.stderr
    commands = [
        line.split("#")[0].split() for line in result.stdout.splitlines() if line.strip().startswith("edge-tl ")
    ]
    assert [command[1] for command in commands] == ["run", "train", "inspect"]
    inspect = [sys.executable, "-m", *commands[2], "--json"]
    inspect[2] = "edge_tl"
    document = json.loads(subprocess.run(inspect, cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    assert document["labels"] == list(CLASSES)
    assert document["validation"]["top1"] >= 0.9
