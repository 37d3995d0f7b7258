"""Fine-tuning: every weight, from the probe's head on."""

__all__ = [
    "adapt", "adversarial_training", "augment_noise", "batch_norm", "choices", "crops", "distill", "early", "finetune",
    "further", "lr_schedule", "mirror", "mixing", "optimize",
]  # fmt: skip
