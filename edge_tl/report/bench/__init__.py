"""Pages and plots of the benchmark on the device."""
