"""What systems leave beside photos: names of files and folders that hold nothing of the person's."""

from __future__ import annotations

_FOLDERS = frozenset(
    {
        "@eadir",  # Synology: thumbnails of every photo
        "#recycle",
        "@recycle",
        "$recycle.bin",
        "__macosx",  # archives made on macOS
        "__pycache__",
        "lost+found",
        "system volume information",
    }
)
_FILES = frozenset({"desktop.ini", "ehthumbs.db", "icon\r", "thumbs.db"})


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is a system's, in any case: hidden ones (`.DS_Store`, `._photo.jpg`,
    `.ipynb_checkpoints`), recycle bins, thumbnails of network drives."""
    lower = name.lower()
    return lower.startswith(".") or lower in _FOLDERS or lower in _FILES
