"""A picture to look at: an overview of the frames of a sample set."""

from pathlib import Path

import cv2
import imageio.v3 as imageio
import matplotlib
import numpy as np
from matplotlib.colors import LogNorm, Normalize
from skimage.util import montage

from dataloaders.errors import DataError
from dataloaders.hdf5 import read_stored
from sample_data.sample_set import SampleSet


def contact_sheet(kind: SampleSet, root: str | Path, path: str | Path, most: int = 24) -> None:
    """Write a PNG with rgb and coloured depth of at most so many frames, spread over the set.

    Where depth is 0, not measured, it is black.
    """
    files = [f for split in ("train", "val") for f in sorted(Path(root).glob(f"{split}/*/*.h5"))]
    if not files:
        raise DataError(f"{root} holds no frames to show")
    panels = []
    for k in np.unique(np.linspace(0, len(files) - 1, most).astype(int)):
        rgb, depth = read_stored(files[k])
        pair = np.hstack([rgb.transpose(1, 2, 0), _coloured(kind, depth)])
        panels.append(cv2.resize(pair, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    rows = -(-len(panels) // kind.columns)
    sheet = montage(panels, fill=(0, 0, 0), grid_shape=(rows, kind.columns), channel_axis=-1)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    imageio.imwrite(path, sheet, extension=".png")


def _coloured(kind: SampleSet, depth: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) uint8 depth in false colours; points of a scan are widened."""
    # The depth range of a scan is wide: equal ratios get equal steps of colour.
    scale = LogNorm(0.04 * kind.farthest, kind.farthest) if kind.is_sparse else (
        Normalize(0, kind.farthest))  # fmt: skip
    scale.clip = True
    coloured = matplotlib.colormaps["turbo"](scale(depth), bytes=True)[..., :3]
    coloured = np.where(depth[..., None] > 0, coloured, np.uint8(0))
    return cv2.dilate(coloured, np.ones((3, 3), np.uint8)) if kind.is_sparse else coloured
