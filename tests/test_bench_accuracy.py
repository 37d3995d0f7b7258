"""Accuracy parts of the benchmark on photos in files, without a pack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import COLORS, write_photo

from edge_tl_runtime.bench.parts.accuracy import AccuracyPart
from edge_tl_runtime.bench.parts.corruptions import Corruptions
from edge_tl_runtime.bench.parts.live_square import LiveSquare
from edge_tl_runtime.bench.parts.part import Bench
from edge_tl_runtime.bench.settings import BenchSettings
from edge_tl_runtime.images.datasets.dataset import load_labelled
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.robustness.corrupted_accuracy import corrupted_accuracy


class Forgetful:
    def get(self, name: str) -> None:
        return None

    def put(self, name: str, document: dict) -> None:
        json.dumps(document)


def bench(model: Path, data: Path, **changes) -> Bench:
    classifier = Classifier(model)
    return Bench(
        model=model,
        classifier=classifier,
        settings=BenchSettings(**changes),
        pack=None,
        photos=load_labelled(data, classifier.spec.labels, "all"),
        ledger=Forgetful(),
        stop=lambda: False,
        progress=lambda done: None,
    )


@pytest.fixture
def spoilt(color_photos: Path, solid) -> Path:
    """Six photos that are right, one that is wrong, one that is none; the latter two come first in their class."""
    write_photo(color_photos / "red" / "!wrong.png", solid("green"))
    (color_photos / "green" / "!none.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    return color_photos


def test_a_file_that_is_no_photo_is_counted_apart(color_model, spoilt):
    found = AccuracyPart().run(bench(color_model, spoilt))
    assert (found["top1"]["count"], found["top1"]["n"], found["unreadable"]) == (6, 7, 1)


def test_corruptions_are_those_of_evaluate_without_what_cannot_be_read(color_model, spoilt):
    subject = bench(color_model, spoilt, corruptions="mjpg,low_light", severities="2,5", seed=3)
    found = Corruptions().run(subject)
    wanted = corrupted_accuracy(
        subject.classifier.logits,
        subject.photos,
        subject.classifier.spec.resize,
        ("mjpg", "low_light"),
        (2, 5),
        seed=3,
    ).to_dict()
    assert found["clean"]["n"] == 7
    assert {key: found[key] for key in wanted if key != "skipped"} == {
        key: value for key, value in wanted.items() if key != "skipped"
    }


def test_square_leaves_solid_colours_alone_until_it_may_repaint_them(color_model, color_photos):
    """Scores are 10 x the mean of a colour: 255 against 0 cannot be turned round within 100 each way, and can within 200."""
    found = LiveSquare().run(bench(color_model, color_photos, epsilons="100,200", queries=400))
    counts = [found["accuracy"][radius]["count"] for radius in ("0", "100", "200")]
    assert counts[:2] == [len(COLORS) * 2] * 2
    assert counts[2] == 0
    assert found["queries_to_success"]["100"]["median"] is None
    assert 1 <= found["queries_to_success"]["200"]["median"] <= 400


def test_a_whole_piece_of_files_that_are_no_photos_ends_nothing(color_model, color_photos):
    for number in range(40):
        (color_photos / "green" / f"!{number:02d}.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    subject = bench(color_model, color_photos, epsilons="100", queries=5, corruptions="mjpg", severities="3")
    assert AccuracyPart().run(subject)["unreadable"] == 40
    assert Corruptions().run(subject)["clean"]["n"] == 6
    assert LiveSquare().run(subject)["accuracy"]["0"]["n"] == 6
