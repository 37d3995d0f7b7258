"""What the scores of a file mean, by what it answers: logits, probabilities, or their logarithms; or that nobody can tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadModelError, UsageError
from edge_tl_runtime.core.text import one_line

if TYPE_CHECKING:
    from edge_tl_export.adoption.tail import ScoreOutput

Array = NDArray[np.float64]

TOTALS = (1.0, 100.0, 255.0, 256.0)
"""What rows of probabilities sum to: percent, and whole numbers of a byte."""
TINY = 1e-37
"""Added before a logarithm: a probability of 0 gets a finite logit, and no other changes."""
ALTERING = ("Clip", "Round", "Floor", "Ceil", "Relu")
"""Operators that may do nothing to probabilities, which the answers show; a clip to 0..1 is one."""
SAYS = {
    "logits": "logits",
    "probabilities": "probabilities, from a softmax",
    "log-probabilities": "logarithms of probabilities",
    "negative-log-probabilities": "negative logarithms of probabilities, the smallest of which is the likeliest class",
    "independent": "a sigmoid for each class",
    "odds": "one logit for two classes: above 0 is the second label",
    "chance": "one probability for two classes, that of the second label",
}
"""Every meaning in words, for a person."""


@dataclass(frozen=True)
class Reading:
    """How the scores of a file are to be understood.

    meaning: logits, probabilities, log-probabilities, negative-log-probabilities, independent (a sigmoid for each class), odds
    (one logit for two classes) or chance (one probability for two classes). total: what rows of probabilities sum to.
    cut: whether the activation that the graph has is left out; else probabilities get a logarithm.
    """

    meaning: str
    total: float = 1.0
    cut: bool = False

    @property
    def two_of_one(self) -> bool:
        return self.meaning in ("odds", "chance")

    def logits(self, scores: Array) -> Array:
        """What the adopted file shall answer for the original's `scores`, (N, C), in float64."""
        logs: Array
        with np.errstate(divide="ignore"):
            if self.meaning == "probabilities":
                logs = np.log(scores / self.total + TINY)
                return logs
            if self.meaning == "independent":
                logs = np.log(scores + TINY) - np.log1p(-np.minimum(scores, 1 - 1e-7))
                return logs
            if self.meaning == "chance":
                return np.concatenate([np.log(1 - np.minimum(scores, 1) + TINY), np.log(scores + TINY)], 1)
            if self.meaning == "odds":
                return np.concatenate([np.zeros_like(scores), scores], 1)
        return -scores if self.meaning == "negative-log-probabilities" else scores

    def as_original(self, logits: Array) -> Array:
        """The other way: what logits (N, C) of the adopted file mean in the original's terms, (N, C) or (N, 1)."""
        if self.meaning == "logits":
            return logits
        if self.meaning == "independent":
            return _sigmoid(logits)
        if self.meaning == "odds":
            return logits[:, 1:] - logits[:, :1]
        shifted = logits - logits.max(1, keepdims=True)
        logs: Array = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        if self.meaning.endswith("log-probabilities"):
            return -logs if self.meaning.startswith("negative") else logs
        meant: Array = np.exp(logs[:, 1:] if self.meaning == "chance" else logs) * self.total
        return meant


def read(
    candidate: ScoreOutput,
    answers: Array,
    before: Array | None,
    wanted: str,
    name: str,
    *,
    exact: float = 1e-4,
    whole_numbers: bool = False,
) -> Reading:
    """How scores are to be understood. answers: (N, C) of several pictures; before: what goes into the activation, alike.

    wanted: one of READINGS. name: of the file, for messages. exact: how far probabilities may be from a softmax and still be
    it, which depends on the precision. whole_numbers: the type of the scores is one of these.
    Raises BadModelError for what are no scores of classes, UsageError where a person must say what they mean.
    """
    _refuse_what_are_no_scores(candidate, answers, before, name)
    single = answers.shape[1] == 1
    if wanted != "auto":
        return _wanted(wanted, single, answers, candidate, name)
    if single and whole_numbers:
        raise BadModelError(
            f"{name}: output {one_line(candidate.output, 40)!r} is one whole number for a picture, as the number of a class; "
            "export its scores, or say --scores logits if it is one score for two classes"
        )
    by_graph = None if before is None else _of_activation(candidate, answers, before, exact)
    if by_graph is not None:
        return by_graph
    # Operators that were seen to change the probabilities may leave their sum alone in these pictures, and not in others.
    altered = before is not None and any(node.op_type in ALTERING for node in candidate.through)
    by_answers = None if single or altered else _of_answers(answers, rough=whole_numbers or exact > 1e-3)
    if by_answers is not None:
        return by_answers
    tail = candidate.tail
    in_unit = answers.min() >= 0 and answers.max() <= 1
    steady = np.ptp(answers, axis=0).max() > 0 and _total(answers, 1e-3) > 0
    if candidate.activation or tail.activations or (tail.bent and (in_unit or (steady and not single))):
        raise UsageError(_cannot_be_told(candidate, answers, name))
    return Reading("odds" if single else "logits")


