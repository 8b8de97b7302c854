"""Pictures, curves and reports of runs and evaluations.

matplotlib raises on import where MPLBACKEND names a module that is not installed, as it does in
commands that a notebook starts. Everything here is drawn without a window, so the variable is
hidden while matplotlib is imported for the first time.
"""

import os

_backend = os.environ.pop("MPLBACKEND", None)
try:
    import matplotlib

    if _backend is not None:
        matplotlib.rcParams["backend"] = _backend
except ValueError:
    pass  # a backend that does not exist: windows stay matplotlib's own choice
finally:
    if _backend is not None:
        os.environ["MPLBACKEND"] = _backend
