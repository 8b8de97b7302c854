"""Memory that a CPU run frees stays with the process, for its next step to use.

The C library hands large blocks back to the system at once and asks for new ones in the next step,
which the system must fill with zeros, 4 KiB at a time. A network on ResNet-50 frees and takes
several gigabytes a step: up to half of the time went there.
"""

import ctypes

# Of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let the C library keep what this process frees, from now on and in processes forked later.

    The process then stays as large as it was at its largest. Returns whether the C library takes
    the request: the GNU one does; with others nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # TypeError: Windows
        return False
    # No block of its own for large requests, and the heap never shrinks.
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1))
