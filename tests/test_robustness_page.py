"""The page of a robustness evaluation and the comparison of several, on folders made by hand."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import asdict

import cv2
import numpy as np
import pytest
import scipy.stats
from attack_folders import (
    CORRUPTED,
    LABELS,
    PHOTOS,
    RULE,
    WITHHELD,
    attack,
    document_of,
    hardened,
    lean,
    pixels_of,
    rate,
    subject,
    write_folder,
)
from browsers import browser as browser
from conftest import THAI, write_photo
from html_page import Page
from page_audit import audit
from schema_checks import assert_fits

from edge_tl.adversarial.settings import DreamSettings
from edge_tl.cli import invoke as run
from edge_tl.report.robustness.compare import compare_robustness
from edge_tl.report.robustness.dreams import read_gallery
from edge_tl.report.robustness.page import PAGE, _by_group, read_robustness, write_robustness_page
from edge_tl.report.robustness.pictures import heat, triplets
from edge_tl.report.robustness.plots import _doublings
from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.images.uncrop import uncrop


@pytest.fixture(scope="module")
def bees(tmp_path_factory):
    """An attack's folder with its page, for tests that only look."""
    folder = write_folder(tmp_path_factory.mktemp("attacks") / "bees")
    write_robustness_page(folder)
    return folder


# The page


def test_the_page_is_whole_and_by_itself(bees):
    path = bees / PAGE
    text = path.read_text()
    page = Page(text)
    assert "script" not in page.tags
    assert all(source.startswith(("data:image/", "#")) for source in page.sources)
    assert not re.search(r"url\((?!#)|@import|http(?!://www\.w3\.org|://purl\.org|://creativecommons\.org)", text)
    assert page.tags.count("img") == 9
    for words in (
        "80.0 % right, 40.0 % under attack at 1/255",
        "still right at epsilon 1/255",
        "the network's input pixels, after crop and resize",
        "transfer",
        "epsilon 0 is the clean accuracy pass",
        "a large epsilon fools all: square FAIL",
        "JPEG quality 95 weaker threat",
        "INT8 loses 5.0 points more",
        "SHA-256",
        "avx2, avx512f",
        THAI,
        LABELS[2],
    ):
        assert words in page.line, words
    assert path.stat().st_size < 1_000_000
    assert write_robustness_page(bees) == path
    assert path.read_text() == text


def test_plots_are_files_too(bees):
    names = {path.stem for path in (bees / "plots").iterdir()}
    ways = ("straight-through", "bpda", "transfer", "black-box")
    wanted = {f"{kind}-{way}" for kind in ("success", "queries") for way in ways}
    assert names == {"worst", "heat", "heat-profile", *wanted}
    for path in (bees / "plots").iterdir():
        assert cv2.imread(str(path)).std() > 5


def test_what_all_attacks_together_fool_is_their_union(bees):
    line = Page((bees / PAGE).read_text()).line
    row = line[line.index("any of them") :]
    # 16 were right and 8, 4 and 0 stay so: 8, 12 and 16 of 16 are fooled.
    interval = scipy.stats.binomtest(8, 16).proportion_ci(0.95, "wilson")
    assert row.startswith(
        f"any of them but the control 50.0 % {100 * interval.low:.1f} to {100 * interval.high:.1f} 75.0 %"
    )
    assert "100.0 %" in row[:120]


def test_an_alarm_withholds_the_figure_and_says_why(tmp_path):
    line = Page(write_robustness_page(write_folder(tmp_path / "bees", lean(**WITHHELD))).read_text()).line
    assert "The robust accuracy is withheld" in line
    alarm = WITHHELD["alarms"][0]
    assert line.index(alarm["name"]) < line.index(alarm["text"]) < line.index(alarm["explanation"])
    assert line.count("withheld still right at epsilon") == 3
    assert line.index("withheld still right") < line.index("Threat model")
    assert "INT8, withheld" in line  # the curve says so too


def test_bounds_are_written_as_bounds(tmp_path):
    document = lean(complete=False)
    model = document["models_under_test"]["model"]
    model["worst"]["1"]["bound"] = model["attacks"][1]["success"]["1"]["bound"] = True
    line = Page(write_robustness_page(write_folder(tmp_path / "bees", document)).read_text()).line
    assert "≤ 40.0 % still right at epsilon 1/255" in line
    assert re.search(r"square black-box ≥ 12\.5 %", line)
    assert re.search(r"any of them but the control ≥ 50\.0 %", line)


