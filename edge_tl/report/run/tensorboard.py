"""A run's records for TensorBoard."""

from __future__ import annotations

from pathlib import Path

from edge_tl.training.run_folder import read_metrics
from edge_tl_runtime.core.errors import UsageError

FOLDER = "tensorboard"


def write_events(folder: Path) -> Path:
    """Scalars by epoch below the run's `tensorboard` folder. Raises UsageError where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError("TensorBoard is not installed here; run: pip install tensorboard") from None
    target = folder / FOLDER
    with SummaryWriter(str(target)) as writer:
        for record in read_metrics(folder):
            step = record.get("epoch", 0)
            if record["stage"] in ("probe", "finetune"):
                for name in ("loss", "val_loss", "top1", "learning_rate"):
                    if name in record:
                        writer.add_scalar(name, record[name], step)
    return target
