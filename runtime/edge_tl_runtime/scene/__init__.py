"""What the pictures of a camera tell beside the label: motion, the camera's condition, drift."""

__all__ = [
    "condition", "documents", "drift", "drift_changes", "drift_pictures", "drift_state", "events", "learned_view",
    "martingale", "motion", "structure",
]  # fmt: skip
