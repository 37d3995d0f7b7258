"""Calibration, diagnosis and pages: against formulas and other libraries, and on real runs."""

from __future__ import annotations

import json
import shutil
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from browsers import browser as browser
from conftest import THAI
from hypothesis import given
from hypothesis import strategies as st
from page_audit import audit
from schema_checks import assert_fits

from edge_tl.cli import invoke as run
from edge_tl.cli.console import silent
from edge_tl.data.surfaces import write_surfaces
from edge_tl.models import WeightsSource, build_network, find_backbone
from edge_tl.report.common.html import new_figure, png, short, styled, svg
from edge_tl.report.run.gradcam import grad_cam
from edge_tl.report.run.page import write_page
from edge_tl.report.run.plots import confusion_matrix
from edge_tl.training import auto_recipe as recipe
from edge_tl.training.calibrate import calibrate
from edge_tl.training.diagnose import Way, diagnose, nearest, verdict
from edge_tl.training.probe.features import Features
from edge_tl.training.probe.probe import Probe
from edge_tl.training.run_folder import begin, load_run, read_evaluated, read_metrics
from edge_tl.training.settings import FinetuneSettings, TrainSettings
from edge_tl.training.train import train
from edge_tl_runtime.core.statistics import mcnemar
from edge_tl_runtime.evaluation.evaluate import score
from edge_tl_runtime.evaluation.reliability import reliability
from edge_tl_runtime.modelfile.spec import Scores
from edge_tl_runtime.sinks.draw.fonts import packaged_fonts

# Statistics


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_scipys_binomial_test(first, second):
    expected = scipy.stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)


def test_ece_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.95, 0.05], [0.6, 0.4], [0.45, 0.55]])
    result = reliability(probabilities, np.array([0, 1, 0, 1]))
    # Bins of 1/15: 0.9 | 0.95 | 0.6 | 0.55, one photo each.
    expected = (abs(0.9 - 1) + abs(0.95 - 0) + abs(0.6 - 1) + abs(0.55 - 1)) / 4
    assert result.ece == pytest.approx(expected)
    assert result.counts.sum() == 4


@given(st.floats(0.3, 4.0), st.integers(0, 1000))
def test_the_temperature_that_spoiled_logits_is_found(temperature, seed):
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(4000, 3)) * 2
    chances = Scores().probabilities(honest)
    targets = (chances.cumsum(1) > rng.random((4000, 1))).argmax(1)
    found = calibrate((honest * temperature).astype(np.float32), targets)
    assert found.temperature == pytest.approx(temperature, rel=0.15)
    assert found.after.ece <= found.before.ece + 0.01


def test_a_network_without_an_error_is_not_given_certainty():
    logits = np.eye(3, dtype=np.float32)[np.arange(300) % 3] * 4
    found = calibrate(logits, np.arange(300) % 3)
    assert 0.2 < found.temperature < 1


# Grad-CAM: with global average pooling before a linear head it is the class activation map (Zhou et al. 2016)


def test_grad_cam_is_the_class_activation_map():
    torch.manual_seed(0)
    backbone = find_backbone("resnet18").resized(64)
    network = build_network(backbone, WeightsSource.parse("none", backbone))
    model = network.pixel_model(torch.device("cpu"))
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    maps = {}
    network.module.layer4.register_forward_hook(lambda m, i, o: maps.update(last=o.detach()))
    ours = grad_cam(model, pixels, 7)
    weights = network.head.weight.detach()[7]
    expected = torch.einsum("c,chw->hw", weights, maps["last"][0]).relu()
    expected = torch.nn.functional.interpolate(
        (expected / expected.max())[None, None], (64, 64), mode="bilinear", align_corners=False
    )[0, 0]
    np.testing.assert_allclose(ours, expected.numpy(), atol=1e-3)


# What auto decides


def probe(losses: float, wrong: int = 0, n: int = 100) -> Probe:
    logits = np.eye(2, dtype=np.float32)[np.zeros(n, int)]
    logits[:wrong] = logits[:wrong, ::-1]
    return Probe(np.zeros((2, 1)), np.zeros(2), 0.1, {0.1: losses, 0.3: losses + 1}, logits)


