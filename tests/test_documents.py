"""Documents as classes: what the schemas say beside the classes, what is read back and refused, and what is not imported."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner

from edge_tl.schemas import DOCUMENTS, main, schema
from edge_tl_runtime.core.documents import checked
from edge_tl_runtime.evaluation.accuracy_claim import CLAIMS
from edge_tl_runtime.evaluation.documents import ClaimName
from edge_tl_runtime.pipeline.documents import RunLine

LINE: dict[str, Any] = {
    "label": "bee",
    "confidence": 0.5,
    "known": True,
    "top": [{"label": "bee", "confidence": 1}],
    "source": "camera",
    "frame": 0,
    "seconds": 0,
    "raw": {"label": "bee", "confidence": 0.5},
    "latency_ms": 1.5,
    "age_ms": 2,
    "fps": 30.0,
    "of_a_later_release": {"kept": []},
}


def test_claims_of_documents_are_those_of_the_program():
    assert get_args(ClaimName) == CLAIMS


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_schema_says_what_it_describes_and_stands_alone(name):
    made = schema(name)
    assert made["$id"] == f"urn:edge-tl:schema:{name}"
    assert list(made["properties"]) == list(DOCUMENTS[name].__annotations__)
    for part in (made, *made.get("$defs", {}).values()):
        # TypedDict's own docstring is that of dict.
        assert not part["description"].startswith("Dict()"), part["title"]
        assert part["description"], part["title"]
        assert all(text["description"][-1] in ".;:" for text in part["properties"].values() if "description" in text)


def test_descriptions_come_from_docstrings_also_of_the_class_that_is_extended():
    keys = schema("run")["properties"]
    assert keys["known"]["description"] == "Whether the label is to be believed."
    assert keys["time"]["description"] == "Of --log: when the frame was captured, ISO 8601."


def test_the_module_prints_one_schema_and_writes_all(tmp_path):
    one = CliRunner().invoke(main, ["predict"])
    assert one.exit_code == 0
    assert json.loads(one.output) == schema("predict")
    assert CliRunner().invoke(main, ["--to", str(tmp_path / "new")]).exit_code == 0
    written = {path.name: json.loads(path.read_text("utf-8")) for path in (tmp_path / "new").iterdir()}
    assert written == {f"{name}.schema.json": schema(name) for name in DOCUMENTS}
    assert CliRunner().invoke(main, ["nothing"]).exit_code == 2


def test_a_document_is_read_as_it_was_written():
    before = copy.deepcopy(LINE)
    assert checked(LINE, RunLine) is LINE
    assert before == LINE


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("label",), None, "label is wrong: expected `str`, got `null`"),
        (("known",), 1, "known is wrong: expected `bool`, got `int`"),
        (("confidence",), 1.5, "confidence is wrong: expected `float` <= 1.0"),
        (("confidence",), "0.5", "confidence is wrong: expected `float`, got `str`"),
        (("frame",), -1, "frame is wrong: expected `int` >= 0"),
        (("frame",), 0.5, "frame is wrong: expected `int`, got `float`"),
        (("frame",), True, "frame is wrong: expected `int`, got `bool`"),
        (("seconds",), [], "seconds is wrong: expected `float`, got `array`"),
        (("top",), {}, "top is wrong: expected `array`, got `object`"),
        (("top", 0), "bee", "top[0] is wrong: expected `object`, got `str`"),
        (("top", 0, "label"), 3, "top[0].label is wrong: expected `str`, got `int`"),
        (("raw",), {"label": "bee"}, "raw.confidence is missing"),
        (("raw", "confidence"), float("inf"), "raw.confidence is wrong: expected `float` <= 1.0"),
    ],
    ids=str,
)
def test_a_wrong_document_is_one_line_that_names_the_key(place, value, said):
    document = copy.deepcopy(LINE)
    inner: Any = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        checked(document, RunLine)


def test_what_is_missing_and_what_is_no_document_is_said():
    with pytest.raises(ValueError, match=r"^fps is missing$"):
        checked({key: value for key, value in LINE.items() if key != "fps"}, RunLine)
    with pytest.raises(ValueError, match=r"^the document is wrong: expected `object`, got `array`$"):
        checked([LINE], RunLine)


def test_commands_that_only_write_documents_do_not_import_what_reads_them():
    program = (
        "import sys\n"
        "import edge_tl.cli.evaluate, edge_tl.cli.predict, edge_tl.cli.run, edge_tl_runtime.run.assemble\n"
        "print([name for name in sys.modules if name == 'msgspec' or name.endswith('.documents')])\n"
    )
    root = Path(__file__).parents[1]
    path = ":".join(map(str, (root, root / "export", root / "runtime")))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env={"PYTHONPATH": path}
    )
    assert done.stdout.strip() == "[]", done.stderr
