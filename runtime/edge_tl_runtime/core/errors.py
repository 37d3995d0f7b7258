"""Every failure a person can meet, named by what they must do about it.

The command line turns an ``EdgeTLError`` into one line and ``exit_code``; any other exception is a bug.
"""

from __future__ import annotations


class EdgeTLError(Exception):
    """Base of all expected failures. The message says what was being done, what was found and what to do next.

    exit_code: 1 when the work failed, 2 when the request itself was wrong.
    """

    exit_code = 1


class UsageError(EdgeTLError):
    """Ask differently: the request contradicts itself, or a name in it (backbone, data set, run, provider) means nothing.

    A photo, folder or model file that is missing is no wrong use: the same words are right once it is there.
    """

    exit_code = 2


class DataError(EdgeTLError):
    """Mend the photos: an empty class, a single class, nothing readable."""


class BadImage(DataError):
    """One file is not a readable photo. Callers that walk folders count it and go on."""


class BadFrame(DataError):
    """An array is not a camera frame (empty, not uint8, or not 1, 3 or 4 channels)."""


class BadModelError(EdgeTLError):
    """Replace the model file: damaged, not one of edge-tl, or its own self-test failed."""


class UnknownSpecVersion(BadModelError):
    """Upgrade edge-tl: the file was written by a release with a newer contract."""


class BadPackError(EdgeTLError):
    """Make or fetch the benchmark pack again: damaged, altered, not one, or of another model."""


class SourceError(EdgeTLError):
    """Fix the camera, video or folder that frames were to come from."""


class OutputError(EdgeTLError):
    """Free or open the place that results were to be written to (full disk, read-only folder)."""


class PeerFailed(EdgeTLError):
    """Look at another process of the training, which ended. told: whether that process gave its reason in a line of its own."""

    def __init__(self, message: str, told: bool = False) -> None:
        super().__init__(message)
        self.told = told


class WeightsError(EdgeTLError):
    """Get or choose other weights: no network and none installed, or a file that does not fit the network."""
