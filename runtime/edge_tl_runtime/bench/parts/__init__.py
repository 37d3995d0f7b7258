"""The parts of the benchmark: each measures one thing."""

__all__ = [
    "accuracy", "all_parts", "clean", "corruptions", "fresh", "inputs", "latency", "live_square", "part", "resources",
    "stored", "throughput", "timing",
]  # fmt: skip
