"""Fine-tuning: every weight, from the probe's head on."""