def test_a_wanted_answer_is_a_success_rate(tmp_path):
    document = lean(robust_accuracy=None, success_rate={"1": rate(3, 16), "2": rate(5, 16), "4": rate(9, 16)})
    document["threat"]["goal"] = f"to {LABELS[1]}"
    line = Page(write_robustness_page(write_folder(tmp_path / "bees", document)).read_text()).line
    assert "18.8 % get the wanted answer at epsilon 1/255" in line
    assert f"to {THAI}" in line


def test_the_least_that_an_attack_can_find_is_shown(tmp_path):
    """No counterpart, no gradients, nothing right, nothing fooled, no pictures."""
    document = document_of(
        fp32_counterpart=None, clean_accuracy=rate(0, PHOTOS), paired={}, smallest=None, quantization=None, transfer=[],
        faithfulness=None, routes_absent=[{"route": "straight-through", "why": "the graph holds <Loop>"}],
    )  # fmt: skip
    empty = {"median": None, "p90": None}
    square = attack("square", "", "black-box", (0, 0, 0), 0)
    square |= {"curve": {}, "queries": dict.fromkeys(square["success"], empty)}
    document["models_under_test"] = {"model": subject("FP32", 0, (0, 0, 0), [square])}
    folder = write_folder(tmp_path / "bees", document, examples=0)
    line = Page(write_robustness_page(folder).read_text()).line
    assert "the graph holds <Loop>" in line
    assert "Worst cases" not in line
    assert not (folder / "plots" / "heat.png").exists()


def test_l2_radii_are_not_of_255(tmp_path):
    text = json.dumps(lean()).replace('"norm": "linf"', '"norm": "l2"')
    for old, new in (("1", "0.25"), ("2", "0.5")):
        text = text.replace(f'"{old}": {{', f'"{new}": {{').replace(f'"{old}": [', f'"{new}": [')
    line = Page(write_robustness_page(write_folder(tmp_path / "bees", json.loads(text))).read_text()).line
    assert "still right at epsilon 0.25, 8 of 20 photos 21.9 to 61.3 (95 %)" in line
    assert "/255" not in line.replace("at 1/255", "").replace("0 points more at 1/255", "")


def test_corruptions_are_a_table_and_a_plot_by_group(tmp_path):
    folder = write_folder(tmp_path / "bees", lean(corruptions=CORRUPTED), examples=0)
    line = Page(write_robustness_page(folder).read_text()).line
    assert (
        "Accuracy 55.0 % (95 % interval 34.0 to 74.0) on average over 3 corruptions, 80.0 % on the same 20 photos"
        in line
    )
    assert "Cut short by the time limit" in line
    assert re.search(r"low_light camera 60\.0 % .{1,20} 20\.0 % .{1,20} 40\.0 %", line)
    assert (folder / "plots" / "corruptions.png").exists()
    groups, clean = _by_group(CORRUPTED)
    # (16 + 12) / 2 and (10 + 4) / 2 of 20.
    assert groups == {"camera": {1: 0.7, 5: 0.35}, "weather": {1: 0.7, 5: 0.5}}
    assert clean == 0.8


# Pictures


def test_a_triplet_shows_the_difference_around_grey(tmp_path):
    folder = write_folder(tmp_path / "bees")
    found = list(triplets(folder, read_robustness(folder)["examples"], RULE, 2))
    assert [item.example["after"]["confidence"] for item in found] == [0.999, 0.989]
    first = found[0]
    assert (first.largest, first.factor) == (1, 64)
    assert first.length == pytest.approx(np.sqrt(RULE.height * RULE.width / 2 * 3) / 255)
    clean, difference, adversarial = (decoded(uri) for uri in first.images)
    assert np.abs(clean - pixels_of(0, 1)[0][..., ::-1]).mean() < 4
    assert np.abs(adversarial - pixels_of(0, 1)[1][..., ::-1]).mean() < 4
    assert difference[:, :20].mean() == pytest.approx(128 + 64, abs=1)
    assert difference[:, 28:].mean() == pytest.approx(128, abs=1)


def test_a_sparse_change_is_amplified_by_what_is_typical_of_it(tmp_path):
    folder = write_folder(tmp_path / "bees")
    clean = pixels_of(0, 1)[0]
    adversarial = clean.copy()
    adversarial[:10, :10] += 1
    adversarial[0, 0] += 30
    write_photo(folder / "sparse.png", uncrop(adversarial, RULE))
    example = {**read_robustness(folder)["examples"][0], "adversarial": "sparse.png"}
    (found,) = triplets(folder, [example], RULE, 1)
    assert (found.largest, found.factor) == (31, 64)
    difference = decoded(found.images[1])
    assert difference[2:8, 2:8].mean() == pytest.approx(128 + 64, abs=2)


