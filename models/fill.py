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
    # The window as wide as the mean distance of neighbouring measurements, sqrt(1 / density), and
    # the one twice as wide.
    spacing = -0.5 * torch.log2(density.clamp(min=TINY))
    levels = _levels_of_width(torch.cat((spacing, spacing + 1), dim=1))
    counts = _sum_windows(torch.ones_like(measured).expand(-1, 2, -1, -1), levels)
    (levels, wide_levels), (count, wide_count) = levels.split(1, dim=2), counts.split(1, dim=1)

    def smooth(values: Tensor) -> Tensor:
        return _sum_windows(values, levels) / count

    weighted = torch.cat((sparse_depth * measured, measured), dim=1)
    spread, nearness = _spread(weighted).split(1, dim=1)
    nearness = nearness.clamp(min=TINY)
    depth = smooth(spread / nearness)
    residual = (sparse_depth - depth).abs() * measured
    usual = _sum_windows(_spread(residual) / nearness, wide_levels) / wide_count
    excess = residual / (USUAL_RESIDUALS * usual + USUAL_SHARE * depth).clamp(min=TINY)
    weight = measured / (1 + excess.square()).square()

    weighted = torch.cat((sparse_depth * weight, weight), dim=1)
    spread, nearness = _spread(weighted).split(1, dim=1)
    divisor = nearness.clamp(min=TINY)
    first = depth = smooth(spread / divisor)
    for _ in range(CORRECTIONS):
        depth = depth + smooth(_spread((sparse_depth - depth) * weight) / divisor)
    # A measurement 2^l pixels away counts NEARNESS^-l, over the 4^l pixels of a window.
    per_level, farthest = math.log2(4 * NEARNESS), LEVELS + 1
    closeness = torch.log2(1 + nearness * 2 ** (per_level * farthest)) / per_level
    log_distance = farthest - closeness
    return Filled(depth, weight, depth - first, log_distance, scale)


def _spread(weighted: Tensor) -> Tensor:
    """Sum (B, C, H, W) around every pixel, the near ones first; values times weights over weights
    is the mean."""
    levels = NEARNESS ** -_levels_like(weighted)
    # Beyond the widest window, all measurements alike.
    everywhere = NEARNESS ** -(LEVELS + 1) * weighted.mean((2, 3), keepdim=True)
    return _sum_windows(weighted, levels) + everywhere


def _levels_of_width(log_width: Tensor) -> Tensor:
    """Return the weights of the levels (LEVELS + 1, B, C, 1, 1), of which at most two are not 0,
    for windows of 2^log_width (B, C, 1, 1) pixels."""
    log_width = LEVELS - torch.relu(LEVELS - torch.relu(log_width))  # within 0 .. LEVELS
    return torch.relu(1 - (log_width - _levels_like(log_width)).abs())


def _levels_like(x: Tensor) -> Tensor:
    """Return 0 .. LEVELS as (LEVELS + 1, 1, 1, 1, 1)."""
    return torch.arange(LEVELS + 1, dtype=x.dtype, device=x.device).view(-1, 1, 1, 1, 1)


def _sum_windows(x: Tensor, level_weights: Tensor) -> Tensor:
    """sum_l level_weights[l] window_l(x), (B, C, H, W) -> the same shape."""
    weights = level_weights.unbind()
    pyramid = [x]
    for _ in weights[1:]:
        pyramid.append(_halve(pyramid[-1]))
    total = weights[-1] * pyramid[-1]
    for weight, level in zip(weights[-2::-1], pyramid[-2::-1], strict=True):
        total = F.interpolate(total, scale_factor=2.0, mode="bilinear", align_corners=False)
        total = total.narrow(2, 0, level.shape[2]).narrow(3, 0, level.shape[3])
        total = torch.addcmul(total, weight, level)
    return total


def _halve(x: Tensor) -> Tensor:
    """Mean over cells of 2x2 pixels, zeros beyond an odd edge: (B, C, H, W) -> (B, C, H/2, W/2)
    rounded up."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        # The same in operations that export: an even edge's zeros are dropped.
        return F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2)
    return F.avg_pool2d(x, 2, ceil_mode=True, divisor_override=4)
