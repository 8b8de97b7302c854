"""Three-way scan-line propagation (SPN, Liu et al., NIPS 2017): what CSPN is measured against.

A scan goes through the image in one of four directions. With the pixel's three neighbours in the
line before, n = the ones at offset -1, 0, 1 along that line, and the direction's own gates p_n:

    h(p) = (1 - sum_n w_n(p)) * x(p) + sum_n w_n(p) * h(n)

x is the coarse depth. Gates are read at p and divided by sum_n |p_n| where that exceeds 1, which
keeps the recursion stable; neighbours outside the image count as 0. The four results are joined by
their maximum, pixel by pixel. At measured pixels the anchor's value replaces h in every scan, the
rule that CSPN uses, so that both can be compared.

Guidance (B, 12, H, W): channels 3 d + n for the directions d = left to right, right to left, top
to bottom, bottom to top. A scan over W columns takes W sequential steps, which is why CSPN, with
24, is faster.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GUIDANCE_CHANNELS = 12


def propagate_spn(
    guidance: Tensor,
    coarse_depth: Tensor,
    sparse_depth: Tensor | None = None,
    *,
    anchor: str = "coarse",
) -> Tensor:
    """Refine a depth map by four scans; see the module for the equations.

    Args:
        guidance: (B, 12, H, W) raw gates. coarse_depth: (B, 1, H, W) metres.
        sparse_depth: (B, 1, H, W) metres, 0 = no measurement; None for no anchors.
        anchor: "coarse" keeps the coarse depth at measured pixels, "sparse" the measurement.

    Returns:
        (B, 1, H, W) refined depth in metres, float32 (float64 for float64 input).

    Raises:
        ValueError: a shape or option that does not fit.
    """
    batch, _, height, width = coarse_depth.shape
    if tuple(guidance.shape) != (batch, GUIDANCE_CHANNELS, height, width):
        raise ValueError(
            f"guidance must be {(batch, GUIDANCE_CHANNELS, height, width)} here, "
            f"got {tuple(guidance.shape)}"
        )
    if anchor not in ("coarse", "sparse"):
        raise ValueError(f"anchor must be one of coarse, sparse, got {anchor!r}")
    dtype = torch.float64 if coarse_depth.dtype == torch.float64 else torch.float32
    gates = guidance.to(dtype).unflatten(1, (4, 3))  # (B, 4, 3, H, W)
    depth = coarse_depth.to(dtype)
    fixed = depth if sparse_depth is None or anchor == "coarse" else sparse_depth.to(dtype)

    total = gates.abs().sum(dim=2, keepdim=True)
    weights = gates / total.clamp(min=1)
    constant = (1 - weights.sum(dim=2)) * depth  # (B, 4, H, W)
    if sparse_depth is not None:
        known = sparse_depth > 0  # (B, 1, H, W)
        weights = weights.masked_fill(known[:, :, None], 0)
        constant = torch.where(known, fixed, constant)

    # Two directions share a loop: the second of each pair is the first on the mirrored image.
    columns = _scan(_paired(weights[:, :2], -1), _paired(constant[:, :2], -1))
    rows = _scan(
        _paired(weights[:, 2:], -2).transpose(-1, -2),
        _paired(constant[:, 2:], -2).transpose(-1, -2),
    ).transpose(-1, -2)
    directions = torch.stack(
        (columns[:, 0], columns[:, 1].flip(-1), rows[:, 0], rows[:, 1].flip(-2)), dim=1
    )
    return directions.amax(dim=1, keepdim=True)


def _paired(maps: Tensor, axis: int) -> Tensor:
    """(B, 2, ..., H, W) with the second of the pair mirrored along `axis`."""
    return torch.stack((maps[:, 0], maps[:, 1].flip(axis)), dim=1)


def _scan(weights: Tensor, constant: Tensor) -> Tensor:
    """Left to right: weights (B, 2, 3, H, W), constant (B, 2, H, W) -> h (B, 2, H, W)."""
    hidden = constant.new_zeros(*constant.shape[:-1])  # (B, 2, H)
    scanned = []
    for w, c in zip(weights.unbind(-1), constant.unbind(-1), strict=True):
        above_to_below = F.pad(hidden, (1, 1)).unfold(-1, 3, 1)  # (B, 2, H, 3)
        hidden = c + (w.transpose(2, 3) * above_to_below).sum(dim=-1)
        scanned.append(hidden)
    return torch.stack(scanned, dim=-1)


class SPN(nn.Module):
    """Scan-line propagation as a layer with the interface of `cspn.CSPN`."""

    guidance_channels = GUIDANCE_CHANNELS

    def __init__(self, anchor: str = "coarse"):
        super().__init__()
        self.anchor = anchor

    def forward(
        self, guidance: Tensor, coarse_depth: Tensor, sparse_depth: Tensor | None = None
    ) -> Tensor:
        """(B, 12, H, W), (B, 1, H, W) metres, (B, 1, H, W) metres or None -> (B, 1, H, W)."""
        with torch.autocast(device_type=coarse_depth.device.type, enabled=False):
            return propagate_spn(guidance, coarse_depth, sparse_depth, anchor=self.anchor)

    def extra_repr(self) -> str:
        return f"anchor={self.anchor!r}"
