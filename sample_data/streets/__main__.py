"""The command `python -m sample_data.streets`."""

import sys

from sample_data import run_command
from sample_data.streets.generation import STREETS

if __name__ == "__main__":
    sys.exit(run_command(STREETS))
