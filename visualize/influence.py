"""The influence map: how much each source pixel contributes to a pixel of the refined depth.

For a fixed guidance the refined depth is linear in what it starts from, so its gradient at a
pixel p is the impulse response: refined(p) = sum_q weight(q) * coarse_depth(q) after all T steps,
exactly. H W image, K neighbours, N chosen pixels.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from cspn import normalized_affinity, propagate


def influence_map(
    guidance: Tensor,
    sparse_depth: Tensor,
    pixels: Sequence[tuple[int, int]],
    *,
    steps: int = 24,
    norm_type: str = "8sum",
    anchor: str = "coarse",
) -> Tensor:
    """Return how much every source pixel contributes to each chosen pixel of the refined depth.

    The gradient of `cspn.propagate`: channels share the weights, so channel n carries that of pixel
    n. A measured pixel's weight counts its coarse depth and, with anchor="sparse", its measurement.
    Works inside `torch.inference_mode`.

    Args:
        guidance: (1, K, H, W) raw, no unit.
        sparse_depth: (1, 1, H, W) metres, 0 = no measurement.
        pixels: N pairs (row, column).
        steps, norm_type, anchor: see `cspn.propagate`.

    Returns:
        (N, H, W) without unit; each map sums to 1.

    Raises:
        ValueError: no pixel, or one outside the image.
    """
    height, width = guidance.shape[-2:]
    outside = [p for p in pixels if not (0 <= p[0] < height and 0 <= p[1] < width)]
    if outside or not pixels:
        found = f"got {outside[0]}" if outside else "got none"
        raise ValueError(f"pixels must be (row, column) inside {height}x{width}, {found}")
    count = len(pixels)
    with torch.inference_mode(False), torch.enable_grad():
        guidance = guidance.detach().clone()
        # Linear: the starting values do not matter, only where the measurements are.
        coarse = guidance.new_zeros(1, count, height, width).requires_grad_()
        sources = [coarse]
        measured = sparse_depth.detach().clone()
        if anchor == "sparse":
            measured = measured.repeat(1, count, 1, 1).requires_grad_()
            sources.append(measured)
        refined = propagate(
            guidance, coarse, measured, steps=steps, norm_type=norm_type, anchor=anchor
        )  # (1, N, H, W)
        rows, columns = torch.tensor(pixels, device=guidance.device).unbind(1)
        chosen = refined[0, torch.arange(count, device=guidance.device), rows, columns]
        gradients = torch.autograd.grad(chosen.sum(), sources)
    return sum(gradients)[0]


def mean_offset(
    guidance: Tensor,
    sparse_depth: Tensor,
    *,
    steps: int = 24,
    norm_type: str = "8sum",
    anchor: str = "coarse",
) -> Tensor:
    """Return each pixel's mean source offset sum_q w(q) (q - p), its influence map's centroid.

    The propagation is linear, so propagating the pixels' coordinates gives it for all at once.

    Arguments are those of `influence_map`.

    Returns:
        (2, H, W) mean row and column offset in pixels; positive is down, right.
    """
    # From 1 up, because a measurement of 0 means none; weights sum to 1, so the origin cancels.
    ones = torch.ones_like(guidance[:, 0])
    grid = torch.stack([ones.cumsum(1), ones.cumsum(2)], dim=1)  # (1, 2, H, W)
    measured = grid * (sparse_depth > 0)
    mean = propagate(guidance, grid, measured, steps=steps, norm_type=norm_type, anchor=anchor)
    return (mean - grid)[0]


def strongest_neighbour(guidance: Tensor, norm_type: str = "8sum") -> tuple[Tensor, Tensor]:
    """Return channel k of the neighbour of largest |w_k| at each pixel, and that |w_k|.

    Two (H, W) maps of guidance (1, K, H, W), raw; all |w_k| sum to 1, so the second lies in 1/K..1
    and is 0 where all gates are 0.
    """
    strength, strongest = normalized_affinity(guidance, norm_type)[0].abs().max(dim=0)
    return strongest, strength


def choose_pixels(
    change: np.ndarray, measured: np.ndarray, rows: int = 2, columns: int = 3, margin: int = 3
) -> list[tuple[int, int]]:
    """Return in each cell of a grid the unmeasured pixel whose depth the refinement changed most.

    Args:
        change: (H, W) metres, refined minus coarse depth. measured: (H, W) bool.
        margin: pixels at the image's border that are left out.
    """
    height, width = change.shape
    amount = np.where(measured, -1.0, np.abs(np.nan_to_num(change)))
    down = np.linspace(margin, height - margin, rows + 1).astype(int)
    across = np.linspace(margin, width - margin, columns + 1).astype(int)
    pixels = []
    for top, bottom in pairwise(down):
        for left, right in pairwise(across):
            cell = amount[top:bottom, left:right]
            row, column = np.unravel_index(cell.argmax(), cell.shape)
            pixels.append((int(top + row), int(left + column)))
    return pixels


def reach(weights: np.ndarray, pixel: tuple[int, int], fraction: float) -> int:
    """Return within how many pixels of `pixel`, up and down or across, that fraction of the sum
    of all |weight| (H, W) lies."""
    rows, columns = np.indices(weights.shape)
    distance = np.maximum(abs(rows - pixel[0]), abs(columns - pixel[1]))
    within = np.bincount(distance.ravel(), np.abs(weights).ravel()).cumsum()
    return int(np.searchsorted(within, fraction * within[-1]))
