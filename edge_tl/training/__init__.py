"""From labelled photos to a run: features, the linear probe, fine-tuning, calibration, and what is kept of them."""
