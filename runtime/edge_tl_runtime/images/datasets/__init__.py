"""Labelled photos: which files a folder or list holds, which label each has, and how they are divided."""
