"""Attacks: what each promises, in one table; and their parts against NumPy, by hand."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edge_tl.adversarial import (
    APGD,
    ATTACKS,
    FGSM,
    LOSSES,
    NORMS,
    PGD,
    Attack,
    AttackedModel,
    DeepFool,
    Misclassification,
    SquareAttack,
    TargetedMisclassification,
)
from edge_tl.adversarial.attacks.apgd import AutoAscent, checkpoints
from edge_tl_export.torch_graph.module import DifferentiableGraph
from edge_tl_runtime.inference.classifier import Classifier
from edge_tl_runtime.robustness.square_attack import Square

SIDE, CLASSES = 12, 5


class SmallNet(nn.Module):
    """Random weights, smooth; row by row, since sums over a batch may round otherwise for another number of rows."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.register_buffer("first", torch.randn(6, 3, 3, 3, generator=generator) / 4)
        self.register_buffer("last", torch.randn(classes, 6 * 25, generator=generator) / 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.cat([self._one(row[None]) for row in pixels.float()])

    def _one(self, pixels: torch.Tensor) -> torch.Tensor:
        planes = pixels.permute(0, 3, 1, 2) / 255 - 0.5
        hidden = nn.functional.softplus(nn.functional.conv2d(planes, self.first, stride=2), beta=4)
        return hidden.flatten(1) @ self.last.T


class Planes(nn.Module):
    """Linear scores. weights: (C, H, W, 3)."""

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("weights", torch.from_numpy(weights).float())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.float().flatten(1) @ self.weights.flatten(1).T


def judged_by(net: nn.Module) -> AttackedModel:
    def judge(pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return net(torch.from_numpy(pixels)).numpy()

    return AttackedModel(judge, net)


def photos(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def sizes(adversarial: np.ndarray, clean: np.ndarray, norm: str) -> np.ndarray:
    difference = (adversarial.astype(np.int64) - clean).reshape(len(clean), -1)
    return np.abs(difference).max(1) if norm == "linf" else np.sqrt((difference**2).sum(1))


@pytest.fixture(scope="module")
def model() -> AttackedModel:
    return judged_by(SmallNet())


def made_for(name: str, norm: str) -> Attack:
    """An entry of the registry, with fewer steps than for a real file."""
    attack = replace(ATTACKS[name], norm=norm)
    if name == "square":
        return replace(attack, queries=60)
    return replace(attack, steps=min(attack.steps, 12)) if hasattr(attack, "steps") else attack


EVERY = [(name, norm) for name in ATTACKS for norm in NORMS]
CLIMBING = [(name, norm) for name, norm in EVERY if name.startswith(("pgd", "apgd", "deepfool"))]
RADII = {"linf": (0, 1, 4, 12), "l2": (0, 9.0, 40.0, 150.0)}
LARGE = {"linf": 255, "l2": 255.0 * SIDE * 3}


def wishes(clean: np.ndarray, model: AttackedModel) -> dict[str, Misclassification | TargetedMisclassification]:
    labels = model.evaluated(clean).argmax(1)
    return {"untargeted": Misclassification(labels), "targeted": TargetedMisclassification((labels + 1) % CLASSES)}


@pytest.mark.parametrize(("name", "norm"), EVERY)
@pytest.mark.parametrize("kind", ["untargeted", "targeted"])
def test_what_is_found_is_inside_the_ball_and_fools_as_it_is_said_to(name, norm, kind, model):
    clean = photos(4)
    before = clean.copy()
    wish = wishes(clean, model)[kind]
    for epsilon in RADII[norm]:
        result = made_for(name, norm).run(model, clean, wish, epsilon)
        assert result.adversarial.dtype == np.uint8
        assert result.adversarial.shape == clean.shape
        assert (sizes(result.adversarial, clean, norm) <= epsilon).all()
        scores = model.evaluated(result.adversarial)
        own = scores[np.arange(4), wish.classes]
        others = scores.copy()
        others[np.arange(4), wish.classes] = -np.inf
        margin = (others.max(1) - own) * (-1 if kind == "targeted" else 1)
        assert np.array_equal(result.fooled, (scores.argmax(1) == wish.classes) == (kind == "targeted"))
        assert np.allclose(result.margins, margin, atol=1e-5)
        assert result.complete.all()
        assert (result.queries >= 1).all()
    assert np.array_equal(clean, before)


@pytest.mark.parametrize(("name", "norm"), EVERY)
def test_within_nothing_photos_stay_as_they_are(name, norm, model):
    clean = photos(4)
    labels = model.evaluated(clean).argmax(1)
    labels[1] = (labels[1] + 1) % CLASSES
    result = made_for(name, norm).run(model, clean, Misclassification(labels), 0)
    assert np.array_equal(result.adversarial, clean)
    assert result.fooled.tolist() == [False, True, False, False]
    assert result.queries.tolist() == [1] * 4


@pytest.mark.parametrize(("name", "norm"), EVERY)
def test_a_photo_that_is_wrong_already_is_left_alone(name, norm, model):
    clean = photos(4)
    labels = model.evaluated(clean).argmax(1)
    labels[2] = (labels[2] + 1) % CLASSES
    result = made_for(name, norm).run(model, clean, Misclassification(labels), RADII[norm][2])
    assert np.array_equal(result.adversarial[2], clean[2])
    assert result.fooled[2]
    assert result.queries[2] == 1
    assert (result.queries[[0, 1, 3]] > 1).all()


@pytest.mark.parametrize(("name", "norm"), EVERY)
def test_it_repeats_itself_in_any_company(name, norm, model):
    clean, keys = photos(5), np.array([7, 3, 9, 1, 4])
    wish, attack, epsilon = wishes(clean, model)["untargeted"], made_for(name, norm), RADII[norm][1]
    together = attack.run(model, clean, wish, epsilon, keys=keys)
    again = attack.run(model, clean, wish, epsilon, keys=keys)
    assert np.array_equal(together.adversarial, again.adversarial)
    for place in (0, 4):
        one = np.array([place])
        alone = attack.run(model, clean[one], wish.take(one), epsilon, keys=keys[one])
        assert np.array_equal(alone.adversarial[0], together.adversarial[place])
        assert alone.queries[0] == together.queries[place]


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if hasattr(attack, "random_start")])
def test_another_seed_starts_elsewhere(name, model):
    clean = photos(3)
    wish = wishes(clean, model)["untargeted"]
    attack = made_for(name, "linf")
    first, second = (replace(attack, seed=seed).run(model, clean, wish, 2) for seed in (0, 1))
    assert np.array_equal(first.adversarial, second.adversarial) != attack.random_start


@pytest.mark.parametrize(("name", "norm"), CLIMBING)
def test_within_a_large_radius_nothing_resists(name, norm, model):
    clean = photos(8)
    wish = wishes(clean, model)["untargeted"]
    assert made_for(name, norm).run(model, clean, wish, LARGE[norm]).fooled.all()


@pytest.mark.parametrize(("name", "norm"), CLIMBING)
def test_a_target_is_reached(name, norm, model):
    clean = photos(8)
    wish = wishes(clean, model)["targeted"]
    result = made_for(name, norm).run(model, clean, wish, {"linf": 60, "l2": 900.0}[norm])
    assert result.fooled.all()
    assert np.array_equal(model.evaluated(result.adversarial).argmax(1), wish.classes)


@pytest.mark.parametrize("norm", NORMS)
def test_the_smallest_does_not_depend_on_the_radius(norm, model):
    clean = photos(6)
    wish = wishes(clean, model)["untargeted"]
    attack = DeepFool(norm=norm)
    free = attack.run(model, clean, wish, LARGE[norm])
    assert free.fooled.all()
    needed = sizes(free.adversarial, clean, norm)
    middle = float(np.floor(np.median(needed)))
    within = attack.run(model, clean, wish, middle)
    assert np.array_equal(within.fooled, needed <= middle)
    assert np.array_equal(within.adversarial[within.fooled], free.adversarial[within.fooled])
    strong = APGD(norm=norm, steps=60, loss="margin").run(model, clean, wish, max(1.0, middle))
    assert (strong.fooled >= within.fooled).all(), "auto-PGD missed what the minimum says is there"


@pytest.mark.parametrize(("name", "norm"), [(name, norm) for name, norm in EVERY if name not in ("fgsm",)])
def test_stopped_at_once_it_claims_nothing(name, norm, model):
    clean = photos(4)
    labels = model.evaluated(clean).argmax(1)
    labels[0] = (labels[0] + 1) % CLASSES
    result = made_for(name, norm).run(model, clean, Misclassification(labels), RADII[norm][2], stop=lambda: True)
    assert result.fooled.tolist() == [True, False, False, False]
    assert result.complete.tolist() == [True, False, False, False]


def test_stopped_later_only_those_left_are_incomplete(model):
    clean = photos(12)
    wish = wishes(clean, model)["untargeted"]
    free = PGD(steps=12).run(model, clean, wish, 2)
    asked = iter([False] * 4 + [True] * 100)
    result = PGD(steps=12).run(model, clean, wish, 2, stop=lambda: next(asked))
    soon = free.fooled & (free.queries <= 5)
    assert 0 < soon.sum() < 12
    assert np.array_equal(result.fooled, soon)
    assert np.array_equal(result.complete, soon)


def test_no_photos_are_no_trouble(model):
    empty = photos(2)[:0]
    for attack in ATTACKS.values():
        result = attack.run(model, empty, Misclassification(np.zeros(0, np.int64)), 4)
        assert result.adversarial.shape == empty.shape


def test_queries_are_what_the_file_was_asked():
    net, asked = SmallNet(), []

    def counting(pixels: np.ndarray) -> np.ndarray:
        asked.append(len(pixels))
        with torch.no_grad():
            return net(torch.from_numpy(pixels)).numpy()

    model = AttackedModel(counting, net)
    clean = photos(6)
    labels = counting(clean).argmax(1)
    for name, norm in EVERY:
        if name == "square":
            # The runtime's search counts for itself; the file confirms what it found.
            continue
        asked.clear()
        result = made_for(name, norm).run(model, clean, Misclassification(labels), RADII[norm][1])
        assert result.queries.sum() == sum(asked), name


@pytest.mark.parametrize("norm", NORMS)
def test_square_is_the_runtimes_own(norm, model):
    clean = photos(4)
    labels = model.evaluated(clean).argmax(1)
    epsilon = {"linf": 3, "l2": 60.0}[norm]
    ours = SquareAttack(norm=norm, queries=80, seed=2).run(model, clean, Misclassification(labels), epsilon)
    direct = Square(norm=norm, queries=80, seed=2).run(model.answer, clean, labels, epsilon)
    assert np.array_equal(ours.queries, direct.queries)
    assert np.array_equal(ours.fooled, direct.fooled)
    assert np.array_equal(ours.adversarial[ours.fooled], direct.adversarial[direct.fooled])


def test_attacks_are_values_that_name_their_paper():
    for name, attack in ATTACKS.items():
        assert attack == replace(attack)
        assert repr(attack).startswith(type(attack).__name__)
        assert ("arXiv" in attack.paper) != (name == "noise")
        with pytest.raises(FrozenInstanceError):
            attack.seed = 3


def test_one_step_is_the_sign_of_the_weights():
    weights = np.random.default_rng(0).standard_normal((2, SIDE, SIDE, 3)) / 1000
    clean = photos(3)
    model = judged_by(Planes(weights))
    labels = model.evaluated(clean).argmax(1)
    result = FGSM().run(model, clean, Misclassification(labels), 2)
    up = np.stack([np.sign(weights[1 - label] - weights[label]) for label in labels])
    assert np.array_equal(result.adversarial, np.clip(clean + 2 * up, 0, 255).astype(np.uint8))
    assert result.queries.tolist() == [2] * 3


def test_large_scores_blind_cross_entropy_and_not_the_others():
    weights = np.random.default_rng(0).standard_normal((4, SIDE, SIDE, 3))
    clean, model = photos(6), judged_by(Planes(weights))
    wish = Misclassification(model.evaluated(clean).argmax(1))
    robust = {loss: (~PGD(loss=loss).run(model, clean, wish, 40).fooled).sum() for loss in LOSSES}
    assert robust["cross-entropy"] > 0
    assert robust["margin"] == robust["dlr"] == 0


@pytest.mark.parametrize("norm", NORMS)
def test_deepfool_on_planes_finds_the_distance(norm):
    rng = np.random.default_rng(4)
    weights = rng.standard_normal((3, SIDE, SIDE, 3))
    # Mid-grey, and far enough from the borders that rounding is little of the way: about 8 of 255 in every value.
    clean = rng.integers(100, 156, (6, SIDE, SIDE, 3), np.uint8)
    model = judged_by(Planes(weights))
    flat = weights.reshape(3, -1)
    scores = clean.reshape(6, -1) @ flat.T
    labels = scores.argmax(1)
    clean = np.clip(np.round(clean + 0.5 * 14 * weights[labels] - 0.5 * 7 * weights.sum(0)), 0, 255).astype(np.uint8)
    scores = clean.reshape(6, -1).astype(np.float64) @ flat.T
    assert np.array_equal(scores.argmax(1), labels)
    result = DeepFool(norm=norm).run(model, clean, Misclassification(labels), LARGE[norm])
    assert result.fooled.all()
    for i, label in enumerate(labels):
        others = [k for k in range(3) if k != label]
        dual = {"linf": lambda w: np.abs(w).sum(), "l2": lambda w: np.sqrt((w**2).sum())}[norm]
        distance = min((scores[i, label] - scores[i, k]) / dual(flat[label] - flat[k]) for k in others)
        found = sizes(result.adversarial, clean, norm)[i]
        if norm == "linf":
            assert found == np.ceil(distance)
        else:
            assert distance <= found <= 1.02 * distance


def test_deepfool_on_the_colour_file_finds_the_distance(color_model, color_graph, solid):
    """From 255 of red and 0 of green to more green than red takes 128 in each."""
    classifier = Classifier(color_model)
    model = AttackedModel(classifier.logits, DifferentiableGraph(color_graph))
    clean = np.stack([solid("red", 32, 32)[..., ::-1], solid("green", 32, 32)[..., ::-1]])
    wish = Misclassification(np.array([0, 1]))
    largest = DeepFool().run(model, clean, wish, 255)
    assert largest.fooled.all()
    # Ties go to the first class: green is red's equal at 127.5 for both, and a little less than 128 will do for few pixels.
    assert sizes(largest.adversarial, clean, "linf").tolist() == [128, 128]
    shortest = DeepFool(norm="l2").run(model, clean, wish, 1e5)
    assert np.allclose(sizes(shortest.adversarial, clean, "l2"), 127.5 * np.sqrt(2 * 32 * 32), rtol=0.01)


@given(seed=st.integers(0, 50), classes=st.integers(2, 7), targeted=st.booleans())
def test_losses_are_their_formulas(seed, classes, targeted):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((4, classes)).astype(np.float32) * 5
    chosen = rng.integers(0, classes, 4)
    wish = (TargetedMisclassification if targeted else Misclassification)(chosen)
    found = {name: loss(torch.from_numpy(logits), wish).numpy() for name, loss in LOSSES.items()}
    sign = -1 if targeted else 1
    for row, z in enumerate(logits.astype(np.float64)):
        own = z[chosen[row]]
        margin = sign * (max(np.delete(z, chosen[row])) - own)
        ranked = np.sort(z)[::-1]
        entropy = sign * (np.log(np.exp(z - z.max()).sum()) + z.max() - own)
        if targeted and classes >= 4:
            ratio = margin / (ranked[0] - (ranked[2] + ranked[3]) / 2)
        elif not targeted and classes >= 3:
            ratio = margin / (ranked[0] - ranked[2])
        else:
            ratio = margin
        assert np.isclose(found["margin"][row], margin, atol=1e-4)
        assert np.isclose(found["cross-entropy"][row], entropy, atol=1e-4)
        assert np.isclose(found["dlr"][row], ratio, rtol=1e-3, atol=1e-4)


@given(
    norm=st.sampled_from(sorted(NORMS)), seed=st.integers(0, 99), epsilon=st.floats(0.5, 60), scale=st.floats(0.01, 30)
)
def test_projection_is_the_nearest_point_of_the_ball(norm, seed, epsilon, scale):
    rng = np.random.default_rng(seed)
    difference = (scale * rng.standard_normal((3, 4, 5, 3))).astype(np.float32)
    given_ = torch.from_numpy(difference)
    found = NORMS[norm].project(given_, epsilon).numpy()
    assert np.array_equal(given_.numpy(), difference)
    flat = difference.reshape(3, -1).astype(np.float64)
    if norm == "linf":
        nearest = np.clip(flat, -epsilon, epsilon)
    else:
        nearest = flat * np.minimum(1, epsilon / np.linalg.norm(flat, axis=1))[:, None]
    assert np.allclose(found.reshape(3, -1), nearest, rtol=1e-4, atol=1e-5)


@given(norm=st.sampled_from(sorted(NORMS)), seed=st.integers(0, 99))
def test_the_steepest_step_has_length_one_and_gains_the_dual_norm(norm, seed):
    gradient = np.random.default_rng(seed).standard_normal((3, 4, 5, 3)).astype(np.float32)
    step = NORMS[norm].steepest(torch.from_numpy(gradient)).numpy().reshape(3, -1)
    order, dual = (np.inf, 1) if norm == "linf" else (2, 2)
    flat = gradient.reshape(3, -1)
    assert np.allclose(np.linalg.norm(step, order, axis=1), 1, rtol=1e-4)
    assert np.allclose((step * flat).sum(1), np.linalg.norm(flat, dual, axis=1), rtol=1e-4)


@given(
    norm=st.sampled_from(sorted(NORMS)),
    seed=st.integers(0, 99),
    epsilon=st.integers(0, 300),
    scale=st.sampled_from([1e-4, 0.1, 3.0, 1000.0]),
)
def test_on_the_grid_it_stays_in_the_ball_and_in_range(norm, seed, epsilon, scale):
    rng = np.random.default_rng(seed)
    clean = photos(3, seed)
    difference = torch.from_numpy((scale * rng.standard_normal(clean.shape)).astype(np.float32))
    radius = min(epsilon, 255) if norm == "linf" else epsilon / 3
    found = NORMS[norm].on_grid(torch.from_numpy(clean).float(), difference, radius).numpy()
    assert np.array_equal(found, found.round())
    assert found.min() >= 0
    assert found.max() <= 255
    assert (sizes(found.astype(np.uint8), clean, norm) <= radius).all()
    assert ((found - clean) * difference.numpy() >= 0).all(), "a value moved against its difference"


@given(seed=st.integers(0, 99), epsilon=st.floats(6, 3000))
def test_on_the_grid_the_l2_ball_is_filled(seed, epsilon):
    rng = np.random.default_rng(seed)
    clean = torch.full((2, SIDE, SIDE, 3), 128.0)
    difference = torch.from_numpy(rng.standard_normal(clean.shape).astype(np.float32) * 1e-3)
    radius = min(epsilon, 600.0)
    found = NORMS["l2"].on_grid(clean, difference, radius) - clean
    lengths = found.flatten(1).norm(dim=1).numpy()
    assert (lengths <= radius).all()
    assert (lengths >= 0.97 * radius - 0.1).all()


def test_on_the_grid_each_photo_may_have_its_own_radius():
    clean = torch.from_numpy(photos(3)).float()
    difference = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)) * 50
    for norm, radii in (("linf", [1.0, 5.0, 0.0]), ("l2", [10.0, 77.7, 300.0])):
        together = NORMS[norm].on_grid(clean, difference, torch.tensor(radii))
        for i, radius in enumerate(radii):
            alone = NORMS[norm].on_grid(clean[i : i + 1], difference[i : i + 1], radius)
            assert torch.equal(together[i], alone[0])


