"""Looking for what is wrong with labelled photos before they are trained on; may use models."""

__all__ = ["check", "documents", "settings"]
