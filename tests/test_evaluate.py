"""Accuracy, held against NumPy by hand."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import COLORS, write_photo

from edge_tl_runtime.core.errors import DataError
from edge_tl_runtime.evaluation.evaluate import evaluate, score
from edge_tl_runtime.images.datasets.dataset import load_labelled
from edge_tl_runtime.inference.classifier import Classifier


def test_figures_equal_numpy_by_hand():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(200, 8)).astype(np.float32), rng.integers(0, 8, 200)
    result = score(logits, targets, tuple("abcdefgh"), "noise")
    answers = logits.argmax(1)
    assert result.top1 == (answers == targets).mean()
    assert result.top5 == pytest.approx(
        np.mean([t in np.argsort(-row)[:5] for t, row in zip(targets, logits, strict=True)])
    )
    for index, row in enumerate(result.per_class):
        assert row.recall == (answers[targets == index] == index).mean()
        assert row.precision == (targets[answers == index] == index).mean()
    for i in range(8):
        for j in range(8):
            assert result.confusion[i, j] == ((targets == i) & (answers == j)).sum()


def test_unreadable_photos_are_counted_named_and_skipped(color_model, color_photos, solid):
    (color_photos / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    write_photo(color_photos / "green" / "wrong.png", solid("red"))
    classifier = Classifier(color_model)
    photos = load_labelled(color_photos, tuple(COLORS))
    result = evaluate(classifier.logits, photos, classifier.spec.resize, "colours")
    assert (result.n, result.correct) == (7, 6)
    assert [item.path.name for item in result.skipped] == ["broken.jpg"]
    assert result.confusion[1, 0] == 1


def test_nothing_readable_is_an_error(color_model, tmp_path):
    (tmp_path / "red").mkdir()
    (tmp_path / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    classifier = Classifier(color_model)
    photos = load_labelled(tmp_path, tuple(COLORS))
    with pytest.raises(DataError, match=r"none of the 1 photos .*broken\.jpg"):
        evaluate(classifier.logits, photos, classifier.spec.resize, "")
