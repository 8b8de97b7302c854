"""HDF5 RGB-D frames to network inputs: reading, transforms, sparse-depth sampling, batching."""

from dataloaders.datasets import (
    BAD_FRAMES,
    DATA_SETS,
    DepthDataset,
    KITTIDepthDataset,
    NYUDepthDataset,
)
from dataloaders.errors import DataError
from dataloaders.loader import make_loader
from dataloaders.sampling import SAMPLERS
from dataloaders.transforms import CROPS, DEPTH_RESIZES, RGB_ENCODINGS

__all__ = [
    "BAD_FRAMES",
    "CROPS",
    "DATA_SETS",
    "DEPTH_RESIZES",
    "RGB_ENCODINGS",
    "SAMPLERS",
    "DataError",
    "DepthDataset",
    "KITTIDepthDataset",
    "NYUDepthDataset",
    "make_loader",
]
