"""The capture process beside the runner: one device, the newest frame, restarts."""
