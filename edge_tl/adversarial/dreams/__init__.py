"""Pictures that a class likes best."""

__all__ = ["dream", "files", "fourier"]
