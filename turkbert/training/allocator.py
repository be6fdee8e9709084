"""Training on a CPU makes and drops tensors of many megabytes at every step: keep their memory.

    keep_freed_memory()
"""

import ctypes
import sys

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 256 * 2**20


def keep_freed_memory() -> None:
    """Let glibc reuse what is freed instead of handing it to the kernel, which would clear each page anew.

    Without it a third of a small model's step on a CPU is page faults. What the process holds then stays at its peak.
    Elsewhere than on Linux with glibc nothing is changed.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, _TOP_PAD_BYTES)
