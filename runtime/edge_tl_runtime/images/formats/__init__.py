"""File formats of photos: which one a file is, by its content, and how each becomes pixels."""
