"""What systems and programs leave beside photos: names of files and folders that hold nothing of the person's."""

from __future__ import annotations

_FOLDERS = frozenset(
    {
        "@eadir",  # Synology: thumbnails of every photo
        "@__thumb",  # QNAP
        "@tmp",
        "#recycle",
        "@recycle",
        "@recently-snapshot",
        "#snapshot",
        "$recycle.bin",
        "recycler",
        "__macosx",  # archives made on macOS
        "__pycache__",
        "lost+found",
        "lost.dir",  # Android cards
        "system volume information",
        "found.000",
    }
)
# Whatever stands before these endings: programs name their folders after the catalogue.
_FOLDER_ENDINGS = (
    ".lrdata",  # Lightroom: previews, as JPEGs without suffix
    ".lrlibrary",
    ".lrcat-data",
    ".cosessiondb",  # Capture One
    ".photoslibrary",  # macOS Photos: the originals are to be exported
)
_FILES = frozenset({
    "desktop.ini", "ehthumbs.db", "ehthumbs_vista.db", "icon\r", "picasa.ini", "thumbs.db", "thumbs.db:encryptable",
    "folder.jpg:encryptable", "zbthumbnail.info", "thumbnails-digikam.db", "digikam4.db", "recognition.db",
    "similarity.db", "sync.ffs_db", "synologyphoto_thumb_xl.jpg", "synologyphoto_thumb_m.jpg",
    "synologyphoto_thumb_sm.jpg",
})  # fmt: skip
_FILE_STARTS = ("~$", "synofile_thumb", "synophoto_thumb")
_FILE_ENDINGS = (".lrcat", ".lrcat-journal", ".lrcat.lock", ".ffs_db", ".crdownload", ".part~")


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is a system's, in any case: hidden ones (`.DS_Store`, `._photo.jpg`,
    `.ipynb_checkpoints`, `.thumbnails`), recycle bins, thumbnails of network drives, catalogues of photo programs."""
    lower = name.lower()
    return (
        lower.startswith((".", *_FILE_STARTS))
        or lower in _FOLDERS
        or lower in _FILES
        or lower.endswith(_FOLDER_ENDINGS)
        or lower.endswith(_FILE_ENDINGS)
    )
