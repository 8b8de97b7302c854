"""What the sample sets share: their description, frame files, process pool and command line.

A sample set is a folder of rendered frames in a published HDF5 layout. A frame depends on the
seed, its split and its index only, so any number of workers writes the same data, and what an
interruption left out is made by the next run.
"""

from sample_data.command import run_command
from sample_data.files import SampleSetError, contact_sheet, write_frame
from sample_data.generation import generate
from sample_data.kinds import SPLITS, SampleSet

__all__ = [
    "SPLITS",
    "SampleSet",
    "SampleSetError",
    "contact_sheet",
    "generate",
    "run_command",
    "write_frame",
]
