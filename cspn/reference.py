"""The propagation written to be read: every line is one term of the equations.

B batch, C channels of the refined map (1 for depth), H W image, K = kernel_size^2 - 1
neighbours, k = 0..K-1. `cspn.propagation` states the method; this file is what the fast
implementation is tested against, and it also serves every case the fast one does not cover.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

NORM_TYPES = ("8sum", "8sum_abs")


def neighbour_offsets(kernel_size: int) -> list[tuple[int, int]]:
    """Return the offsets o_k = (dy, dx) of the K neighbours, in the guidance's channel order.

    Row by row from the bottom right to the top left, the centre left out; for a 3x3 kernel
    (1,1) (1,0) (1,-1) (0,1) (0,-1) (-1,1) (-1,0) (-1,-1), the order of the published weights.
    5x5 and 7x7 kernels continue the rule.
    """
    if kernel_size < 3 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be an odd number from 3 up, got {kernel_size}")
    radius = kernel_size // 2
    span = range(radius, -radius - 1, -1)
    return [(dy, dx) for dy in span for dx in span if (dy, dx) != (0, 0)]


def shift(field: Tensor, dy: int, dx: int) -> Tensor:
    """Return field(p + (dy, dx)) at every pixel p of a (..., H, W) tensor, 0 outside the image."""
    height, width = field.shape[-2:]
    reach = max(abs(dy), abs(dx))
    padded = F.pad(field, (reach, reach, reach, reach))
    top, left = reach + dy, reach + dx
    return padded[..., top : top + height, left : left + width]


def normalized_affinity(guidance: Tensor, norm_type: str = "8sum") -> Tensor:
    """Turn raw guidance into the propagation weights w_k.

    w_k(p) = g_k(p + o_k) / sum_j |g_j(p + o_j)|: each gate is read at the neighbour.

    Args:
        guidance: (B, K, H, W) raw network output, any float dtype, no unit.
        norm_type: "8sum" keeps signs (the |w_k| sum to 1), "8sum_abs" takes |g| first (the
            w_k are positive and sum to 1, so the centre weight is 0).

    Returns:
        (B, K, H, W) weights; all K are 0 at a pixel whose gates are all 0.
    """
    kernel_size = round((guidance.shape[1] + 1) ** 0.5)
    gates = torch.stack(
        [shift(guidance[:, k], *o_k) for k, o_k in enumerate(neighbour_offsets(kernel_size))],
        dim=1,
    )  # (B, K, H, W)
    if norm_type == "8sum_abs":
        gates = gates.abs()
    total = gates.abs().sum(dim=1, keepdim=True)  # (B, 1, H, W)
    # Deviation: the release divides by 0 here and returns NaN.
    return gates / torch.where(total > 0, total, torch.ones_like(total))


def propagate_reference(
    guidance: Tensor,
    coarse_depth: Tensor,
    sparse_depth: Tensor | None,
    steps: int,
    norm_type: str,
    anchor: str,
) -> Tensor:
    """Run `cspn.propagate` on checked arguments, one step of the equations per loop turn."""
    affinity = normalized_affinity(guidance, norm_type)  # (B, K, H, W)
    offsets = neighbour_offsets(round((guidance.shape[1] + 1) ** 0.5))
    centre = (1 - affinity.sum(dim=1, keepdim=True)) * coarse_depth  # (B, C, H, W)

    depth = coarse_depth
    for _ in range(steps):
        neighbours = sum(
            affinity[:, k : k + 1] * shift(depth, *o_k) for k, o_k in enumerate(offsets)
        )
        depth = centre + neighbours
        if sparse_depth is not None:
            kept = coarse_depth if anchor == "coarse" else sparse_depth
            depth = torch.where(sparse_depth > 0, kept, depth)
    return depth
