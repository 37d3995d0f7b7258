"""What makes a classifier say something: its favourite pictures and the pictures that mislead it."""

from edge_tl.adversarial.apgd import APGD, TargetedAPGD
from edge_tl.adversarial.attack import Attack, Result
from edge_tl.adversarial.attacks import ATTACKS
from edge_tl.adversarial.black_box import Noise, SquareAttack
from edge_tl.adversarial.criterion import Criterion, Misclassification, TargetedMisclassification
from edge_tl.adversarial.deepfool import DeepFool
from edge_tl.adversarial.losses import LOSSES
from edge_tl.adversarial.model import Model
from edge_tl.adversarial.norms import NORMS
from edge_tl.adversarial.pgd import FGSM, PGD

__all__ = [
    "APGD",
    "ATTACKS",
    "FGSM",
    "LOSSES",
    "NORMS",
    "PGD",
    "Attack",
    "Criterion",
    "DeepFool",
    "Misclassification",
    "Model",
    "Noise",
    "Result",
    "SquareAttack",
    "TargetedAPGD",
    "TargetedMisclassification",
]
