"""Interpolation of the sparse samples."""

import numpy as np
import torch

from engine.baselines import Interpolation, interpolate_linear, interpolate_nearest


def test_nearest_interpolation_takes_the_nearest_and_linear_is_exact_on_a_plane():
    rows, columns = np.mgrid[:20, :30].astype(np.float32)
    plane = 1 + 0.1 * rows + 0.05 * columns
    rng = np.random.default_rng(0)
    sparse = np.where(rng.random(plane.shape) < 0.1, plane, 0).astype(np.float32)
    corners = np.ix_((0, 19), (0, 29))
    sparse[corners] = plane[corners]
    assert np.abs(interpolate_linear(sparse) - plane).max() < 1e-5
    two = np.zeros((4, 6), np.float32)
    two[0, 0], two[3, 5] = 1, 2
    nearest = interpolate_nearest(two)
    assert nearest[1, 1] == 1 and nearest[3, 4] == 2
    assert np.array_equal(interpolate_linear(two), nearest)  # no triangle
    assert not interpolate_linear(np.zeros((3, 3), np.float32)).any()
    rgbd = torch.from_numpy(np.stack((sparse, sparse)))[:, None].expand(2, 4, 20, 30)
    batch = Interpolation("linear")(rgbd)
    assert batch.shape == (2, 1, 20, 30)
    assert np.array_equal(batch[1, 0].numpy(), interpolate_linear(sparse))
