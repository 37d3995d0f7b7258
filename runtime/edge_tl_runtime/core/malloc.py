"""Keep freed memory in the process.

The C library gives large blocks back to the system as soon as they are freed and asks for them anew at the next step; each
of their pages is then cleared again by the kernel. Keeping it takes a third off a training step of efficientnet_lite0 with 32
photos on two cores: 49 ms a photo before, 32 after (`benchmarks/training_epoch.py`). Attacks, dreams and training in INT8 gain
too.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of the GNU C library


def keep_heap() -> bool:
    """Serve large blocks from the heap and never trim it. Returns whether the C library did so (the GNU one can)."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False  # another C library, as in Alpine Linux
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
