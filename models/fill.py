"""Sparse depth -> dense depth before any network: scattered measurements filled in by pyramids.

B batch, H W image. One operation serves for all: the weighted mean of an image over windows of
1, 2, 4, .. 2^LEVELS pixels, window l counting c_l:

    mean(v, w, c)(p) = sum_l c_l window_l(v w)(p) / sum_l c_l window_l(w)(p)

`spread` takes w = 1 at the measurements and c_l = 8^-l, so that a measurement counts with about
the fifth power of its nearness: every pixel gets a value, wherever the measurements lie.
`smooth` takes w = 1 everywhere and the two windows next to the spacing of the measurements.
`fill_depth` is smooth(spread(measurements)), plus the same of the residual that this leaves at the
measurements, twice. Measurements that contradict those around them count less.

Windows are made by pooling down and interpolating up, so the cost grows with the number of pixels
alone, and all of it is standard operations that export. Everything is linear in depth or a ratio of
depths: measurements in feet give the same result in feet.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 8
CORRECTIONS = 2  # how often the residual is spread and added
NEARNESS = 8.0  # weight of a window against the one half as wide
# A measurement's weight falls where it leaves the depth around it by more than this many times
# the usual residual there, plus this share of its depth.
USUAL_RESIDUALS, USUAL_SHARE = 2.0, 0.05
# Against 0 / 0 where nothing is measured; far below what any measurement counts. A least value and
# not a summand: ONNX's exporter takes x + 1e-30 for x.
TINY = 1e-30


class Filled(NamedTuple):
    """What is known of an image before the network sees its colours.

    depth: (B, 1, H, W) unit of the measurements; 0 everywhere where there is none.
    weight: (B, 1, H, W) 0 without a measurement, 1 with one that agrees with those around it,
        down to 0 for one that does not.
    correction: (B, 1, H, W) what the residual at the measurements added to the smooth depth.
    log_distance: (B, 1, H, W) about the logarithm (base 2) of the distance to the measurements, in
        pixels; LEVELS + 1 without any.
    scale: (B, 1, 1, 1) mean of the measurements; 1 without any.
    """

    depth: Tensor
    weight: Tensor
    correction: Tensor
    log_distance: Tensor
    scale: Tensor


def fill_depth(sparse_depth: Tensor) -> Filled:
    """Fill (B, 1, H, W) in any unit, 0 = no measurement, each image by itself."""
    measured = (sparse_depth > 0).to(sparse_depth.dtype)
    density = measured.mean((1, 2, 3), keepdim=True)
    scale = torch.where(density > 0, sparse_depth.mean((1, 2, 3), keepdim=True) / density, 1.0)
    # The window as wide as the mean distance of neighbouring measurements, sqrt(1 / density).
    spacing = -0.5 * torch.log2(density.clamp(min=TINY))
    windows = _windows_of_width(spacing, measured)

    depth = _smooth(_spread(sparse_depth, measured)[0], windows)
    residual = (sparse_depth - depth).abs() * measured
    wider = _windows_of_width(spacing + 1, measured)
    usual = _smooth(_spread(residual, measured)[0], wider)
    excess = residual / (USUAL_RESIDUALS * usual + USUAL_SHARE * depth).clamp(min=TINY)
    weight = measured / (1 + excess.square()).square()

    spread, nearness = _spread(sparse_depth, weight)
    smooth = depth = _smooth(spread, windows)
    for _ in range(CORRECTIONS):
        depth = depth + _smooth(_spread((sparse_depth - depth) * measured, weight)[0], windows)
    # A measurement 2^l pixels away counts NEARNESS^-l, over the 4^l pixels of a window.
    per_level, farthest = math.log2(4 * NEARNESS), LEVELS + 1
    closeness = torch.log2(1 + nearness * 2 ** (per_level * farthest)) / per_level
    log_distance = farthest - closeness
    return Filled(depth, weight, depth - smooth, log_distance, scale)


def _spread(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Give every pixel the mean of `values` (B, 1, H, W), the near ones first; also returns the
    sum of their weights there."""
    levels = [NEARNESS**-level for level in range(LEVELS + 1)]
    weighted = torch.cat((values * weight, weight), dim=1)
    # Beyond the widest window, all measurements alike.
    everywhere = NEARNESS ** -(LEVELS + 1) * weighted.mean((2, 3), keepdim=True)
    weighted, weights = (_sum_windows(weighted, levels) + everywhere).split(1, dim=1)
    return weighted / weights.clamp(min=TINY), weights


def _windows_of_width(log_width: Tensor, image: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return what `_smooth` takes for windows of 2^log_width (B, 1, 1, 1) pixels: the weight of
    each level, and what they count at each pixel of `image` (B, 1, H, W), less at its border."""
    log_width = LEVELS - torch.relu(LEVELS - torch.relu(log_width))  # within 0 .. LEVELS
    level = torch.arange(LEVELS + 1, dtype=image.dtype, device=image.device)[None, :, None, None]
    levels = torch.relu(1 - (log_width - level).abs()).split(1, dim=1)
    return levels, _sum_windows(torch.ones_like(image), levels)


def _smooth(values: Tensor, windows: tuple[tuple[Tensor, ...], Tensor]) -> Tensor:
    """Return the mean of (B, 1, H, W) over the windows of `_windows_of_width`."""
    levels, counts = windows
    return _sum_windows(values, levels) / counts


def _sum_windows(x: Tensor, level_weights: Sequence[Tensor | float]) -> Tensor:
    """sum_l level_weights[l] window_l(x), (B, C, H, W) -> the same shape."""
    pyramid = [x]
    for _ in level_weights[1:]:
        # A row and a column of zeros, which pooling drops where the size is even.
        pyramid.append(F.avg_pool2d(F.pad(pyramid[-1], (0, 1, 0, 1)), 2))
    total = level_weights[-1] * pyramid[-1]
    for weight, level in zip(level_weights[-2::-1], pyramid[-2::-1], strict=True):
        total = F.interpolate(total, scale_factor=2.0, mode="bilinear", align_corners=False)
        total = total.narrow(2, 0, level.shape[2]).narrow(3, 0, level.shape[3]) + weight * level
    return total