def test_checkpoints_are_the_papers():
    # Section 3.2: p = 0, 0.22, then p + max(p - p_before - 0.03, 0.06); for 100 steps as its authors list them.
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    for steps in range(1, 60):
        found = checkpoints(steps)
        assert found == sorted(set(found))
        assert all(0 < place <= steps for place in found)


@pytest.mark.parametrize("norm", NORMS)
def test_the_automatic_ascent_is_algorithm_1(norm):
    """Against the paper's algorithm in NumPy, for one photo, on a rugged function of the difference."""
    rng = np.random.default_rng(5)
    shape, steps, epsilon = (1, 3, 4, 3), 50, {"linf": 6.0, "l2": 20.0}[norm]
    clean = rng.uniform(0, 255, shape)
    slope, waves = rng.standard_normal(shape), rng.uniform(0.3, 2.0, shape)

    def value(d: np.ndarray) -> float:
        return float((slope * d + 2 * np.sin(waves * d)).sum())

    def gradient(d: np.ndarray) -> np.ndarray:
        return slope + 2 * waves * np.cos(waves * d)

    def project(d: np.ndarray) -> np.ndarray:
        d = np.clip(d, -epsilon, epsilon) if norm == "linf" else d * min(1, epsilon / np.linalg.norm(d))
        return np.clip(clean + d, 0, 255) - clean

    def direction(g: np.ndarray) -> np.ndarray:
        return np.sign(g) if norm == "linf" else g / np.linalg.norm(g)

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array.copy())

    start = project(rng.uniform(-1, 1, shape) * epsilon / 4)
    ascent = AutoAscent(NORMS[norm], epsilon, tensor(clean), tensor(start), steps)
    marks, eta, halvings = [0, *checkpoints(steps)], 2 * epsilon, 0
    x, before, values = start, start, []
    best, best_value = start, -np.inf
    halved, checked = True, value(start)
    for k in range(steps):
        assert np.allclose(ascent.difference.numpy(), x, atol=1e-6), k
        ascent.step(tensor(np.array([value(x)])), tensor(gradient(x)))
        values.append(value(x))
        if values[-1] > best_value:
            best, best_value = x, values[-1]
        if k in marks[1:]:
            window = k - marks[marks.index(k) - 1]
            rises = sum(values[i] > values[i - 1] for i in range(k + 1 - window, k + 1))
            halved = rises <= 0.75 * window or (not halved and checked == best_value)
            checked = best_value
            if halved:
                eta, x, halvings = eta / 2, best, halvings + 1
        z = project(x + eta * direction(gradient(x)))
        x, before = (z if k == 0 else project(x + 0.75 * (z - x) + 0.25 * (x - before))), x
    assert halvings > 1


