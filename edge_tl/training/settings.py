"""Everything that can be asked of a training, with its default and its help line, in one table.

The command line makes its options from these fields, `settings.json` stores them, and a resumed run reads them back: a new
setting is one field here and its use.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, cast

from edge_tl_runtime.core.errors import UsageError
from edge_tl_runtime.core.settings import option
from edge_tl_runtime.images.settings import crop_option, fit_option, flip_option, rotate_option

if TYPE_CHECKING:
    from edge_tl.training.documents import AskedTrainingDocument

RECIPES = ("auto", "probe", "finetune")


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """How every weight is trained, after the head. The defaults are those that measured best; see docs/decisions."""

    epochs: int = option(0, "Passes over the training photos; 0: chosen by their number.", low=0)
    head_epochs: int = option(0, "Passes that train only the head, before the others.", low=0, rare=True)
    head_init: str = option("probe", "What the head starts from.", "probe", "random", rare=True)
    optimizer: str = option("adamw", "Optimizer.", "adamw", "sgd", rare=True)
    learning_rate: float = option(1e-4, "Peak rate of the last backbone layer.", low=0)
    find_rate: bool = option(False, "Search the learning rate first.", rare=True)
    head_rate: float = option(1.0, "Rate of the head over that of the last backbone layer.", low=0, rare=True)
    layer_decay: float = option(1.0, "Rate of the first layer over that of the last one.", low=0, high=1, rare=True)
    momentum: float = option(0.9, "Momentum of sgd.", low=0, high=1, rare=True)
    weight_decay: float = option(0.0, "Weight decay; not applied to norms and biases.", low=0, rare=True)
    batch_size: int = option(32, "Photos per step, over all processes.", low=1)
    warmup: float = option(0.0, "Share of the steps in which the learning rate rises.", low=0, high=1, rare=True)
    clip: float = option(0.0, "Largest gradient norm; 0 for none.", low=0, rare=True)
    label_smoothing: float = option(
        0.0, "Share of a target that is spread over all classes.", low=0, high=0.99, rare=True
    )
    dropout: float = option(0.0, "Dropout before the head.", low=0, high=0.99, rare=True)
    augment: str = option(
        "crop", "Random crops and mirroring, alone or with a policy.", "none", "crop", "trivial", "rand", rare=True
    )
    mirror: bool | None = option(
        None, "Mirror half of the views.  [default: not where mirrored photos look like another class]"
    )
    min_area: float = option(
        0.35, "Smallest share of a photo that a random crop may show.", low=0.01, high=1, rare=True
    )
    mixup: float = option(0.0, "Beta parameter of mixup; 0 for none.", low=0, rare=True)
    cutmix: float = option(0.0, "Beta parameter of cutmix; 0 for none.", low=0, rare=True)
    disturb: str = option(
        "none", "Noise and blur of a random strength for each view.", "none", "noise", "blur", "both", rare=True
    )
    adversarial: str = option("none", "Adversarial training: fgsm takes one step, pgd several.", "none", "fgsm", "pgd")
    eps: float = option(
        2.0, "Epsilon of adversarial training: largest change of a pixel value, of 255.", low=0, high=255
    )
    adversarial_steps: int = option(3, "Steps of pgd in adversarial training.", low=1, rare=True)
    balance: str = option(
        "auto",
        "Give classes of unequal size equal weight, in the probe too; auto: from 2:1 on.",
        "auto",
        "none",
        "weights",
        "sampling",
    )
    ema: float = option(0.0, "Decay of the moving average of the weights; 0 for none.", low=0, high=0.99999, rare=True)
    average: str = option(
        "line",
        "Weights kept: the last, the mean of the late epochs, or a point towards the probe.",
        "last",
        "swa",
        "line",
        rare=True,
    )
    patience: int = option(
        0, "Stop after this many epochs without a better validation loss; 0: never.", low=0, rare=True
    )
    freeze_bn: bool = option(True, "Keep the statistics of batch normalisation.", rare=True)
    precision: str = option(
        "auto", "auto: bf16 on CUDA devices that have it, fp32 elsewhere.", "auto", "fp32", "bf16", "fp16", rare=True
    )
    compile: bool = option(False, "Compile the network with torch.compile.", rare=True)
    distill_weight: float = option(0.7, "Share of the teacher in the loss, with --teacher.", low=0, high=1, rare=True)
    distill_temperature: float = option(
        2.0, "Temperature that softens the answers of teacher and student.", low=0.01, rare=True
    )


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What was asked for; written to settings.json as it is.

    arch: backbone. weights: "pretrained", "none", a file or a run's folder. test: "" for none, a fraction of each class, or
    a folder.
    """

    arch: str = option("efficientnet_lite0", "Backbone; timm/<name> for any network of timm.")
    edge_friendly: bool = option(
        False, "Replace layers that gain little in INT8: hard-swish and SiLU by ReLU6, squeeze-excite by constants."
    )
    weights: str = option("pretrained", "Weights to start from: pretrained, none, a file, or a run.")
    recipe: str = option(
        "auto", "probe: train only the head; finetune: train every weight; auto: choose what gains accuracy.", *RECIPES
    )
    size: int = option(
        0, "Side of the input in pixels; 0: the backbone's own, or what `--recipe auto` chooses.", low=0, high=1024
    )
    crop: str = crop_option()
    rotate: int = rotate_option(0)
    flip: str = flip_option("none", hidden=True)
    fit: str = fit_option("crop", hidden=True)
    val_fraction: float = option(
        0.2, "Share of each class to hold out when DATA has no val folder.", low=0.01, high=0.9
    )
    group: str = option(
        "by-name",
        "Keep related photos on one side of a split: by-name, auto (by name and by look), a column of a list, or none.",
    )
    test: str = option("", "Photos only to evaluate on at the end: a fraction of each class, or a folder.")
    teacher: str = option("", "A run or a backbone whose answers to learn from (distillation).")
    unlabelled: str = option("", "A folder of photos without labels, for the teacher to label.", rare=True)
    background: str = option(
        "",
        "A folder of photos of the empty scene or of other things: no class, they choose how much is called unknown.",
        metavar="FOLDER",
    )
    seed: int = option(0, "Seed of splits, order and views.", low=0)
    device: str = option("auto", "Device to compute on; auto: a GPU if there is one.", "auto", "cpu", "cuda", "mps")
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)

    def to_dict(self) -> AskedTrainingDocument:
        """As they are stored; `from_dict` of it gives equal ones."""
        return cast("AskedTrainingDocument", asdict(self))

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> TrainSettings:
        """Read back `dataclasses.asdict`. Raises UsageError for a setting this release does not know."""
        try:
            nested = FinetuneSettings(**document.get("finetune", {}))
            return cls(**{**document, "finetune": nested})
        except TypeError as error:
            raise UsageError(
                f"the stored settings are from another release ({error}); start the training anew"
            ) from None
