"""The benchmark on the device: how fast, how good and how robust this file is on this machine. No training library needed."""
