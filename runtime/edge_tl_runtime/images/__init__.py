"""Pictures in files: what a folder holds, what each file is, and how it becomes pixels."""

__all__ = ["crop", "datasets", "decode", "documents", "fingerprint", "formats", "headers", "uncrop"]
