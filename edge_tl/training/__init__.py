"""From labelled photos to a run: features, the linear probe, fine-tuning, calibration, and what is kept of them."""

__all__ = [
    "auto_recipe", "background", "calibrate", "devices", "diagnose", "distributed", "documents", "finetune", "kept",
    "model_selection", "probe", "result", "run_folder", "seen", "settings", "settings_file", "splits", "train", "trainer",
    "validation",
]  # fmt: skip
