"""What a program hands over as a picture, as the frame that the device would see."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_tl_runtime.core.errors import BadFrame, BadImage, DataError, UsageError
from edge_tl_runtime.images.decode import Frame, decode_photo, read_photo
from edge_tl_runtime.images.formats.pixels import over_grey

Channels = Literal["rgb", "bgr"]
"""Order of the colours in an array: "rgb" as Pillow, matplotlib and imageio give them, "bgr" as OpenCV does."""

_TURNED = 0x0112
"""EXIF's tag of orientation."""


def frame_of(image: Any, channels: Channels | None = None) -> Frame:
    """A path, the bytes of a photo file, a Pillow image or an array, as uint8 (H, W, 3), BGR; grey arrays as they are.

    channels: what an array's colours are; an array cannot say so itself, and the wrong one is not noticed.
    Raises BadImage for a file that is no photo, DataError where there is none, BadFrame for an array that is no picture,
    UsageError for anything else.
    """
    if channels not in (None, "rgb", "bgr"):
        raise UsageError(f'channels is {channels!r}; there are "rgb" and "bgr"')
    if isinstance(image, np.ndarray):
        return _of_array(image, channels)
    if channels is not None:
        raise UsageError("channels is for arrays; a photo knows the order of its own colours: leave channels out")
    if isinstance(image, (str, os.PathLike)):
        return _of_path(Path(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return decode_photo(bytes(image))
    pillow = sys.modules.get("PIL.Image")  # who has such an image has loaded it
    if pillow is not None and isinstance(image, pillow.Image):
        return _of_pillow(image)
    raise UsageError(f"{_kind(image)}; predict takes a path, the bytes of a photo, a Pillow image or a NumPy array")


def _kind(image: object) -> str:
    """What it is, and what to make of it where that is known."""
    name = f"this is of type {type(image).__module__}.{type(image).__qualname__}".replace("builtins.", "")
    if type(image).__module__.split(".")[0] == "torch":
        return f"{name}: give uint8 of height x width x 3 by .numpy(), not normalised"
    if isinstance(image, (list, tuple)):
        return f"{name}: predict takes one picture at a time, call it for each"
    if hasattr(image, "read"):
        return f"{name}: give what its read() returns"
    return name


def _of_path(path: Path) -> Frame:
    if "://" in str(path) or ":/" in str(path)[:8]:
        raise UsageError("predict takes photos on this machine, not addresses; use stream for a camera's address")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; loop over its photos, or over stream({str(path)!r})")
    if not path.exists():
        raise DataError(f"no photo at {path}; check the path")
    try:
        return read_photo(path)
    except BadImage as error:
        raise BadImage(f"{path}: {error}") from None


def _of_array(array: NDArray[Any], channels: Channels | None) -> Frame:
    found = f"an array of {array.dtype}, shape {array.shape}"
    if array.dtype != np.uint8:
        raise BadFrame(f"{found}: give whole values of 0 to 255 as uint8; values of 0 to 1 times 255, rounded")
    if array.size == 0 or array.ndim not in (2, 3):
        several = ": predict takes one picture at a time" if array.ndim == 4 else ""
        raise BadFrame(f"{found} is no picture{several}; give height x width x 3")
    if array.ndim == 2 or array.shape[2] == 1:
        return array  # no colours, so no order of them
    if array.shape[2] == 4:
        raise BadFrame(f"{found}: leave the fourth channel out ([..., :3]), or give the Pillow image or the file")
    if array.shape[2] != 3:
        turned = "; move the channels last: transpose(1, 2, 0)" if array.shape[0] in (1, 3, 4) else ""
        raise BadFrame(f"{found} is no picture{turned or '; give height x width x 3'}")
    if channels is None:
        raise UsageError(
            f'{found} does not say the order of its colours; add channels="rgb" (Pillow, matplotlib, imageio) or '
            'channels="bgr" (OpenCV)'
        )
    return array if channels == "bgr" else cv2.cvtColor(array, cv2.COLOR_RGB2BGR).astype(np.uint8, copy=False)


def _of_pillow(image: Any) -> Frame:
    """As the file would be read: orientation applied, transparency over mid grey."""
    if image.mode not in (
        "1",
        "L",
        "LA",
        "La",
        "P",
        "PA",
        "RGB",
        "RGBA",
        "RGBa",
        "RGBX",
        "CMYK",
        "YCbCr",
        "LAB",
        "HSV",
    ):
        raise BadImage(
            f"a Pillow image of mode {image.mode} has no 8 bits a colour; give the file itself, or scale it and convert it to RGB"
        )
    if 0 in image.size:
        raise BadImage(f"a Pillow image of {image.size[0]} x {image.size[1]} px is no picture; check how it was cut")
    if image.getexif().get(_TURNED, 1) != 1:
        from PIL import ImageOps

        image = ImageOps.exif_transpose(image)
    transparent = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    pixels = np.asarray(image.convert("RGBA" if transparent else "RGB"))
    if not transparent:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), np.uint8)
    return over_grey(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA), np.uint8), premultiplied=False).frame
