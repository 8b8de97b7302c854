"""Progress bars that fit a terminal and do not flood a log file."""

import sys
from collections.abc import Iterable

from tqdm import tqdm

from engine import distributed


def progress(iterable: Iterable, *, label: str, unit: str, total: int | None = None, **kwargs):
    """Return a tqdm bar on stderr, redrawn every ten seconds where that is not a terminal; only the
    main process draws."""
    interval = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(
        iterable,
        desc=label,
        unit=unit,
        total=total,
        mininterval=interval,
        dynamic_ncols=True,
        disable=not distributed.is_main(),
        **kwargs,
    )
