"""Runs parts of the fault suite and prints a table of each.

    python -m tests.faults --malformed          # one part
    python -m tests.faults                      # all of them

Exit code 0 where every case had its intended outcome, 1 otherwise.
"""

import argparse
import sys
from collections.abc import Callable

from tests.faults import disk, kills, malformed, twins

# Flag -> (what it runs, a function that prints its table and returns whether all went well).
PARTS: dict[str, tuple[str, Callable[[], bool]]] = {
    "malformed": ("files that are damaged, wrong or hostile", malformed.run),
    "kills": ("fifty kills at random moments", kills.run),
    "disk": ("a disk that fills up", disk.run),
    "twins": ("two runs on one folder", twins.run),
}


def main(argv: list[str] | None = None) -> int:
    """Runs the parts asked for, all where none is."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description="Faults on purpose, and whether each ends as it should.",
        allow_abbrev=False,
    )
    for name, (text, _) in PARTS.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    args = parser.parse_args(argv)
    chosen = [name for name in PARTS if getattr(args, name)] or list(PARTS)
    went_well = [PARTS[name][1]() for name in chosen]  # every part, whatever the first one did
    return 0 if all(went_well) else 1


if __name__ == "__main__":
    sys.exit(main())
