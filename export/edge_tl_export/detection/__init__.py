"""What lets a file tell pictures that are like none of its training photos, and what it notices."""

__all__ = ["adding", "background", "detector", "trials"]
