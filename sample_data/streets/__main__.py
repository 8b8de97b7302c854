"""The command `python -m sample_data.streets`."""

from sample_data.command import run
from sample_data.streets.generation import STREETS

if __name__ == "__main__":
    run(STREETS)
