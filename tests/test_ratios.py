"""The one table of all benchmarks: how a figure is judged, that none is lost, and that no benchmark is left out of the run."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import steps
import workshop
from all import main
from ratios import BEGIN, END, KINDS, Ratio, meets, paired_points, put_between, quartiles, read, record, table
from steps import LIBRARIES, STEPS, Step

BENCHMARKS = Path(steps.__file__).parent
FIGURE = "from ratios import record\nrecord('a call', 'a bare call', {}, goal='<= 1.05')\nprint('measured')\n"


@pytest.fixture
def figures(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "figures.jsonl"
    monkeypatch.setenv("EDGE_TL_RATIOS", str(path))
    return path


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


@pytest.mark.parametrize(
    ("figure", "goal", "met"),
    [
        (1.05, "<= 1.05", True),
        (1.0500001, "<= 1.05", False),
        (0.95, ">= 0.95", True),
        (0.9499999, ">= 0.95", False),
        # In binary 1.03 - 1.00 is more than 0.03.
        (1.03, "1.00 +- 0.03", True),
        (0.97, "1.00 +- 0.03", True),
        (1.030001, "1.00 +- 0.03", False),
        (0.969999, "1.00 +- 0.03", False),
        (0, "<= 0", True),
        (1, "<= 0", False),
        (-0.5, "0 +- 0.5", True),
    ],
)
def test_a_goal_is_met_on_its_border_and_missed_beyond(figure, goal, met):
    assert meets(figure, goal) is met
    assert Ratio("a", "b", figure, goal=goal).verdict == ("met" if met else "missed")


@pytest.mark.parametrize(
    ("figure", "interval", "better", "kind", "verdict"),
    [
        (0.9, (0.8, 0.99), "lower", "ratio", "win"),
        (0.9, (0.8, 1.0), "lower", "ratio", "even"),
        (1.1, (1.01, 1.2), "lower", "ratio", "loss"),
        (1.1, (1.01, 1.2), "higher", "ratio", "win"),
        (0.9, (0.8, 0.99), "higher", "ratio", "loss"),
        (1.5, (1.4, 1.6), "", "ratio", ""),
        (0.27, (), "lower", "ratio", "win"),
        (1.01, (), "lower", "ratio", "even"),
        (1.03, (), "lower", "ratio", "loss"),
        (1.2, (-0.3, 2.7), "higher", "points", "even"),
        (1.2, (0.1, 2.3), "higher", "points", "win"),
        (-1.2, (-2.3, -0.1), "higher", "points", "loss"),
        (1, (), "lower", "count", "loss"),
        (0, (), "lower", "count", "even"),
    ],
)
def test_without_a_goal_the_interval_decides(figure, interval, better, kind, verdict):
    low, high = interval or (None, None)
    assert Ratio("a", "b", figure, low, high, better=better, kind=kind).verdict == verdict


@given(st.floats(0.01, 100), st.floats(0, 10), st.sampled_from(sorted(KINDS)))
def test_the_other_way_round_a_win_is_a_loss(figure, half, kind):
    first, second = (
        Ratio("a", "b", figure, figure - half, figure + half, better=better, kind=kind).verdict
        for better in ("lower", "higher")
    )
    assert {first, second} in ({"even"}, {"win", "loss"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"ratio": float("nan")},
        {"ratio": float("inf")},
        {"low": 1.0},
        {"low": 2.0, "high": 1.0},
        {"goal": "about 1"},
        {"goal": "<= one"},
        {"goal": "1.05"},
        {"better": "bigger"},
        {"kind": "percent"},
        {"what": ""},
    ],
    ids=str,
)
def test_what_no_table_could_say_is_refused_at_once(figures, wrong):
    given = {"what": "a", "against": "b", "ratio": 1.0, **wrong}
    with pytest.raises(ValueError, match=r"."):
        record(given.pop("what"), given.pop("against"), given.pop("ratio"), **given)
    assert not figures.exists()


def test_nothing_is_written_where_nobody_asks(tmp_path, monkeypatch):
    monkeypatch.delenv("EDGE_TL_RATIOS", raising=False)
    monkeypatch.chdir(tmp_path)
    record("a", "b", 1.0)
    assert list(tmp_path.iterdir()) == []


def test_figures_are_read_as_they_were_recorded(figures, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/ผึ้ง.py", "MODEL"])
    record("ผึ้ง", "a peer", 1.5, low=1.25, high=2, better="higher", note="why")
    record("top-1", "FP32", -0.5, kind="points")
    found, refused = read(figures)
    assert refused == []
    assert found == [
        Ratio("ผึ้ง", "a peer", 1.5, 1.25, 2.0, "", "higher", "why", "ผึ้ง.py"),
        Ratio("top-1", "FP32", -0.5, script="ผึ้ง.py", kind="points"),
    ]


def test_a_damaged_line_costs_itself_alone_and_is_told(figures):
    record("first", "b", 1.0)
    good = json.loads(figures.read_text("utf-8"))
    lines = [
        *('{"what": "cut of', "[1, 2]", "7", json.dumps({**good, "ratio": "1"}), json.dumps({**good, "more": 1})),
        *(json.dumps({**good, "ratio": float("nan")}), json.dumps({**good, "goal": "<= x"}), '{"what": "a"}'),
    ]
    with open(figures, "ab") as file:
        file.write("\n".join([*lines, "", ""]).encode() + b'{"what": "\xff"}\n')
    record("last", "b", 1.0)
    found, refused = read(figures)
    assert [ratio.what for ratio in found] == ["first", "last"]
    assert len(refused) == len(lines) + 1
    assert all(f"line {number} " in reason for number, reason in enumerate(refused[: len(lines)], 2))


def test_a_run_that_recorded_nothing_has_no_figures(tmp_path):
    assert read(tmp_path / "none.jsonl") == ([], [])


@pytest.mark.parametrize("values", [[1.0, 2.0, 3.0, 4.0, 5.0], [3.0], [2.0, 4.0]])
def test_quartiles_stay_within_what_was_measured(values):
    found = quartiles(values)
    assert min(values) <= found["low"] <= found["ratio"] <= found["high"] <= max(values)
    assert found["ratio"] == pytest.approx(sum(values) / len(values))


def test_points_are_of_the_photos_that_only_one_has_right():
    first, second = [True] * 5 + [False] * 5, [True] * 3 + [False] * 6 + [True]
    there, back = paired_points(first, second), paired_points(second, first)
    assert there["ratio"] == pytest.approx(100 * (2 - 1) / 10)
    # By hand: adjusted shares 3/12 and 2/12, half = 1.95996 sqrt((5/12 - (1/12)^2) / 12).
    half = 195.996 * ((5 / 12 - 1 / 144) / 12) ** 0.5
    assert (there["low"], there["high"]) == pytest.approx((100 / 12 - half, 100 / 12 + half), abs=1e-3)
    assert back == pytest.approx({"ratio": -there["ratio"], "low": -there["high"], "high": -there["low"]})


def test_photos_that_are_not_the_same_are_no_pairs():
    with pytest.raises(ValueError, match="zip"):
        paired_points([True, False], [True])


def test_wins_and_losses_stand_alike_a_table_for_each_kind():
    rows = [
        Ratio("slower | than", "a peer", 1.25, 1.1, 1.4, script="x.py"),
        Ratio("faster", "a peer", 0.5, 0.4, 0.6, note="two\nlines"),
        Ratio("late", "the limit", 1.2, goal="<= 1.05"),
        Ratio("top-1", "FP32", -0.75, -1.5, -0.1, better="higher", kind="points"),
        Ratio("torn frames", "a long run", 0, goal="<= 0", kind="count"),
    ]
    lines = table(rows).splitlines()
    assert [line for line in lines if line and "---" not in line and not line.startswith("| what")] == [
        r"| slower \| than | a peer | 1.250 | 1.100 to 1.400 | lower | **loss** | x.py |  |",
        "| faster | a peer | 0.500 | 0.400 to 0.600 | lower | win |  | two lines |",
        "| late | the limit | 1.200 |  | <= 1.05 | **missed** |  |  |",
        "| top-1 | FP32 | -0.8 | -1.5 to -0.1 | higher | **loss** |  |  |",
        "| torn frames | a long run | 0 |  | <= 0 | met |  |  |",
    ]
    assert sum("---" in line for line in lines) == 3
    assert {line.replace(r"\|", "").count("|") for line in lines if line} == {9}


def test_no_figures_are_no_table():
    assert table([]) == ""


def test_only_what_stands_between_the_marks_is_replaced():
    text = f"before\n\n{BEGIN}\nold\n| rows |\n{END}\n\nafter \\1\n"
    once = put_between(text, "new \\g<0>\n")
    assert once == f"before\n\n{BEGIN}\nnew \\g<0>\n{END}\n\nafter \\1\n"
    assert put_between(once, "new \\g<0>\n") == once


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"])
def test_a_page_without_its_two_marks_is_refused(text):
    with pytest.raises(ValueError, match="must hold"):
        put_between(text, "table")


def test_every_file_of_the_folder_is_a_step_or_a_library():
    files = {path.name for path in BENCHMARKS.glob("*.py") if not path.name.startswith("_")}
    assert files - {step.script for step in STEPS} == set(LIBRARIES)
    assert [step.script for step in STEPS if not (BENCHMARKS / step.script).is_file()] == []


def test_every_benchmark_hands_its_figures_over():
    scripts = [path for path in BENCHMARKS.glob("*.py") if path.name not in LIBRARIES and not path.name.startswith("_")]
    assert [path.name for path in scripts if "record(" not in path.read_text("utf-8")] == []


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
    assert [row.split(" | ")[2] for row in out.splitlines() if "| a call" in row] == ["1.010", "1.500", "1.020"]
    assert "- failed: About broken (`broken.py`): exit code 1: at all" in out
    assert "2 met, 1 missed" in out
    assert "without a figure" not in out
    assert document.index("| a call") < document.index("## About first") < document.index("## About last")
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
    assert "- without a figure: `alone.py`" in out
    assert "a quick run" in out


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
    page.write_text(f"{BEGIN}\n{END}\n")
    made = [script(tmp_path, name, text) for name, text in (("a", FIGURE.format(1)), ("b", stop), ("c", "print(1)"))]
    code, out, _, document = bench(made, "--into", str(page))
    assert code == 130
    assert "| a call" in out
    assert "| a call" in document
    assert "- failed: About b (`b.py`): interrupted" in document
    assert "- skipped: About c (`c.py`): interrupted before it" in document
    assert page.read_text() == f"{BEGIN}\n{END}\n"


def test_the_table_goes_between_the_marks_of_a_page(bench, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Figures\n{BEGIN}\nold\n{END}\nmore\n")
    code, out, _, _ = bench([script(tmp_path, "a", FIGURE.format(1))], "--into", str(page))
    assert code == 0
    assert page.read_text() == f"# Figures\n{BEGIN}\n{out.strip()}\n{END}\nmore\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--into", "{folder}/none.md"], "cannot put the table into"),
        (["--into", "{folder}/unmarked.md"], "must hold"),
        (["--into", "{folder}/page.md", "--only", "a"], "leave out --only"),
        (["--only", "b"], "no step runs b.py"),
        (["--go-on"], "name it with --keep"),
    ],
)
def test_what_cannot_end_well_is_refused_before_it_begins(bench, tmp_path, words, message):
    (tmp_path / "unmarked.md").write_text("nothing\n")
    (tmp_path / "page.md").write_text(f"{BEGIN}\n{END}\n")
    step = script(tmp_path, "a", f"open({str(tmp_path / 'ran')!r}, 'w')")
    code, _, err, document = bench([step], *(word.format(folder=tmp_path) for word in words))
    assert (code, document) == (2, "")
    assert message in err
    assert not (tmp_path / "ran").exists()


def test_only_runs_the_scripts_named(bench, tmp_path):
    made = [script(tmp_path, name, FIGURE.format(1)) for name in "ab"]
    _, _, err, _ = bench(made, "--only", "b")
    assert "[1/1] About b" in err


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


COUNTED = "from pathlib import Path\nran = Path(__file__).with_suffix('.ran')\nran.open('a').write('.')\n"
"""A script that counts how often it ran."""


def test_going_on_takes_what_ran_to_its_end_and_runs_the_rest(bench, tmp_path):
    kept = ("--keep", str(tmp_path / "kept"))
    last = "if len(ran.read_text()) == 1: raise SystemExit('the power went')\n"
    made = [
        script(tmp_path, "first", COUNTED + FIGURE.format(1.01)),
        script(tmp_path, "last", COUNTED + FIGURE.format(1.02) + last),
    ]
    assert bench(made, *kept)[0] == 1
    code, out, err, document = bench(made, *kept, "--go-on")
    assert code == 0
    assert [row.split(" | ")[2] for row in out.splitlines() if "| a call" in row] == ["1.010", "1.020"]
    assert document.count("measured") == 2
    assert re.search(r"- of a sitting before, \d{4}-\d\d-\d\d: `first.py`\n", out)
    assert "in the sitting of " in err
    assert [len((tmp_path / f"{name}.ran").read_text()) for name in ("first", "last")] == [1, 2]


@pytest.mark.parametrize("change", ["arguments", "setting", "damage", "no word of going on"])
def test_what_was_found_otherwise_is_found_again(bench, tmp_path, monkeypatch, change):
    kept = ("--keep", str(tmp_path / "kept"))
    assert bench([script(tmp_path, "a", COUNTED + FIGURE.format(1))], *kept)[0] == 0
    if change == "setting":
        monkeypatch.setattr("all.cpu_name", lambda: "another one")
    if change == "damage":
        (mark,) = (tmp_path / "kept").glob("step-a-*.json")
        mark.write_text(mark.read_text()[:-5])
    again = script(tmp_path, "a", COUNTED + FIGURE.format(1), "--other" if change == "arguments" else "")
    code, out, _, _ = bench([again], *kept, *([] if change.startswith("no word") else ["--go-on"]))
    assert code == 0
    assert out.count("| a call") == 1
    assert "of a sitting before" not in out
    assert (tmp_path / "a.ran").read_text() == ".."


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
