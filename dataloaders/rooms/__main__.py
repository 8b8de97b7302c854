"""The command `python -m dataloaders.rooms`."""

import sys

from dataloaders.rooms.generation import ROOMS
from dataloaders.sample_sets import run_command

if __name__ == "__main__":
    sys.exit(run_command(ROOMS))
