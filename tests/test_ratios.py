"""The figures of the benchmarks: what verdict one gets, that none is lost, and how a table and a page show them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from measure import in_turns, paired, paired_points, quartiles
from ratios import BEGIN, END, HERE, KINDS, Ratio, meets, put_section, read, record, table


@pytest.fixture
def figures(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "figures.jsonl"
    monkeypatch.setenv("EDGE_TL_RATIOS", str(path))
    return path


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
        {"headline": 1},
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
    monkeypatch.setattr(sys, "argv", [str(HERE / "studies" / "x.py")])
    record("of a study", "b", 1.0, headline=False)
    assert read(figures)[0][-1] == Ratio("of a study", "b", 1.0, script="studies/x.py", headline=False)
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


def test_turns_give_every_way_the_same_frames_in_the_same_order():
    seen = {"first": [], "second": []}
    found = in_turns([seen["first"].append, seen["second"].append], [1, 2, 3], 0, 2)
    assert seen["first"] == seen["second"]
    assert [len(times.latency) for times in found] == [20, 20]
    assert [len(times.cpu) for times in found] == [2, 2]
    # The frame before each turn is not counted.
    assert len(seen["first"]) == 22


def test_pairs_are_divided_pair_by_pair():
    assert paired([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == quartiles([2.0, 3.0, 4.0])


def test_wins_and_losses_stand_alike_in_one_table():
    rows = [
        Ratio("slower | than", "a peer", 1.25, 1.1, 1.4, script="x.py"),
        Ratio("faster", "a peer", 0.5, 0.4, 0.6, note="two\nlines"),
        Ratio("late", "the limit", 1.2, goal="<= 1.05"),
        Ratio("top-1", "FP32", -0.75, -1.5, -0.1, better="higher", kind="points"),
        Ratio("torn frames", "a long run", 0, goal="<= 0", kind="count"),
    ]
    lines = table(rows).splitlines()
    assert lines[0] == "| what | against | figure | goal or better | verdict | note |"
    assert lines[2:] == [
        r"| slower \| than | a peer | 1.250 (1.100 to 1.400) | lower | **loss** |  |",
        "| faster | a peer | 0.500 (0.400 to 0.600) | lower | win | two lines |",
        "| late | the limit | 1.200 | <= 1.05 | **missed** |  |",
        "| top-1 | FP32 | -0.8 points (-1.5 to -0.1) | higher | **loss** |  |",
        "| torn frames | a long run | 0 | <= 0 | met |  |",
    ]
    assert {line.replace(r"\|", "").count("|") for line in lines} == {7}


def test_a_table_without_notes_has_no_column_for_them():
    assert table([Ratio("a", "b", 1.0)]).splitlines()[0] == "| what | against | figure | goal or better | verdict |"


def test_no_figures_are_no_table():
    assert table([]) == ""


PAGE = f"""# Figures

### one, by hand

{BEGIN}

### one

old | rows

### two \\1

kept

{END}

### one, after
"""


def test_a_section_takes_the_place_of_the_one_of_its_title():
    once = put_section(PAGE, "one", "### one\n\nnew \\g<0>\n")
    assert once == PAGE.replace("old | rows", "new \\g<0>")
    assert put_section(once, "one", "### one\n\nnew \\g<0>\n") == once


def test_a_section_that_is_not_there_comes_last():
    once = put_section(PAGE, "three", "### three\n\nnew")
    assert once == PAGE.replace(END, f"### three\n\nnew\n\n{END}")
    assert put_section(f"a\n\n{BEGIN}\n{END}\n\nb\n", "x", "### x") == f"a\n\n{BEGIN}\n\n### x\n\n{END}\n\nb\n"


@given(st.lists(st.sampled_from(["a", "b", "c d"]), max_size=8))
def test_each_title_has_one_section_the_newest(titles):
    page = f"before\n{BEGIN}\n{END}\nafter"
    for number, title in enumerate(titles):
        page = put_section(page, title, f"### {title}\n\n{number}")
    newest = {title: number for number, title in enumerate(titles)}
    inside = page.split(BEGIN)[1].split(END)[0]
    assert inside.split() == " ".join(f"### {title} {number}" for title, number in newest.items()).split()
    assert (page.split("\n")[0], page.split("\n")[-1]) == ("before", "after")


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}"])
def test_a_page_without_its_two_marks_is_refused(text):
    with pytest.raises(ValueError, match="must hold"):
        put_section(text, "title", "### title")
