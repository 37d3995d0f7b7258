"""The machine itself: processor, temperature, tuning and its profile."""
