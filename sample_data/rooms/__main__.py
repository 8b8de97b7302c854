"""The command `python -m sample_data.rooms`."""

import sys

from sample_data import run_command
from sample_data.rooms.generation import ROOMS

if __name__ == "__main__":
    sys.exit(run_command(ROOMS))
