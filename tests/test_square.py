"""The square attack: inside its ball to the last pixel, the same for a photo in any company, and never better than possible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.robustness.random_noise import uniform_noise
from edge_tl_runtime.robustness.square_attack import Square

SIDE = 12


def linear(seed: int = 0, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((SIDE * SIDE * 3, classes)).astype(np.float32), np.zeros(classes, np.float32)


class Net:
    """A linear classifier of pixels that counts the rows it is asked about."""

    def __init__(self, seed: int = 0, classes: int = 4) -> None:
        self.weight, _ = linear(seed, classes)
        self.rows = 0

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        self.rows += len(pixels)
        # Row by row, since a matrix product may round otherwise for another number of rows.
        return np.stack([(row.reshape(1, -1).astype(np.float32) @ self.weight)[0] for row in pixels])


def photos(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def lengths(result: np.ndarray, clean: np.ndarray, norm: str) -> np.ndarray:
    difference = (result.astype(np.int64) - clean).reshape(len(clean), -1)
    return np.abs(difference).max(1) if norm == "linf" else np.sqrt((difference**2).sum(1))


@given(
    norm=st.sampled_from(["linf", "l2"]),
    radius=st.integers(0, 40),
    queries=st.integers(1, 60),
    seed=st.integers(0, 9),
    batch=st.integers(1, 4),
)
def test_every_picture_that_the_classifier_sees_is_inside_the_ball(norm, radius, queries, seed, batch):
    net, clean = Net(seed), photos(3, seed)
    epsilon = float(radius) if norm == "linf" else 7.5 * radius
    seen = []

    def watched(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels.copy())
        return net(pixels)

    labels = net(clean).argmax(1)
    net.rows = 0
    result = Square(norm=norm, queries=queries, batch=batch, seed=seed).run(watched, clean, labels, epsilon)
    for picture in np.concatenate(seen):
        assert min(lengths(picture[None].repeat(3, 0), clean, norm)) <= epsilon
    assert (lengths(result.adversarial, clean, norm) <= epsilon).all()
    assert (result.queries <= queries).all()
    assert result.queries.sum() == net.rows
    assert np.array_equal(net(result.adversarial).argmax(1) != labels, result.fooled)


@given(norm=st.sampled_from(["linf", "l2"]), batch=st.integers(1, 5), seed=st.integers(0, 5))
def test_a_photo_fares_alike_in_any_company(norm, batch, seed):
    net, clean = Net(seed), photos(5, seed)
    labels = net(clean).argmax(1)
    epsilon = 2 if norm == "linf" else 60.0
    together = Square(norm=norm, queries=40, batch=batch).run(net, clean, labels, epsilon, keys=[7, 3, 9, 1, 0])
    for place, key in ((2, 9), (4, 0)):
        one = slice(place, place + 1)
        alone = Square(norm=norm, queries=40).run(net, clean[one], labels[one], epsilon, keys=[key])
        assert np.array_equal(alone.adversarial[0], together.adversarial[place])
        assert alone.queries[0] == together.queries[place]


def test_it_never_succeeds_where_no_perturbation_can():
    net, clean = Net(), photos(20)
    scores = net(clean)
    labels = scores.argmax(1)
    for epsilon in (1, 2, 4, 8):
        result = Square(queries=300).run(net, clean, labels, epsilon)
        for photo, label in enumerate(labels):
            # The most that a linear classifier's margin can fall: every value moved against the difference of two rows.
            reach = max(
                epsilon * np.abs(net.weight[:, label] - net.weight[:, other]).sum()
                - (scores[photo, label] - scores[photo, other])
                for other in range(4)
                if other != label
            )
            assert not (result.fooled[photo] and reach < 0)


def test_a_large_epsilon_fools_all_and_takes_few_questions():
    net, clean = Net(), photos(10)
    result = Square(queries=500).run(net, clean, net(clean).argmax(1), 128)
    assert result.fooled.all()
    assert np.median(result.queries) < 50


def test_a_target_is_reached_and_nothing_else_counts():
    net, clean = Net(), photos(10)
    labels = net(clean).argmax(1)
    targets = (labels + 1) % 4
    result = Square(queries=1000).run(net, clean, labels, 100, targets=targets)
    assert result.fooled.all()
    assert np.array_equal(net(result.adversarial).argmax(1), targets)


def test_more_questions_never_leave_a_larger_margin():
    net, clean = Net(), photos(6)
    labels = net(clean).argmax(1)
    margins = [Square(queries=2, seed=1).run(net, clean, labels, 1).margins]
    result = Square(queries=400, seed=1).run(net, clean, labels, 1)
    assert (result.margins <= margins[0] + 1e-4).all()


def test_epsilon_0_asks_once_and_mistakes_are_left_alone():
    net, clean = Net(), photos(4)
    labels = net(clean).argmax(1)
    still = Square().run(net, clean, labels, 0)
    assert still.queries.tolist() == [1] * 4
    assert not still.fooled.any()
    wrong = Square().run(net, clean, (labels + 1) % 4, 8)
    assert wrong.fooled.all()
    assert wrong.queries.tolist() == [1] * 4
    assert np.array_equal(wrong.adversarial, clean)


def test_a_stop_is_obeyed_and_said():
    net, clean = Net(), photos(4)
    labels = net(clean).argmax(1)
    asked = iter([False, False, False, True])
    result = Square(queries=1000).run(net, clean, labels, 1, stop=lambda: next(asked))
    assert not result.complete[~result.fooled].any()
    assert result.queries.max() == 3


@pytest.mark.parametrize(
    ("norm", "epsilon"), [("linf", 1.5), ("linf", -1), ("l2", float("nan")), ("linf", float("inf"))]
)
def test_a_radius_that_is_none_is_refused(norm, epsilon):
    net, clean = Net(), photos(1)
    with pytest.raises(UsageError):
        Square(norm=norm).run(net, clean, np.array([0]), epsilon)


def test_settings_that_make_no_sense_are_refused():
    for bad in ({"norm": "l1"}, {"queries": 0}, {"p_init": 0.0}, {"batch": 0}):
        with pytest.raises(UsageError):
            Square(**bad)


@given(norm=st.sampled_from(["linf", "l2"]), radius=st.integers(0, 60), key=st.integers(0, 10**9))
def test_noise_fills_its_ball(norm, radius, key):
    grey = np.full((2, SIDE, SIDE, 3), 128, np.uint8)
    epsilon = radius if norm == "linf" else 9.0 * radius
    noisy = uniform_noise(grey, epsilon, [key, key + 1], norm=norm)
    sizes = lengths(noisy, grey, norm)
    assert (sizes <= epsilon).all()
    assert (sizes >= 0.7 * epsilon - 1).all()
    assert np.array_equal(noisy[1], uniform_noise(grey[1:], epsilon, [key + 1], norm=norm)[0])
