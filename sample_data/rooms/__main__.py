"""The command `python -m sample_data.rooms`."""

from sample_data.command import run
from sample_data.rooms.generation import ROOMS

if __name__ == "__main__":
    run(ROOMS)