def decoded(uri):
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).astype(float)


def test_each_photo_is_shown_once_and_lost_pictures_are_passed_over(tmp_path):
    folder = write_folder(tmp_path / "bees")
    examples = read_robustness(folder)["examples"]
    (folder / examples[0]["adversarial"]).unlink()
    (folder / examples[1]["clean"]).write_bytes(b"not a picture")
    found = list(triplets(folder, [*examples, *examples], RULE, 12))
    assert [item.example["photo"] for item in found] == [examples[2]["photo"]]


def test_pictures_from_elsewhere_are_not_taken_into_the_page(tmp_path):
    folder = write_folder(tmp_path / "bees")
    example = read_robustness(folder)["examples"][0]
    secret = write_photo(tmp_path / "secret.png", uncrop(pixels_of(9, 1)[0], RULE))
    (folder / "link.png").symlink_to(secret)
    for place in ("../secret.png", str(secret), "link.png"):
        assert not list(triplets(folder, [{**example, "clean": place}], RULE, 12))
        assert heat(folder, [{**example, "adversarial": place}], RULE, "") is None


def test_heat_is_the_mean_change_at_each_place(tmp_path):
    folder = write_folder(tmp_path / "bees")
    found = heat(folder, read_robustness(folder)["examples"], RULE, "")
    left = found.mean[:, : RULE.width // 2]
    assert found.photos == 3
    assert (left == (1 + 1 + 4) / 3).all()
    assert not found.mean[:, RULE.width // 2 :].any()
    # Half of every ring is in the left half, so no ring has more than another.
    np.testing.assert_allclose(found.profile, 1.0)
    assert found.central == pytest.approx(0.25)
    assert found.even == pytest.approx(0.25)


def test_the_page_says_when_the_pictures_are_gone(tmp_path):
    folder = write_folder(tmp_path / "bees", lean())
    for path in folder.rglob("*.png"):
        path.unlink()
    page = Page(write_robustness_page(folder).read_text())
    assert "pictures are no longer in the folder" in page.line
    assert "img" not in page.tags


def test_the_scale_of_epsilons_is_undone_by_its_inverse():
    forward, back = _doublings(0.25)
    values = np.array([0, 0.1, 0.25, 0.5, 1, 16])
    np.testing.assert_allclose(forward(values), [0, 0.4, 1, 2, 3, 7])
    np.testing.assert_allclose(back(forward(values)), values)


# What is no attack's folder


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "is no result of `edge-tl attack`"),
        ("{", "damaged"),
        ("[" * 100_000, "damaged"),
        ("[]", "is no result of `edge-tl attack`"),
        (
            '{"format": 3}',
            "is newer than this edge-tl: its format is 3, and this edge-tl reads 1 and 2; upgrade edge-tl here",
        ),
        ('{"format": 0}', "is of a release too old for this edge-tl: its format is 0"),
        ('{"format": true}', "says no format that can be read (True)"),
        ('{"format": 2, "format": 2}', "a key appears twice"),
        ('{"format": 2}', "model is None"),
        ('{"format": 1}', "model is None"),
        (json.dumps({**document_of(), "models_under_test": {}}), "no attacks on the file itself"),
        (
            json.dumps({**document_of(), "threat": {**document_of()["threat"], "queries": "5"}}),
            "threat.queries is wrong: expected `int`, got `str`; run `edge-tl attack` again",
        ),
        (
            json.dumps({**document_of(), "clean_accuracy": rate(16, PHOTOS) | {"ci95": [0.5]}}),
            "clean_accuracy.ci95 is wrong",
        ),
        (
            json.dumps(
                {**document_of(), "smallest": {"norm": "l2", "unit": "", "model": {"median": 1, "p10": 0, "p90": 2}}}
            ),
            "smallest.model.n is missing",
        ),
    ],
)
def test_what_cannot_be_read_is_said_in_a_line(tmp_path, text, words):
    if text is not None:
        (tmp_path / "robustness.json").write_text(text)
    with pytest.raises(UsageError, match=re.escape(words)):
        write_robustness_page(tmp_path)
    assert not (tmp_path / PAGE).exists()


# Several


