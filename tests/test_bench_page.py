"""The page of a benchmark and the comparison of several, from real short runs on coloured photos."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import scipy.stats
from browsers import browser as browser
from conftest import COLORS, THAI, write_photo
from html_page import Page
from page_audit import audit
from schema_checks import assert_fits

from edge_tl.cli import invoke as run
from edge_tl.report.bench.compare import compare_benches, results_in
from edge_tl.report.bench.page import write_bench_page
from edge_tl_runtime.bench.result import read_result, with_digest, write_result
from edge_tl_runtime.core.errors import UsageError

SHORT = ("--seconds", "0.3", "--calls", "20", "--batches", "1,2", "--frame-size", "64x48", "--photos", "0", "--quick")


@pytest.fixture(scope="module")
def fleet(color_model, solid, tmp_path_factory) -> Path:
    """A folder as two devices leave it: the second got three of the first's right answers wrong, and is slower."""
    root = tmp_path_factory.mktemp("fleet")
    photos = root / "photos"
    for label in COLORS:
        (photos / label).mkdir(parents=True)
        for number in range(4):
            write_photo(photos / label / f"{number}.png", solid(label, 48 + number, 64))
    results = root / "results"
    results.mkdir()
    first = results / "a bee <b>.json"
    assert run(["bench", str(color_model), "--data", str(photos), "--split", "all", "-o", str(first), *SHORT]) == 0
    document = read_result(first)
    assert document["parts"]["accuracy"]["outcomes"]["right"] == "1" * 12
    second = json.loads(json.dumps(document))
    second["machine"]["cpu"] = f"Cortex-{THAI}"
    second["parts"]["latency"]["p50_ms"] *= 7
    accuracy = second["parts"]["accuracy"]
    accuracy["outcomes"]["right"] = "000" + "1" * 9
    accuracy["top1"] |= {"rate": 0.75, "count": 9}
    write_result(results / f"{THAI}.json", with_digest(second))
    (results / "notes.json").write_text('{"kind": "shopping"}')
    return results


def test_the_page_of_a_result_shows_its_figures(fleet, tmp_path, capsys):
    result = fleet / "a bee <b>.json"
    page = tmp_path / "page.html"
    assert run(["report", str(result), "-o", str(page)]) == 0
    assert "page.html" in capsys.readouterr().out
    seen, document = Page(page.read_text()), read_result(result)
    latency = document["parts"]["latency"]
    for text in (
        f"{latency['p50_ms']:.2f} ms",
        "a bee <b>",
        "12 of 12",
        document["model"]["sha256"],
        document["sha256"],
        document["machine"]["cpu"],
        "right under the Square attack, epsilon",
        "an upper bound, by",
        "not measured",
    ):
        assert text in seen.line
    assert "script" not in seen.tags
    assert not [source for source in seen.sources if not source.startswith(("#", "data:"))]