def _refuse_what_are_no_scores(candidate: ScoreOutput, answers: Array, before: Array | None, name: str) -> None:
    output = f"{name}: output {one_line(candidate.output, 40)!r}"
    least_likely = np.isposinf(answers) if candidate.negative else np.isneginf(answers)
    if not (np.isfinite(answers) | least_likely).all():
        kind = "not a number (NaN)" if np.isnan(answers).any() else "infinite"
        raise BadModelError(
            f"{output} gave scores that are {kind}; export the network again in float32 and try it there"
        )
    if candidate.tail.ranking:
        raise BadModelError(
            f"{output} comes behind {', '.join(candidate.tail.ranking)}, so a score's place does not say its class; "
            "export the scores before it"
        )
    constant = np.ptp(answers) <= 1e-6 * max(1.0, float(np.abs(answers).max()))
    varied = candidate.activation.endswith("softmax") and (before is None or np.ptp(before) > 1e-6)
    if constant and len(answers) > 1 and (answers.shape[1] == 1 or varied):
        value = float(answers.flat[0])
        sure = value == candidate.factor or (value == 0 and candidate.activation != "softmax")
        why = (
            "a softmax over one value gives that whatever the picture is" if sure else "nothing depends on the picture"
        )
        raise BadModelError(
            f"{output} is {value:g} for every class of every test picture: {why}; "
            "export what is before it, or a softmax over the axis of the classes"
        )


def _of_activation(candidate: ScoreOutput, answers: Array, before: Array, exact: float) -> Reading | None:
    """What the graph's activation says, where the answers are just what it gives for `before`."""
    single, kind = answers.shape[1] == 1, candidate.activation
    positive, factor = not candidate.negative, candidate.factor
    if kind == "sigmoid" and positive and factor == 1 and _close(answers, _sigmoid(before), exact):
        return Reading("chance" if single else "independent", cut=True)
    if single:
        return None
    if kind == "softmax" and positive and _close(answers / factor, _softmax(before), exact):
        return Reading("probabilities", factor, cut=True)
    if kind == "log-softmax" and factor == 1:
        probabilities = np.exp(answers if positive else -answers)
        if _close(probabilities, _softmax(before), max(exact, 1e-3)):
            return Reading("log-probabilities" if positive else "negative-log-probabilities", cut=True)
    return None


def _of_answers(answers: Array, rough: bool) -> Reading | None:
    """What the answers say by themselves: rows that sum to a usual total, or exponentials that do. None for anything else.

    rough: of half precision or whole numbers, which do not sum to it exactly.
    """
    total = _total(answers, 0.01 if rough else 2e-3)
    if total and any(abs(total - usual) <= (0.02 if rough else 2e-3) * usual for usual in TOTALS):
        return Reading("probabilities", total)
    for sign, meaning in ((1, "log-probabilities"), (-1, "negative-log-probabilities")):
        logs = sign * answers
        if (logs <= 1e-6).all() and np.allclose(np.exp(logs).sum(1), 1, atol=1e-2 if rough else 2e-3):
            return Reading(meaning)
    return None