def test_auto_speaks_of_what_it_found():
    targets = np.zeros(100, np.int64)
    assert recipe.held_out_error(probe(0.1, 7), targets) == pytest.approx(0.07)
    assert not recipe.try_larger_input(0.01).yes
    assert not recipe.try_larger_input(None).yes
    assert recipe.try_larger_input(0.02).yes
    larger = recipe.prefer_larger_input(probe(0.2), probe(0.15), 224, 288)
    assert larger.yes
    assert "1.65 times the work a frame" in larger.why
    assert not recipe.prefer_larger_input(probe(0.2), probe(0.199), 224, 288).yes
    assert not recipe.try_finetuning(0.1, 7).yes
    assert not recipe.try_finetuning(0.001, 700).yes
    assert recipe.try_finetuning(0.1, 700).yes


# Diagnosis


def test_nearest_neighbours_by_hand():
    def features(values, targets):
        return Features(np.float32(values), np.array(targets), (), (), (), 0, ())

    train_features = features([[1, 0], [1, 0.1], [0.9, 0], [0, 1], [0.1, 1], [0, 0.8]], [0, 0, 0, 1, 1, 1])
    votes = nearest(train_features, features([[2, 0.1], [0.2, 3]], [0, 1]), 2)
    assert votes.argmax(1).tolist() == [0, 1]


def way(right: list[bool]) -> Way:
    logits = np.float32([[1, 0] if r else [0, 1] for r in right])
    return Way("", score(logits, np.zeros(len(right), np.int64), ("a", "b"), ""), np.array(right), 0.0)


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ((0.9, 0.95, 0.95, 0.6), "features fit this kind of image"),
        ((0.6, 0.7, 0.95, 0.6), "fit in part"),
        ((0.5, 0.6, 0.9, 0.9), "do not fit"),
        ((0.5, 0.5, 0.52, 0.5), "No way is surely better"),
        ((0.8, 0.8, 0.8, 0.79), "cannot be told"),
    ],
)
def test_the_verdict_says_what_the_figures_mean(rates, words):
    ways = [way([i < 200 * rate for i in range(200)]) for rate in rates]
    assert words in verdict(ways, 0.5)


@pytest.mark.slow
def test_diagnosis_of_photos_that_fit(tmp_path):
    root = write_surfaces(tmp_path, train=15, val=15)
    settings = TrainSettings(size=96, device="cpu", finetune=FinetuneSettings(epochs=2))
    diagnosis = diagnose(str(root), settings, silent, print)
    names = [w.name for w in diagnosis.ways]
    assert names == ["nearest neighbours", "probe", "fine-tuning", "from scratch"]
    assert "features fit" in diagnosis.verdict
    assert json.loads(json.dumps(diagnosis.to_dict()))["chance"] == pytest.approx(1 / 3)
    assert_fits("diagnose", json.loads(json.dumps(diagnosis.to_dict())))


# Pages


