"""The machine itself: processor, temperature, tuning and its profile."""

__all__ = ["cpu", "documents", "open_classifier", "settings", "temperature", "tune", "tuning_profile"]
