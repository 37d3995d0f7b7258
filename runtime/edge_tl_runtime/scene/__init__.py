"""What the pictures of a camera tell beside the label: motion, the camera's condition, drift."""

__all__ = ["condition", "documents", "learned_view", "motion", "structure"]