def test_before_and_after_are_compared_photo_by_photo(tmp_path):
    before = write_folder(tmp_path / "before")
    after = hardened("1" * 14 + "0" * 5 + "1", {"1": "01" * 7 + "0" * 5 + "1", "2": "1" * 9 + "0" * 11, "4": "0" * 20})
    rows = compare_robustness([before, write_folder(tmp_path / "after", after)])
    assert rows[0].pairs == {}
    pairs = rows[1].pairs
    # By hand at epsilon 1: before is right on 0..7; after on 1, 3, 5, 7, 9, 11, 13, 19.
    assert (pairs["1"].only_first, pairs["1"].only_this) == (4, 4)
    assert (pairs["0"].only_first, pairs["0"].only_this) == (2, 1)
    assert (pairs["2"].only_first, pairs["2"].only_this) == (0, 5)
    assert pairs["2"].p == pytest.approx(scipy.stats.binomtest(0, 5).pvalue)
    assert pairs["2"].difference == pytest.approx(0.25)
    assert pairs["2"].ci95[0] < 0.25 < pairs["2"].ci95[1]


def test_the_order_of_photos_does_not_matter_but_their_names_do(tmp_path):
    before = write_folder(tmp_path / "before")
    turned = document_of()
    outcomes = turned["outcomes"]
    outcomes["photos"] = outcomes["photos"][::-1]
    outcomes["model"]["correct"] = outcomes["model"]["correct"][::-1]
    outcomes["model"]["robust"] = {key: bits[::-1] for key, bits in outcomes["model"]["robust"].items()}
    others = document_of()
    others["outcomes"]["photos"] = [f"other/{i}" for i in range(PHOTOS)]
    folders = [before, write_folder(tmp_path / "turned", turned), write_folder(tmp_path / "others", others)]
    rows = compare_robustness(folders)
    assert all(pair.only_first == pair.only_this == 0 for pair in rows[1].pairs.values())
    assert rows[2].pairs == {}
    assert "other photos" in rows[2].unpaired


def test_a_withheld_figure_is_not_compared(tmp_path):
    folders = [write_folder(tmp_path / "before"), write_folder(tmp_path / "after", document_of(**WITHHELD))]
    row = compare_robustness(folders)[1]
    assert row.robust == {}
    assert list(row.pairs) == ["0"]
    assert "withheld" in row.unpaired


@pytest.mark.parametrize(("key", "value"), [("norm", "l2"), ("goal", "to ant")])
def test_different_threats_are_not_compared(tmp_path, key, value):
    other = document_of()
    other["threat"][key] = value
    with pytest.raises(UsageError, match="same threat"):
        compare_robustness([write_folder(tmp_path / "a"), write_folder(tmp_path / "b", other)])


# Dreams


def write_dreams(folder, model_sha256, classes=("zebra", "เสือ <b>")):
    """A folder as `edge-tl dream` leaves it; the first class has a control."""
    folder.mkdir()
    dreams = []
    for number, label in enumerate(classes):
        said = {"logit": 20.0, "confidence": 0.99 - number / 100, "rank": 1 + number, "best": "tiger", "tv": 0.01}
        item = {"label": label, "index": number, "start": said | {"confidence": 0.001}, "trace": []}
        item["trace"] = [{"step": step, **said, "confidence": step / 100} for step in (0, 50, 99)]
        for name in ("dream", "control")[: 2 - number]:
            item[name] = {"picture": f"{number:04}-{name}.png", "rebuilt_logit": 20.0, **said}
            write_photo(folder / item[name]["picture"], uncrop(pixels_of(number, 0)[0], RULE))
        dreams.append(item)
    document = {
        "format": 2,
        "model": "runs/bees/model-int8.onnx",
        "sha256": model_sha256,
        "precision": "int8",
        "gradients_of": "model-int8.onnx",
        "resize": RULE.known(),
        "photo": None,
        "settings": asdict(DreamSettings(steps=99)),
        "dreams": dreams,
        "versions": {},
    }
    (folder / "dream.json").write_text(json.dumps(document), "utf-8")
    return folder