def test_a_fleet_is_compared_photo_by_photo(fleet, tmp_path, capsys):
    page = tmp_path / "fleet.html"
    assert run(["report", str(fleet), "-o", str(page), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert_fits("report-bench", *rows)
    assert [row["result"] for row in rows] == ["a bee <b>", THAI]
    pair = rows[1]["pairs"]["0"]
    assert (pair["only_first"], pair["only_this"], pair["n"]) == (3, 0, 12)
    assert pair["p"] == pytest.approx(scipy.stats.binomtest(0, 3).pvalue)
    assert pair["difference"] == -0.25
    assert rows[1]["p50_ms"] == pytest.approx(7 * rows[0]["p50_ms"])
    line = Page(page.read_text()).line
    for text in ("2 benchmarks", f"Cortex-{THAI}", "75.0 %", "-25.0", "only first"):
        assert text in line


def test_the_table_of_a_fleet_has_each_figure_below_its_heading(fleet, tmp_path, capsys):
    assert run(["report", str(fleet), "-o", str(tmp_path / "fleet.html")]) == 0
    printed = capsys.readouterr().out.splitlines()
    heading = next(line for line in printed if "p50, ms" in line)
    row = next(line for line in printed if line.split()[:1] == [THAI])
    latency = read_result(fleet / f"{THAI}.json")["parts"]["latency"]
    for name, value in (("p50, ms", latency["p50_ms"]), ("p99, ms", latency["p99_ms"])):
        end = heading.index(name) + len(name)
        # Marks above Thai letters take no width of their own, so the row may be a few characters longer.
        assert f"{value:.2f}" in row[end - 8 : end + 4]


def test_what_no_result_measured_has_no_column(fleet, tmp_path, capsys):
    kept = tmp_path / "kept"
    kept.mkdir()
    for result in results_in(fleet):
        document = read_result(result)
        document["parts"] = {"accuracy": document["parts"]["accuracy"]}
        write_result(kept / result.name, with_digest(document))
    page = tmp_path / "page.html"
    assert run(["report", str(kept), "-o", str(page)]) == 0
    capsys.readouterr()
    headings = re.findall(r"<th>([^<]*)</th>", page.read_text("utf-8"))
    assert {"file, MB", "top-1"} <= set(headings)
    assert not {"photo, p50", "frame, p50", "memory, MB", "corruptions"} & set(headings)


def test_results_of_other_photos_are_not_paired(fleet, tmp_path):
    first = fleet / "a bee <b>.json"
    other = json.loads(json.dumps(read_result(first)))
    other["parts"]["accuracy"]["outcomes"]["photos"] = "0" * 64
    write_result(tmp_path / "other.json", with_digest(other))
    (_, row) = compare_benches([first, tmp_path / "other.json"])
    assert not row.pairs
    assert "other photos" in row.unpaired
    del other["parts"]["accuracy"]
    write_result(tmp_path / "speed.json", with_digest(other))
    (_, row) = compare_benches([first, tmp_path / "speed.json"])
    assert "no labelled photos" in row.unpaired


def test_an_altered_result_has_no_page(fleet, tmp_path, capsys):
    altered = tmp_path / "altered.json"
    text = (fleet / "a bee <b>.json").read_text()
    altered.write_text(text.replace('"count": 12', '"count": 11', 1))
    assert run(["report", str(altered)]) == 2
    error = capsys.readouterr().err
    assert "altered after it was written" in error
    assert error.count("\n") == 1
    assert not altered.with_suffix(".html").exists()


def test_a_fleet_with_a_damaged_result_is_refused_by_its_name(fleet, tmp_path, capsys):
    folder = tmp_path / "fleet"
    shutil.copytree(fleet, folder)
    damaged = folder / f"{THAI}.json"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    assert run(["report", str(folder)]) == 2
    assert THAI in capsys.readouterr().err
    with pytest.raises(UsageError, match="holds no result"):
        results_in(tmp_path)


def test_benches_and_runs_are_not_mixed(fleet, tmp_path, capsys):
    assert run(["report", str(fleet / "a bee <b>.json"), str(tmp_path)]) == 2
    assert "compare like with like" in capsys.readouterr().err


def test_the_pages_hold_in_a_browser(fleet, tmp_path, browser):
    for name, results in (("one", [fleet / "a bee <b>.json"]), ("many", [fleet])):
        page = tmp_path / f"{name}.html"
        assert run(["report", *map(str, results), "-o", str(page)]) == 0
        audit(browser, page.as_uri())


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (
            ("parts", "latency", "p50_ms"),
            "fast",
            "parts.latency.p50_ms is wrong: expected `float`, got `str`; measure again",
        ),
        (("parts", "accuracy", "outcomes", "right"), "12", "parts.accuracy.outcomes.right is wrong"),
        (("machine", "cpu"), None, "machine.cpu is wrong: expected `str`, got `null`"),
        (("model", "labels"), 1, "model.labels is wrong: expected `int` >= 2"),
        (("started",), "yesterday", "started is wrong"),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_a_result_that_fits_its_digest_and_not_its_class_is_refused_by_the_key(fleet, tmp_path, place, value, said):
    document = read_result(fleet / "a bee <b>.json")
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    write_result(tmp_path / "r.json", with_digest(document))
    with pytest.raises(UsageError, match=re.escape(said)):
        compare_benches([tmp_path / "r.json"])
    with pytest.raises(UsageError, match=re.escape(said)):
        write_bench_page(tmp_path / "r.json", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