def _cannot_be_told(candidate: ScoreOutput, answers: Array, name: str) -> str:
    """What was found, what it may be, and what a person can say."""
    low, high, sums = float(answers.min()), float(answers.max()), answers.sum(1)
    ways = []
    if low >= 0 and (answers.shape[1] > 1 or high <= 1):
        divided = "" if answers.shape[1] == 1 else " (every picture's are divided by their sum)"
        ways.append(f"--scores probabilities{divided}")
    if low >= 0 and high <= 1 and answers.shape[1] > 1:
        ways.append("--scores sigmoid (each class has its own)")
    if not candidate.negative:
        ways.append("--scores logits (they are taken as they are)")
    behind = ", ".join(reversed(candidate.tail.behind[:6])) or candidate.activation
    shown = f"its scores go from {low:.3g} to {high:.3g}"
    if answers.shape[1] > 1:
        shown += f" and sum to {sums.min():.3g}" + (f" .. {sums.max():.3g}" if np.ptp(sums) > 1e-3 else "")
    said = f"say {', '.join(ways)}, or export" if ways else "export"
    return (
        f"{name}: output {one_line(candidate.output, 40)!r} ends in {one_line(behind, 80)}; {shown}, so whether they are logits "
        f"or probabilities cannot be told; {said} it without what is behind its last layer"
    )


def _wanted(wanted: str, single: bool, answers: Array, candidate: ScoreOutput, name: str) -> Reading:
    range_ = f"{name}: the scores go from {answers.min():.3g} to {answers.max():.3g}"
    sums_to_one = not single and answers.min() >= 0 and np.allclose(answers.sum(1), 1, atol=1e-3)
    altered = any(node.op_type in ALTERING for node in candidate.through)
    if wanted in ("logits", "sigmoid") and candidate.activation == "softmax" and sums_to_one and not altered:
        raise UsageError(
            f"{range_} and sum to 1, and it ends in a softmax: they are probabilities, and another softmax would make every "
            "answer unsure; leave --scores out"
        )
    if wanted == "logits":
        if candidate.negative and candidate.activation == "log-softmax":
            raise UsageError(
                f"{name}: the smallest score is the likeliest class, for they are negative logarithms; leave --scores out"
            )
        return Reading("odds" if single else "logits")
    if wanted == "log-probabilities":
        if answers.max() > 1e-3 or not np.allclose(np.exp(answers).sum(1), 1, atol=2e-2):
            raise UsageError(
                f"{range_} and their exponentials do not sum to 1, so they are no logarithms of probabilities; "
                "leave --scores out, or say --scores logits"
            )
        return Reading("log-probabilities")
    outside = answers.min() < -1e-3 or ((single or wanted == "sigmoid") and answers.max() > 1 + 1e-3)
    if outside:
        raise UsageError(f"{range_}, so they are no probabilities; leave --scores out, or say --scores logits")
    if wanted == "sigmoid" or single:
        return Reading("chance" if single else "independent")
    if not (answers.sum(1) > 0).all():
        raise UsageError(
            f"{name}: for some pictures every score is 0, so they are no probabilities; say --scores logits"
        )
    return Reading("probabilities", float(np.median(answers.sum(1))))


def follows(first: Array, second: Array, earlier: bool) -> bool:
    """Whether scores, (N, C) both, are the softmax of others, or the same where these come earlier."""
    if np.allclose(first, second, atol=1e-6):
        return earlier
    return bool(np.allclose(_softmax(first), second, atol=1e-4))


def _total(answers: Array, agreement: float) -> float:
    """What every row sums to, where no value is negative and all rows agree to a share of it; 0 otherwise."""
    sums = answers.sum(1)
    if answers.min() < -1e-4 * max(1.0, answers.max()) or not sums.min() > 0 or len(answers) < 2:
        return 0.0
    middle = float(np.median(sums))
    if np.abs(sums - middle).max() > agreement * middle:
        return 0.0
    # Half precision leaves a thousandth; a row of logits that sums to the same for every picture is none.
    nearest = min(TOTALS, key=lambda usual: abs(middle - usual) / usual)
    return nearest if abs(middle - nearest) <= 0.004 * nearest and nearest < 255 else middle


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -500, 500))))


def _softmax(x: Array) -> Array:
    with np.errstate(invalid="ignore"):
        e = np.exp(x - x.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


def _close(first: Array, second: Array, within: float) -> bool:
    return first.shape == second.shape and bool(np.allclose(first, second, rtol=0, atol=within))
