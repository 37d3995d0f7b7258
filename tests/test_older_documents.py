"""Documents of earlier releases, written by hand as those wrote them: read with the keys of now, or refused in a line."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from attack_folders import WITHHELD, document_of, write_folder
from hypothesis import given
from hypothesis import strategies as st

from edge_tl.adversarial.document import DOCUMENT
from edge_tl.adversarial.evaluation.checkpoint import Checkpoint
from edge_tl.cli import invoke as run
from edge_tl.report.robustness.page import read_robustness
from edge_tl.training.run_folder import read_evaluated
from edge_tl_runtime.core.errors import BadModelError, UsageError
from edge_tl_runtime.core.formats import format_problem, renamed


def robustness_of_format_1(document: dict[str, Any]) -> dict[str, Any]:
    """The same document with the keys that the release before wrote, each put in its place by hand."""
    old = json.loads(json.dumps(document)) | {"format": 1}
    old["twin"] = old.pop("fp32_counterpart")
    models = old.pop("models_under_test")
    old["subjects"] = {"model": models["model"], "twin": models["fp32_counterpart"]}
    for pair in old["paired"].values():
        pair["only_twin"] = pair.pop("only_fp32_counterpart")
    old["smallest"]["twin"] = old["smallest"].pop("fp32_counterpart")
    for row in old["transfer"]:
        row["judged_by"] = row.pop("fooled")
    for alarm in old["alarms"]:
        alarm["subject"] = alarm.pop("role")
    return old


@pytest.mark.parametrize("changes", [{}, WITHHELD], ids=["plain", "withheld"])
def test_robustness_of_format_1_is_read_as_that_of_now(tmp_path, changes):
    now = document_of(**changes)
    old = robustness_of_format_1(now)
    assert not set(old) & {"fp32_counterpart", "models_under_test"}
    (tmp_path / DOCUMENT).write_text(json.dumps(old), "utf-8")
    assert read_robustness(tmp_path) == json.loads(json.dumps({**now, "training_overlap": None}))


def test_an_alarm_about_the_counterpart_keeps_its_file(tmp_path):
    old = robustness_of_format_1(document_of(**WITHHELD))
    old["alarms"][0]["subject"] = "twin"
    (tmp_path / DOCUMENT).write_text(json.dumps(old), "utf-8")
    assert read_robustness(tmp_path)["alarms"][0]["role"] == "fp32_counterpart"


def test_a_page_and_a_comparison_are_made_of_both_formats(tmp_path, capsys):
    write_folder(tmp_path / "old", robustness_of_format_1(document_of()))
    write_folder(tmp_path / "new")
    assert run(["report", str(tmp_path / "old"), str(tmp_path / "new"), "-o", str(tmp_path / "both.html")]) == 0
    assert "old" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (1, ""),
        (2, ""),
        (
            3,
            "is newer than this edge-tl: its format is 3, and this edge-tl reads 1 and 2; upgrade edge-tl here, or again",
        ),
        (
            0,
            "is of a release too old for this edge-tl: its format is 0, and this edge-tl reads 1 and 2; again with this release",
        ),
        (
            -1,
            "is of a release too old for this edge-tl: its format is -1, and this edge-tl reads 1 and 2; again with this release",
        ),
        (True, "says no format that can be read (True), and this edge-tl reads 1 and 2; again"),
        (2.0, "says no format that can be read (2.0), and this edge-tl reads 1 and 2; again"),
        ("2", "says no format that can be read ('2'), and this edge-tl reads 1 and 2; again"),
        (None, "says no format that can be read (None), and this edge-tl reads 1 and 2; again"),
        ([2], "says no format that can be read ([2]), and this edge-tl reads 1 and 2; again"),
        ("a\nb", "says no format that can be read ('a\\nb'), and this edge-tl reads 1 and 2; again"),
    ],
    ids=repr,
)
def test_the_line_says_which_side_is_older(found, said):
    assert format_problem(found, (1, 2), "again") == said


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["twin", "other", "role"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(json_values)
def test_renaming_changes_keys_alone_and_leads_back(value):
    there = renamed(value, {"twin": "counterpart"})
    assert '"twin":' not in json.dumps(there)
    assert renamed(there, {"counterpart": "twin"}) == value
    assert renamed(value, {}) == value


def test_an_interrupted_attack_of_the_release_before_goes_on(tmp_path):
    settings = {"preset": "quick", "seed": 0}
    old = {"plugins": {}, "settings": settings, "model": "ab", "twin": "cd", "photos": "ef"}
    new = {"plugins": {}, "settings": settings, "model": "ab", "fp32_counterpart": "cd", "photos": "ef"}
    begun = Checkpoint(tmp_path, old)
    (begun.folder / "0.npz").write_bytes(b"")
    assert Checkpoint(tmp_path, new).resumed
    with pytest.raises(UsageError, match="unfinished evaluation"):
        Checkpoint(tmp_path, {**new, "fp32_counterpart": "00"})
    (begun.folder / "identity.json").write_text("{", "utf-8")
    with pytest.raises(UsageError, match="unfinished evaluation"):
        Checkpoint(tmp_path, new)


def write_logits(path, value):
    names = np.frombuffer("ants/ก.jpg\0bees/b.jpg".encode(), np.uint8)
    logits, targets = np.full((2, 2), value, np.float32), np.array([0, 1])
    with path.open("wb") as file:
        np.savez(file, val_logits=logits, val_targets=targets, val_names=names)


def test_the_logits_of_an_older_run_are_read_under_their_old_name(tmp_path):
    assert read_evaluated(tmp_path) == {}
    write_logits(tmp_path / "judged.npz", 1)
    found = read_evaluated(tmp_path)["val"]
    assert (found.names, found.targets.tolist(), found.logits.tolist()) == (
        ("ants/ก.jpg", "bees/b.jpg"),
        [0, 1],
        [[1, 1]] * 2,
    )
    write_logits(tmp_path / "logits.npz", 2)
    assert read_evaluated(tmp_path)["val"].logits.max() == 2
    (tmp_path / "logits.npz").write_bytes(b"PK")
    with pytest.raises(BadModelError, match=r"logits\.npz is damaged"):
        read_evaluated(tmp_path)
    (tmp_path / "logits.npz").unlink()
    (tmp_path / "judged.npz").write_bytes(b"PK")
    with pytest.raises(BadModelError, match=r"judged\.npz is damaged"):
        read_evaluated(tmp_path)
