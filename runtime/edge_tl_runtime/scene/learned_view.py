"""What a camera saw when all was well: learned on site, kept for the next start."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.scene.structure import HEIGHT, TILES, WIDTH, Field, Orientation, Small, coarse_energy

if TYPE_CHECKING:
    from edge_tl_runtime.scene.documents import ViewDocument

STEADY = 0.6
"""Agreement with the median that a tile has in half of the looks, if it is to tell anything later."""
LEAST_COARSE = 0.3
"""Energy of the gradient below which a tile is flat: about half a grey value a pixel."""
LEAST_TILES = 8
MAX_TIME = 2.0**40
_MAX_ENERGY = 1e9
_FORMAT = 1


@dataclass(slots=True)
class LearnedView:
    """A view. picture: float32 (HEIGHT, WIDTH), the median of the looks. tells: bool TILES, which tiles can be compared. coarse,
    fine: float32 TILES, usual energies. white: usual share of white pixels. learned: seconds since 1970. source, size: whose
    frames, and their columns and rows."""

    picture: Field
    tells: NDArray[np.bool_]
    coarse: Field
    fine: Field
    white: float
    learned: float
    source: str
    size: tuple[int, int]
    edges: Orientation

    @classmethod
    def of(cls, looks: Sequence[Small], learned: float, source: str, size: tuple[int, int]) -> LearnedView:
        """looks: at least three, of one view."""
        picture = np.median(np.stack([look.even for look in looks]), axis=0).astype(np.float32)
        edges = Orientation.of(picture)
        agreement = np.median(np.stack([edges.agreement(Orientation.of(look.even)) for look in looks]), axis=0)
        pairs = [coarse_energy(now, before) for now, before in zip(looks[1:], looks, strict=False)]
        coarse = np.median(np.stack(pairs), axis=0).astype(np.float32)
        fine = np.median(np.stack([look.fine for look in looks]), axis=0).astype(np.float32)
        tells = (agreement >= STEADY) & (coarse >= LEAST_COARSE)
        white = float(np.median([look.white for look in looks]))
        return cls(picture, tells, coarse, fine, white, learned, source, size, edges)

    @property
    def enough(self) -> bool:
        """Whether it has structure to tell a covered, blurred or moved camera by."""
        return int(self.tells.sum()) >= LEAST_TILES

    def blend(self, look: Small, share: float) -> None:
        """Follow the light of the day: take over a little of a look that shows the same."""
        self.picture += np.float32(share) * (look.even - self.picture)

    def renew(self) -> None:
        """Take the edges from the picture again."""
        self.edges = Orientation.of(self.picture)

    def to_dict(self) -> ViewDocument:
        grey = np.clip(np.rint(self.picture), 0, 255).astype(np.uint8)
        _, encoded = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 92])
        return {
            "format": _FORMAT,
            "source": self.source,
            "size": list(self.size),
            "learned": self.learned,
            "white": round(self.white, 4),
            "tells": np.flatnonzero(self.tells).tolist(),
            "coarse": [round(float(value), 3) for value in self.coarse.ravel()],
            "fine": [round(float(value), 3) for value in self.fine.ravel()],
            "picture": b64encode(encoded.tobytes()).decode("ascii"),
        }

    @classmethod
    def from_dict(cls, document: Any) -> LearnedView | None:
        """None for what `to_dict` did not write, whatever it is."""
        try:
            if document["format"] != _FORMAT:
                return None
            data = np.frombuffer(b64decode(document["picture"], validate=True), np.uint8)
            decoded = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if len(data) else None
            coarse, fine = (_energies(document[name]) for name in ("coarse", "fine"))
            tells = np.zeros(TILES[0] * TILES[1], bool)
            tells[np.array(document["tells"], int)] = True
            columns, rows = document["size"]
            white, learned = float(document["white"]), float(document["learned"])
            if (
                decoded is None
                or decoded.shape != (HEIGHT, WIDTH)
                or not 0 <= white <= 1
                or not 0 <= learned < MAX_TIME
            ):
                return None
            picture = np.asarray(decoded, np.float32)
            size = int(columns), int(rows)
            source = str(document["source"])
        except (KeyError, TypeError, ValueError, IndexError, OverflowError, Error, cv2.error):
            return None
        return cls(picture, tells.reshape(TILES), coarse, fine, white, learned, source, size, Orientation.of(picture))


def _energies(values: Any) -> Field:
    """Raises ValueError, TypeError or OverflowError for what are no energies of the tiles."""
    found = np.array(values, np.float64).reshape(TILES)
    if not (np.abs(found) <= _MAX_ENERGY).all():
        raise ValueError("no energies")
    return found.astype(np.float32)
