"""Interpolation of the same sparse samples: what any network has to beat."""

import numpy as np
import torch
from scipy.interpolate import griddata
from scipy.spatial import QhullError
from torch import Tensor, nn


def interpolate_nearest(sparse_depth: np.ndarray) -> np.ndarray:
    """Return each pixel's nearest measurement: (H, W) metres, 0 = none -> (H, W) float32 metres,
    all 0 where there is none."""
    if not (sparse_depth > 0).any():
        return np.zeros_like(sparse_depth, dtype=np.float32)
    return _interpolate(sparse_depth, "nearest").astype(np.float32)


def interpolate_linear(sparse_depth: np.ndarray) -> np.ndarray:
    """Interpolate linearly over the Delaunay triangles of the measurements, nearest outside.

    Same argument and result as `interpolate_nearest`, which it falls back to for fewer than
    three measurements or measurements on one line.
    """
    nearest = interpolate_nearest(sparse_depth)
    try:
        linear = _interpolate(sparse_depth, "linear")
    except (QhullError, ValueError):
        return nearest
    return np.where(np.isnan(linear), nearest, linear).astype(np.float32)


def _interpolate(sparse_depth: np.ndarray, method: str) -> np.ndarray:
    points = np.nonzero(sparse_depth > 0)
    return griddata(points, sparse_depth[points], tuple(np.indices(sparse_depth.shape)), method)


BASELINES = {"nearest": interpolate_nearest, "linear": interpolate_linear}


class Interpolation(nn.Module):
    """A baseline with a network's interface; it reads the sparse depth alone."""

    def __init__(self, method: str):
        super().__init__()
        self.method = method

    def forward(self, rgbd: Tensor) -> Tensor:
        """Return (B, 1, H, W) metres for rgbd (B, 4, H, W), on its device."""
        sparse_depth = rgbd[:, 3].cpu().numpy()
        maps = np.stack([BASELINES[self.method](image) for image in sparse_depth])
        return torch.from_numpy(maps)[:, None].to(rgbd.device)
