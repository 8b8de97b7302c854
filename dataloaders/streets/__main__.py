"""The command `python -m dataloaders.streets`."""

import sys

from dataloaders.sample_sets import run_command
from dataloaders.streets.generation import STREETS

if __name__ == "__main__":
    sys.exit(run_command(STREETS))
