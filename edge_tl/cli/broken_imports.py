"""Whether the libraries of the device can be imported at all. Imports none of them itself, so that `doctor` can always answer."""

from __future__ import annotations

import importlib

LIBRARIES = {
    "numpy": "pip install --force-reinstall numpy",
    "onnxruntime": "pip install --force-reinstall onnxruntime",
    # Its usual complaint is libGL.so.1, which belongs to the window system and is missing in containers.
    "cv2": "apt install libgl1 libglib2.0-0, or: pip uninstall -y opencv-python; pip install opencv-python-headless",
}
"""Import name, then what mends it."""


def broken_libraries() -> dict[str, str]:
    """Import name of every library that cannot be imported, with the reason and what to do, in one line."""
    broken = {}
    for name, remedy in LIBRARIES.items():
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001  # a damaged binary fails in any way it likes
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            broken[name] = f"{name} cannot be imported ({reason}); try: {remedy}"
    return broken
