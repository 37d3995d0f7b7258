"""Attacking an exported file with many attacks and checking the results: sweep, evidence, gradient masking, report."""

__all__ = [
    "alarms", "checkpoint", "chosen_attacks", "evaluation", "evidence", "fp32_counterpart", "gradient_masking", "int8_vs_fp32",
    "presets", "report", "slopes", "sweep", "target", "words",
]  # fmt: skip
