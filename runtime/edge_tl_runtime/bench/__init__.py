"""The benchmark on the device: how fast, how good and how robust this file is on this machine. No training library needed."""

__all__ = [
    "benchmark", "conditions", "documents", "energy", "ledger", "pack", "parts", "result", "settings", "signature",
    "summary", "summary_accuracy",
]  # fmt: skip