class Tags(HTMLParser):
    """Counts tags and insists that they are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: dict[str, int] = {}
        self.words = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.seen[tag] = self.seen.get(tag, 0) + 1
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory) -> Path:
    return write_surfaces(tmp_path_factory.mktemp("photos"), train=10, val=8)


@pytest.fixture(scope="module")
def runs(surfaces, tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    tuning = FinetuneSettings(epochs=2, batch_size=8, find_rate=True)
    train(surfaces, folder / "plain", TrainSettings(recipe="probe", size=64, device="cpu"), silent, print)
    tuned = TrainSettings(recipe="finetune", size=64, device="cpu", test="0.3", finetune=tuning)
    train(surfaces, folder / "tuned", tuned, silent, print)
    return [folder / "plain", folder / "tuned"]


def test_the_page_of_a_run_is_whole(runs):
    text = write_page(runs[1]).read_text()
    tags = Tags(text)
    assert tags.seen["svg"] == 5  # loss, top-1, rate search, reliability, confusion
    for words in ("test top-1", "of the way from probe", "learning rate", "torch", "brick"):
        assert words in text
    assert "script" not in tags.seen
    plain = write_page(runs[0])
    first = plain.read_text()
    assert Tags(first).seen["svg"] == 2
    assert write_page(runs[0]).read_text() == first


def test_mistakes_are_shown_with_what_spoke_for_them(surfaces, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(surfaces, photos)
    wrong = photos / "val" / "brick" / "กรวด [1] <b>.png"
    wrong.write_bytes(sorted((photos / "val" / "grass").iterdir())[0].read_bytes())
    train(photos, tmp_path / "run", TrainSettings(recipe="probe", device="cpu"), silent, print)
    text = write_page(tmp_path / "run").read_text()
    assert "กรวด [1] &lt;b&gt;.png" in text
    assert text.count("data:image/jpeg;base64,") >= 2
    Tags(text)
    shutil.rmtree(photos)
    assert "no thumbnails" in write_page(tmp_path / "run").read_text()


def test_runs_side_by_side(runs, tmp_path, capsys):
    output = tmp_path / "both.html"
    assert run(["report", *map(str, runs), "-o", str(output), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert_fits("report-run", *rows)
    assert [row["run"] for row in rows] == ["plain", "tuned"]
    assert rows[0]["p"] is None
    text = output.read_text()
    Tags(text)
    assert "finetune.epochs" in text
    assert run(["report", str(runs[0])]) == 0
    assert "report.html" in capsys.readouterr().out
    assert run(["report", str(tmp_path)]) == 2


def test_tensorboard_reads_the_records(runs):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from edge_tl.report.run.tensorboard import write_events

    events = event_accumulator.EventAccumulator(str(write_events(runs[1])))
    events.Reload()
    assert [event.step for event in events.Scalars("top1")] == [0, 1, 2]
    shutil.rmtree(runs[1] / "tensorboard")


@pytest.mark.slow
def test_the_pages_of_runs_hold_in_a_browser(runs, tmp_path, browser):
    both = tmp_path / "both.html"
    assert run(["report", *map(str, runs), "-o", str(both)]) == 0
    for page in (write_page(runs[1]), both):
        audit(browser, page.resolve().as_uri())


def test_what_a_run_holds_fits_the_classes(runs):
    for folder in runs:
        assert_fits("settings", json.loads((folder / "settings.json").read_text("utf-8")))
        assert_fits("contract", json.loads((folder / "spec.json").read_text("utf-8")))
        assert_fits("metrics", *read_metrics(folder))
    stages = {record["stage"] for folder in runs for record in read_metrics(folder)}
    assert {"features", "probe", "rate", "finetune", "candidate"} <= stages


def test_a_run_without_stored_answers_is_compared_in_json_all_the_same(runs, tmp_path, capsys):
    bare = tmp_path / "bare"
    shutil.copytree(runs[0], bare)
    (bare / "logits.npz").unlink()
    assert run(["report", str(runs[0]), str(bare), "-o", str(tmp_path / "both.html"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert_fits("report-run", *rows)
    assert rows[1]["ece"] is None


def test_what_resuming_needs_fits_its_class(tmp_path):
    begin(tmp_path, "photos", TrainSettings().to_dict(), "ab")
    assert_fits("resume", json.loads((tmp_path / "resume.json").read_text("utf-8")))
    begin(tmp_path, "photos", TrainSettings().to_dict(), "ab", finished=3)
    assert_fits("resume", json.loads((tmp_path / "resume.json").read_text("utf-8")))


def test_the_temperature_travels_with_the_contract(runs):
    spec, evaluated = load_run(runs[0]).spec, read_evaluated(runs[0])["val"]
    assert spec.scores.temperature == calibrate(evaluated.logits, evaluated.targets).temperature >= 1.0
    assert spec.training["ece"]["after"] >= 0


# Plots


@given(st.text("abc -_มดแก蟻アリ🐜ê"), st.integers(8, 40))
def test_a_shortened_label_keeps_its_ends_and_fits(label, cells):
    made = short(label, cells)
    assert sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in made) <= cells
    if made != label:
        start, end = made.split("…")
        assert label.startswith(start)
        assert label.endswith(end)


@pytest.mark.parametrize("label", [r"$\frac$", "US$5 to $9", "$", "a_b^c", "<b>&", "x" * 300, THAI, "نملة", "🐜"])
def test_a_label_of_a_plot_is_text_whatever_it_holds(label):
    assert short(label) in Tags(str(confusion_matrix(np.eye(2, dtype=np.int64), (label, "other")))).words


@styled
def _titled(title: str, families: list[str] | None = None) -> tuple[str, bytes]:
    figure = new_figure(2.0, 1.0)
    figure.text(0.5, 0.5, title, family=families)
    return svg(figure), png(figure, 100)


def test_a_letter_no_font_has_is_text_on_the_page_and_a_box_in_the_png(recwarn):
    assert f">{THAI}</text>" in _titled(THAI, ["DejaVu Sans"])[0]
    assert _titled("ก", ["DejaVu Sans"])[1] == _titled("ข", ["DejaVu Sans"])[1]  # boxes of one script are alike
    assert not recwarn.list


def test_a_png_has_the_letters_of_fonts_that_came_by_pip(recwarn):
    if not any("Thai" in file.path.name for file in packaged_fonts("")):
        pytest.skip("edge-tl[text] is not installed")
    assert _titled("ก")[1] != _titled("ข")[1]
    assert not recwarn.list