def test_dreams_of_format_1_are_read_and_damaged_ones_refused_by_the_key(tmp_path):
    folder = write_dreams(tmp_path / "dreams", "0" * 64)
    document = json.loads((folder / "dream.json").read_text("utf-8"))
    assert_fits("dream", document)
    settings = {**document["settings"], "gradients": "twin"}
    (folder / "dream.json").write_text(json.dumps({**document, "format": 1, "settings": settings}), "utf-8")
    assert [found.label for found in read_gallery(folder, "0" * 64).dreams] == ["zebra", "เสือ <b>"]
    for change, said in (
        ({"format": 3}, "is newer than this edge-tl: its format is 3"),
        ({"settings": settings}, "settings.gradients is wrong"),
        ({"dreams": [{**document["dreams"][0], "trace": [{"step": 1}]}]}, "dreams[0].trace[0]."),
    ):
        (folder / "dream.json").write_text(json.dumps({**document, **change}), "utf-8")
        with pytest.raises(UsageError, match=re.escape(said)):
            read_gallery(folder, "0" * 64)


def test_dreams_are_a_gallery_with_what_the_file_says_of_them(tmp_path):
    bees = write_folder(tmp_path / "bees", lean())
    dreams = write_dreams(tmp_path / "dreams", read_robustness(bees)["model"]["sha256"])
    page = Page(write_robustness_page(bees, dreams).read_text())
    assert "dream: zebra 99.0 % control: zebra 99.0 %" in page.line
    assert "dream: เสือ <b> 98.0 % ; tiger first" in page.line
    assert "99 steps" in page.line
    assert "of another file" not in page.line
    assert (bees / "plots" / "dreams.png").is_file()
    without = Page(write_robustness_page(bees).read_text())
    found, before = ([uri for uri in one.sources if uri.startswith("data:")] for one in (page, without))
    assert len(found) == len(before) + 3
    shown = decoded(found[-3])
    assert np.abs(shown - pixels_of(0, 0)[0][..., ::-1]).mean() < 3


def test_dreams_of_another_file_are_called_so(tmp_path):
    bees = write_folder(tmp_path / "bees", lean(), examples=0)
    page = Page(write_robustness_page(bees, write_dreams(tmp_path / "dreams", "0" * 64)).read_text())
    assert "These dreams are of another file" in page.line


def test_dreams_that_are_gone_are_said_to_be(tmp_path, capsys):
    bees = write_folder(tmp_path / "bees", lean(), examples=0)
    assert run(["report", str(bees), "--dreams", str(bees)]) == 2
    assert "is no result of `edge-tl dream`: dream.json: No such file" in capsys.readouterr().err
    dreams = write_dreams(tmp_path / "dreams", "0" * 64)
    for picture in dreams.glob("*.png"):
        picture.unlink()
    assert run(["report", str(bees), "--dreams", str(dreams)]) == 2
    assert "holds none of the pictures" in capsys.readouterr().err


# The command


def test_report_writes_the_page_of_an_attack(tmp_path, capsys):
    folder = write_folder(tmp_path / "bees", lean(), examples=0)
    assert run(["report", str(folder)]) == 0
    out = capsys.readouterr().out
    assert str(folder / PAGE) in out
    assert "40.0 %" in out
    assert run(["report", str(folder), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["robust"]["1"]["count"] == 8
    assert_fits("report-attack", row)


def test_report_compares_attacks(tmp_path, capsys):
    folders = [write_folder(tmp_path / "before"), write_folder(tmp_path / f"after {THAI} <b>", document_of(**WITHHELD))]
    page = tmp_path / "both.html"
    assert run(["report", *map(str, folders), "-o", str(page)]) == 0
    out = capsys.readouterr().out
    assert "withheld" in out
    seen = Page(page.read_text())
    assert f"after {THAI} <b>" in seen.line
    assert "withheld" in seen.line


def test_report_refuses_a_mixture(tmp_path, capsys):
    folder = write_folder(tmp_path / "bees")
    (tmp_path / "run").mkdir()
    assert run(["report", str(folder), str(tmp_path / "run")]) == 2
    assert "run" in capsys.readouterr().err
    assert run(["report", str(folder), str(folder), "--dreams", str(tmp_path)]) == 2
    assert run(["report", str(tmp_path / "run"), "--dreams", str(tmp_path)]) == 2


@pytest.mark.slow
def test_the_pages_hold_in_a_browser(bees, tmp_path, browser):
    withheld = write_folder(tmp_path / "withheld", lean(**WITHHELD))
    dreams = write_dreams(tmp_path / "dreams", "0" * 64)
    both = tmp_path / "both.html"
    assert run(["report", str(bees), str(withheld), "-o", str(both)]) == 0
    for page in (bees / PAGE, both, write_robustness_page(withheld, dreams)):
        audit(browser, page.resolve().as_uri())