def test_the_loss_of_the_judge_takes_the_slope_of_the_other():
    """BPDA: the pair of classes that decides is the judge's, its slope the smooth network's."""
    net, clean = SmallNet(), photos(4)

    def judge(pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.round(net(torch.from_numpy(pixels)).numpy() * 2) / 2 + np.array([0, 0, 3, 0, 0], np.float32)

    model = AttackedModel(judge, net, backward_only=True)
    scores = judge(clean)
    labels = scores.argmax(1)
    wish = Misclassification(labels)
    pixels = torch.from_numpy(clean).float()
    losses, loss_and_gradient = model.loss_and_gradient(pixels, scores, wish.margin)
    ranked = np.argsort(-scores, axis=1, kind="stable")
    assert np.allclose(losses.numpy(), [row[b] - row[a] for row, (a, b) in zip(scores, ranked[:, :2], strict=True)])
    for i in range(4):
        inputs = pixels[i : i + 1].clone().requires_grad_()
        logits = net(inputs)[0]
        tied = [k for k in range(CLASSES) if k != labels[i] and scores[i, k] == scores[i, ranked[i, 1]]]
        by_hand = [torch.autograd.grad(logits[k] - logits[labels[i]], inputs, retain_graph=True)[0][0] for k in tied]
        assert any(
            torch.allclose(loss_and_gradient[i], candidate, atol=1e-6)
            for candidate in [*by_hand, sum(by_hand) / len(by_hand)]
        )


@pytest.mark.parametrize(
    "attack", [PGD(steps=20), APGD(steps=20), DeepFool()], ids=lambda attack: type(attack).__name__
)
def test_a_judge_without_slopes_is_fooled_by_borrowed_ones(attack):
    net, clean = SmallNet(), photos(6)

    def rounded(pixels: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.round(net(torch.from_numpy(pixels)).numpy() * 4) / 4

    model = AttackedModel(rounded, net, backward_only=True)
    wish = Misclassification(rounded(clean).argmax(1))
    result = attack.run(model, clean, wish, 64)
    assert result.fooled.all()
    assert (rounded(result.adversarial).argmax(1) != wish.classes).all()
