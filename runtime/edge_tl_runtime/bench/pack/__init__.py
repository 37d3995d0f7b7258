"""Benchmark packs: photos, their adversarial versions and what was measured on the workstation, in one file."""

__all__ = ["archive", "documents", "pack"]
