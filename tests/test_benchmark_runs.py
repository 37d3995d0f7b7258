"""The run of the benchmarks: that each script can be run, that none is left out, and that a run says what became of each."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import steps
import workshop
from all import main
from ratios import BEGIN, END
from steps import LIBRARIES, STEPS, STUDIES, Step

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
SCRIPTS = sorted(
    path.relative_to(BENCHMARKS).as_posix()
    for path in BENCHMARKS.rglob("[!_]*.py")
    if path.relative_to(BENCHMARKS).as_posix() not in LIBRARIES
)
FIGURE = "from ratios import record\nrecord('a call', 'a bare call', {}, goal='<= 1.05')\nprint('measured')\n"
PARSED = """
import argparse, json, runpy, sys
from pathlib import Path
parse = argparse.ArgumentParser.parse_args
def stop(*given, **more):
    parse(*given, **more)
    raise SystemExit("parsed")
argparse.ArgumentParser.parse_args = stop
for script, arguments in json.load(sys.stdin):
    folder, modules = str(Path(script).parent), set(sys.modules)
    sys.path.insert(0, folder)
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        print(script, *arguments, end="" if end.code == "parsed" else f": {end.code}")
    print()
    sys.path.remove(folder)
"""
"""Runs scripts until they have read their arguments, all in one process, and prints a line for each."""


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """Runs steps as `all.py` does. Gives the exit code, what it printed, what it said, and the document."""
    for variable in ("EDGE_TL_TEST_DATA", "EDGE_TL_ULTRALYTICS", "EDGE_TL_OPENVINO", "EDGE_TL_IMAGECORRUPTIONS"):
        monkeypatch.delenv(variable, raising=False)
    # A script lies in a folder of its own, and finds `ratios` as those of the project do.
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS))

    def run(made: list[Step], *words: str) -> tuple[int, str, str, str]:
        target = tmp_path / "document.md"
        code = main(["-o", str(target), *words], made, tmp_path)
        said = capsys.readouterr()
        return code, said.out, said.err, target.read_text("utf-8") if target.exists() else ""

    return run


def script(folder: Path, name: str, text: str, arguments: str = "", **more: object) -> Step:
    (folder / f"{name}.py").write_text(text, "utf-8")
    return Step(f"About {name}", f"{name}.py", arguments, **more)


def test_every_script_is_a_step():
    assert [name for name in SCRIPTS if name not in {step.script for step in STEPS}] == []
    assert [step.script for step in STEPS if step.script not in SCRIPTS] == []
    assert len({step.title for step in STEPS}) == len(STEPS)


def test_every_script_hands_its_figures_over():
    assert [name for name in SCRIPTS if "record(" not in (BENCHMARKS / name).read_text("utf-8")] == []


def test_every_headline_script_has_its_section_with_command_and_day():
    inside = (ROOT / "docs" / "BENCHMARKS.md").read_text("utf-8").split(BEGIN)[1].split(END)[0]
    sections = re.findall(r"^### (.+)\n\n`python benchmarks/(\S+)[^`]*`: \d{4}-\d\d-\d\d, ", inside, re.MULTILINE)
    assert inside.count("\n### ") == len(sections)
    assert sections == [(step.title, step.script) for step in STEPS if not step.script.startswith(STUDIES)]


@pytest.mark.slow
def test_every_step_is_a_call_that_its_script_takes():
    """Each script is loaded and reads its arguments, of a full run and of a quick one."""
    calls = list(dict.fromkeys((step.script, step.arguments(quick)) for step in STEPS for quick in (False, True)))
    given = [
        (
            str(BENCHMARKS / script),
            re.sub(r"[\[\]]", "", text).format(**dict.fromkeys(workshop.MATERIALS, "PATH")).split(),
        )
        for script, text in calls
    ]
    done = subprocess.run(
        [sys.executable, "-c", PARSED], input=json.dumps(given), capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == [" ".join([script, *words]) for script, words in given], done.stderr[-2000:]


@pytest.mark.parametrize("name", [*SCRIPTS, "all.py"])
def test_a_script_says_how_to_call_it_by_its_own_name(name):
    text = (BENCHMARKS / name).read_text("utf-8")
    assert re.findall(r"^    python (\S+)", text, re.MULTILINE)[:1] == [f"benchmarks/{name}"]


@pytest.mark.parametrize("step", STEPS, ids=[f"{step.script}: {step.title}" for step in STEPS])
def test_steps_ask_for_materials_that_exist(step):
    for quick in (False, True):
        asked = steps.fields(step.arguments(quick).replace("[", "").replace("]", ""))
        assert {*asked, step.python} <= set(workshop.MATERIALS)
        assert set(step.needs(quick)) <= set(asked)


def test_the_list_names_every_step(capsys):
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert [step for step in STEPS if f"{step.script} " not in listed or step.title not in listed] == []
    assert main(["--list", "--quick"]) == 0
    quick = capsys.readouterr().out
    assert [step.title for step in STEPS if (step.title in quick) != (step.quick is not None)] == []


def test_a_failing_step_ends_nothing_but_itself(bench, tmp_path):
    made = [
        script(tmp_path, "first", FIGURE.format(1.01)),
        script(tmp_path, "broken", FIGURE.format(1.5) + "raise SystemExit('no camera\\nat all')"),
        script(tmp_path, "last", FIGURE.format(1.02)),
    ]
    code, out, err, document = bench(made)
    assert code == 1
    for said in (out, document):
        assert [row.split(" | ")[2] for row in said.splitlines() if "| a call" in row] == ["1.010", "1.500", "1.020"]
    assert "- failed: About broken (`broken.py`): exit code 1: at all" in out
    assert "2 met, 1 missed" in out
    assert "without a figure" not in out
    assert document.index("- failed") < document.index("## About first") < document.index("## About last")
    assert document.count("measured") == 3
    assert "no camera\nat all\n```" in document
    assert err.count(" s\n") == 2
    assert "failed, " in err


def test_a_run_without_failures_ends_well_and_says_what_was_skipped(bench, tmp_path):
    made = [
        script(tmp_path, "peer", "raise SystemExit('it ran')", "{data} --ultralytics {ultralytics}"),
        script(tmp_path, "long", "raise SystemExit('it ran')", quick=None),
        script(tmp_path, "alone", "import sys\nprint(sys.argv[1:])", "one [--peer {ultralytics}] 'two words' [{data}]"),
    ]
    code, out, _, document = bench(made, "--quick")
    assert code == 0
    assert "- skipped: About peer" in out
    assert "EDGE_TL_TEST_DATA names no folder" in out or "EDGE_TL_ULTRALYTICS names no interpreter" in out
    assert "- skipped: About long (`long.py`): in a full run only" in out
    assert "['one', 'two words']" in document
    assert "- without a figure: About alone (`alone.py`)" in out
    assert "`: a quick run, 20" in document


def test_a_peer_that_is_named_is_handed_on(bench, tmp_path, monkeypatch):
    home = tmp_path / "with a space"
    home.mkdir()
    monkeypatch.setenv("EDGE_TL_IMAGECORRUPTIONS", str(home))
    made = [script(tmp_path, "peer", "import sys\nprint(sys.argv[1:])", "[--peer {imagecorruptions}] --photos 4")]
    code, _, _, document = bench(made)
    assert code == 0
    assert str(["--peer", str(home), "--photos", "4"]) in document
    assert "`python benchmarks/peer.py [--peer IMAGECORRUPTIONS] --photos 4`" in document


def test_a_peer_that_is_not_where_it_should_be_is_a_reason(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_TL_ULTRALYTICS", str(tmp_path / "gone"))
    code, out, _, _ = bench([script(tmp_path, "peer", "", "{ultralytics}")])
    assert code == 0
    assert f"EDGE_TL_ULTRALYTICS names {tmp_path}/gone, which is not there" in out


def test_a_step_ends_at_its_limit_with_all_it_started(bench, tmp_path):
    # On a busy machine the first limit may be over before the script has begun.
    for minutes in (0.01, 0.05, 0.5):
        text = (
            "import subprocess, sys, time\nprint('begun', flush=True)\n"
            f"child = 'import time, sys, pathlib; time.sleep({60 * minutes + 2}); pathlib.Path(sys.argv[1]).touch()'\n"
            f"subprocess.Popen([sys.executable, '-c', child, {str(tmp_path / 'outlived')!r}])\ntime.sleep(60)"
        )
        made = [script(tmp_path, "endless", text, minutes=minutes), script(tmp_path, "next", FIGURE.format(1))]
        code, out, _, document = bench(made)
        if "begun" in document:
            break
    assert code == 1
    assert f"stopped after its limit of {minutes} minutes" in out
    assert "begun" in document
    assert "| a call" in out
    time.sleep(3)
    assert not (tmp_path / "outlived").exists()


def test_an_interrupted_run_keeps_what_it_had(bench, tmp_path):
    stop = "import os, signal, time\nos.kill(os.getppid(), signal.SIGINT)\ntime.sleep(60)"
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n\n### About b\n\nof last year\n\n{END}\n")
    made = [script(tmp_path, name, text) for name, text in (("a", FIGURE.format(1)), ("b", stop), ("c", "print(1)"))]
    code, out, _, document = bench(made, "--into", str(page))
    assert code == 130
    assert "| a call" in out
    assert "| a call" in document
    assert "- failed: About b (`b.py`): interrupted" in document
    assert "- skipped: About c (`c.py`): interrupted before it" in document
    assert "| a call | a bare call | 1.000 | <= 1.05 | met |" in page.read_text()
    assert "### About b\n\nof last year\n\n###" in page.read_text()
    assert "About c" not in page.read_text()


def test_sections_of_headline_scripts_go_into_the_page(bench, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Figures\n\n{BEGIN}\n\n### About a\n\nold\n\n### About d\n\nby hand\n\n{END}\n\nmore\n")
    (tmp_path / "studies").mkdir()
    rest = "record('a part', 'a bare call', 1, headline=False)\n"
    made = [
        script(tmp_path, "a", FIGURE.format(1) + rest),
        script(tmp_path, "broken", FIGURE.format(1) + "raise SystemExit(1)"),
        script(tmp_path, "studies/c", FIGURE.format(2)),
        script(tmp_path, "d", "print('no figure')"),
    ]
    code, _, _, document = bench(made, "--into", str(page), "--only", "a", "broken", "c", "d")
    assert code == 1
    text = page.read_text()
    before, section, after = text.split("### ")
    assert (before, after) == (f"# Figures\n\n{BEGIN}\n\n", f"About d\n\nby hand\n\n{END}\n\nmore\n")
    assert re.match(r"About a\n\n`python benchmarks/a.py`: \d{4}-\d\d-\d\d, .+, \d+ cores, .+; Python 3", section)
    assert section.count("| a call") == 1
    assert "old" not in text
    assert "a part" not in text
    assert "| a part" in document
    assert "## About studies/c" in document


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--into", "{folder}/none.md"], "cannot put sections into"),
        (["--into", "{folder}/unmarked.md"], "must hold"),
        (["--only", "b"], "no script is called b"),
    ],
)
def test_what_cannot_end_well_is_refused_before_it_begins(bench, tmp_path, words, message):
    (tmp_path / "unmarked.md").write_text("nothing\n")
    step = script(tmp_path, "a", f"open({str(tmp_path / 'ran')!r}, 'w')")
    code, _, err, document = bench([step], *(word.format(folder=tmp_path) for word in words))
    assert (code, document) == (2, "")
    assert message in err
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("only", "ran"),
    [((), ["a", "b"]), (("b",), ["b"]), (("b.py", "studies/c.py"), ["b", "studies/c"]), (("c",), ["studies/c"])],
)
def test_a_study_runs_only_when_it_is_named(bench, tmp_path, only, ran):
    (tmp_path / "studies").mkdir()
    made = [script(tmp_path, name, FIGURE.format(1)) for name in ("a", "b", "studies/c")]
    _, _, err, _ = bench(made, *(["--only", *only] if only else []))
    assert re.findall(r"^\[\d/\d\] About (\S+)", err, re.MULTILINE) == ran


def test_a_kept_folder_keeps_materials_and_no_figures(bench, tmp_path, monkeypatch):
    made = []

    def model(shop: workshop.Workshop) -> Path:
        folder = shop.folder / "model"
        if not folder.exists():
            made.append(folder)
            folder.mkdir()
        return folder

    monkeypatch.setitem(workshop.MATERIALS, "model", model)
    both = [script(tmp_path, name, FIGURE.format(1), "{model}") for name in "ab"]
    for _ in range(2):
        code, out, _, _ = bench(both, "--keep", str(tmp_path / "kept"))
        assert code == 0
        assert out.count("| a call") == 2
    assert made == [tmp_path / "kept" / "model"]


def test_a_model_that_cannot_be_made_fails_the_steps_that_need_it(bench, tmp_path, monkeypatch):
    asked = []

    def model(shop: workshop.Workshop) -> Path:
        asked.append(shop)
        return shop.edge_tl("model", "model.onnx", "no-such-command")

    monkeypatch.setitem(workshop.MATERIALS, "model", model)
    made = [script(tmp_path, name, "print('it ran')", "{model}") for name in "ab"]
    code, out, _, document = bench(made)
    assert code == 1
    assert out.count("failed: About") == out.count("exit code 2: Error: No such command 'no-such-command'.") == 2
    assert "it ran" not in document
    assert len(asked) == 1
