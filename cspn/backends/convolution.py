"""The same propagation as a few standard operations, for `torch.export` and ONNX.

A compiled kernel cannot leave this project; pads, slices and sums can, but a step of them is some
thirty graph nodes. Here a convolution with a fixed kernel of zeros and ones reads all K neighbours
at once, zeros outside the image included, so a step is five nodes: Conv, Mul, ReduceSum, Add and,
where something is measured, Where. Differentiable as it is; slower than "fast", and NaN or infinity
reaches all pixels near it (0 * inf is NaN), measured ones excepted.

B batch, C channels of the refined map, H W image, K neighbours.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from cspn.reference import neighbour_offsets


def propagate_portable(
    guidance: Tensor,
    coarse_depth: Tensor,
    sparse_depth: Tensor | None,
    steps: int,
    norm_type: str,
    anchor: str,
) -> Tensor:
    """Run `cspn.propagate` on checked arguments of one float dtype."""
    neighbours, channels = guidance.shape[1], coarse_depth.shape[1]
    size = round((neighbours + 1) ** 0.5)
    reader = guidance.new_tensor(_one_hot_kernels(size))  # (K, 1, size, size)

    gates = F.conv2d(guidance, reader, padding=size // 2, groups=neighbours)  # g_k(p + o_k)
    if norm_type == "8sum_abs":
        gates = gates.abs()
    total = gates.abs().sum(dim=1, keepdim=True)
    weights = gates / torch.where(total > 0, total, torch.ones_like(total))  # (B, K, H, W)
    centre = (1 - weights.sum(dim=1, keepdim=True)) * coarse_depth  # (B, C, H, W)
    weights = weights.unsqueeze(1)  # (B, 1, K, H, W)

    readers = reader.repeat(channels, 1, 1, 1)  # (C K, 1, size, size)
    depth = coarse_depth
    for _ in range(steps):
        read = F.conv2d(depth, readers, padding=size // 2, groups=channels)
        # (B, C, K, H, W), summed over the neighbours.
        depth = centre + (weights * read.unflatten(1, (channels, neighbours))).sum(dim=2)
        if sparse_depth is not None:
            kept = coarse_depth if anchor == "coarse" else sparse_depth
            depth = torch.where(sparse_depth > 0, kept, depth)
    return depth


def _one_hot_kernels(size: int) -> list[list[list[list[float]]]]:
    """Return (K, 1, size, size): kernel k is 1 at offset o_k and 0 elsewhere."""
    span = range(-(size // 2), size // 2 + 1)
    return [
        [[[float((dy, dx) == offset) for dx in span] for dy in span]]
        for offset in neighbour_offsets(size)
    ]
