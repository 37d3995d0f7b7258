"""Which of the weights that a training offers is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_tl.training.finetune.adversarial_training import Robust
from edge_tl.training.finetune.finetune import Finetuner
from edge_tl.training.validation import Validator
from edge_tl_runtime.evaluation.evaluate import Evaluation


@dataclass(frozen=True)
class CandidateScore:
    """Weights: where they come from, what they score. robust: under attack, of an adversarial training."""

    name: str
    evaluation: Evaluation
    loss: float
    robust: Robust | None = None

    def beats(self, other: CandidateScore) -> bool:
        """By right answers, or by balanced accuracy where classes are unequal, then by loss; of two that were attacked, by the
        loss under attack: clean photos would choose the weights nearest to the probe, which withstand nothing."""
        if self.robust and other.robust:
            return self.robust.loss < other.robust.loss
        return (self._accuracy, -self.loss) > (other._accuracy, -other.loss)

    @property
    def _accuracy(self) -> float:
        evaluation = self.evaluation
        return round(evaluation.balanced_accuracy, 9) if evaluation.unequal else evaluation.correct


def choose(
    tuner: Finetuner, evaluator: Validator, probe: CandidateScore | None, tell: Callable[[CandidateScore], None]
) -> CandidateScore:
    """Give the tuner's network the best of its candidates. probe: what they must beat, if anything. tell: called with each."""
    best, state = probe, tuner.start
    for candidate in tuner.candidates():
        tuner.network.module.load_state_dict(candidate.state)
        evaluation, loss = evaluator(tuner.infer)
        robust = tuner.hardening.robust.choose() if tuner.hardening else None
        score = CandidateScore(candidate.name, evaluation, loss, robust)
        tell(score)
        if best is None or score.beats(best):
            best, state = score, candidate.state
    assert best is not None
    tuner.network.module.load_state_dict(state)
    return best
