"""What the C library keeps of memory that nobody uses any more.

Source: malloc_trim(3).
"""

import ctypes

_libc = ctypes.CDLL(None)


def trim_heap() -> None:
    """Give it back to the system. Does nothing where the C library is not glibc."""
    malloc_trim = getattr(_libc, "malloc_trim", None)
    if malloc_trim:
        malloc_trim(ctypes.c_size_t(0))
