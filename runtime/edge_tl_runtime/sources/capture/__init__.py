"""The capture process beside the runner: one device, the newest frame, restarts."""

__all__ = ["devices", "live", "process", "repeats", "ring", "watchdog"]
