"""numba where it works, and plain Python with one warning where it does not.

`cspn` has a copy of its own of this idea: either folder works without the other.
"""

import multiprocessing
import warnings
from collections.abc import Callable

_warned: list[str] = []


def _warn(problem: str) -> None:
    """Warn once, in the main process alone: loader processes have the same problem."""
    if not _warned and multiprocessing.parent_process() is None:
        warnings.warn(problem, RuntimeWarning, stacklevel=3)
    _warned.append(problem)


try:
    import numba
except Exception as error:  # not there, refuses this NumPy, or its installation is damaged
    numba = None
    if not (isinstance(error, ModuleNotFoundError) and error.name == "numba"):
        _warn(f"numba cannot be imported, so Pillow makes the frames, slower: {error}")

# Under NUMBA_DISABLE_JIT the loops would be slow, and bytes would wrap that compiled code widens.
HAS_NUMBA = numba is not None and not numba.config.DISABLE_JIT


class _SafeCache:
    """numba's cache of one function on disk; where it fails, the function is compiled anew."""

    def __init__(self, cache):
        self._cache = cache

    def __getattr__(self, name: str):
        return getattr(self._cache, name)

    def load_overload(self, signature, context):
        """Return the compiled function, None where the cache lacks it or cannot be read."""
        try:
            return self._cache.load_overload(signature, context)
        except Exception as error:  # whatever a damaged pickle raises
            self._warn("read", error)
        try:
            self._cache.flush()  # so that what is compiled now can be saved
        except Exception as error:
            self._warn("mended", error)
        return None

    def save_overload(self, signature, data) -> None:
        """Save a compiled function, where that is possible."""
        try:
            self._cache.save_overload(signature, data)
        except Exception as error:  # a full disk, a folder that may not be written
            self._warn("written", error)

    def _warn(self, done: str, error: Exception) -> None:
        cause = str(error) or type(error).__name__
        _warn(f"numba's cache in {self.cache_path} cannot be {done}, so code is compiled: {cause}")


def compiled(function: Callable) -> Callable:
    """Return the function compiled by numba, cached on disk where that can be; every rounding
    stays as written. Without numba it is returned as it is."""
    if not HAS_NUMBA:
        return function
    try:
        dispatcher = numba.njit(nogil=True, cache=True)(function)
        dispatcher._cache = _SafeCache(dispatcher._cache)
    except Exception as error:  # neither this folder nor the home folder can be written
        _warn(f"numba has nowhere to keep what it compiles, so starts are slow: {error}")
        return numba.njit(nogil=True)(function)
    return dispatcher
