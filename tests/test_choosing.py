"""One function says which photos are taken when fewer than all are wanted."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from conftest import COLORS, write_photo
from hypothesis import given
from hypothesis import strategies as st

from edge_tl.adversarial.evaluation.evaluation import RobustnessEvaluation
from edge_tl.adversarial.settings import AttackSettings
from edge_tl.cli import invoke as run
from edge_tl.cli.console import silent
from edge_tl_runtime.images.datasets.choosing import spread_over

TARGETS = st.lists(st.integers(-1, 6), min_size=1, max_size=200)


@given(targets=TARGETS, count=st.integers(0, 220))
def test_as_many_as_asked_for_each_once_in_order(targets, count):
    chosen = spread_over(targets, count)
    assert len(chosen) == (min(count, len(targets)) or len(targets))
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(range(len(targets)))
    assert chosen == spread_over(list(targets), count)


@given(targets=TARGETS, count=st.integers(1, 220))
def test_each_class_gets_its_share_and_at_least_one(targets, count):
    sizes, total = Counter(targets), len(targets)
    count = min(count, total)
    shares = Counter(targets[place] for place in spread_over(targets, count))
    if count < len(sizes):
        assert set(shares.values()) == {1}
        return
    small = sum(size * count < total for size in sizes.values())  # those that get more than their due
    for target, size in sizes.items():
        due = size * count / total
        assert shares[target] >= 1
        assert shares[target] <= max(1, due + 1)
        assert shares[target] > due - 1 - small


@given(size=st.integers(1, 400), count=st.integers(1, 400))
def test_places_of_one_class_are_spread_over_all_of_it(size, count):
    chosen = spread_over([0] * size, count)
    gaps = [b - a for a, b in zip([-1, *chosen], [*chosen, size], strict=True)]
    assert max(gaps[1:-1], default=1) - min(gaps[1:-1], default=1) <= 1
    assert max(gaps[0], gaps[-1]) <= max(gaps[1:-1], default=size) + 1


@given(classes=st.integers(2, 1000), count=st.integers(1, 1000))
def test_fewer_places_than_classes_are_spread_over_the_classes(classes, count):
    count = min(count, classes)
    chosen = spread_over(list(range(classes)), count)
    assert max(b - a for a, b in zip([-1, *chosen], [*chosen, classes], strict=True)) <= 1.5 * classes / count + 1


@pytest.fixture
def many(tmp_path, solid):
    root = tmp_path / "many"
    for place, label in enumerate(COLORS):
        (root / label).mkdir(parents=True)
        for number in range(12 - 3 * place):
            write_photo(root / label / f"{number:02d}.png", solid(label, 20 + number, 30))
    return root


def test_every_command_takes_the_same_photos(many, color_model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos = RobustnessEvaluation(
        color_model, many, tmp_path / "a", AttackSettings(photos=7, device="cpu"), silent, print
    ).photos
    chosen = [places[0] for places in zip(photos.names, strict=True)]
    capsys.readouterr()
    assert run(["evaluate", str(color_model), str(many), "--photos", "7", "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert {row["label"]: row["n"] for row in evaluated["per_class"]} == Counter(name.split("/")[0] for name in chosen)
    assert run(["bench", str(color_model), "--data", str(many), "--photos", "7", "--parts", "accuracy", "--json"]) == 0
    from edge_tl_runtime.images.datasets.dataset import load_labelled

    given = load_labelled(many, tuple(COLORS), "all").spread(7)
    assert given.names == chosen
    assert json.loads(capsys.readouterr().out)["data"]["photos"] == 7
