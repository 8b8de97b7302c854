"""Refine a coarse depth map by propagating it along a learned affinity (CSPN, section 3.1).

With neighbours k = 0..K-1 at offsets o_k, raw `guidance` g, `coarse_depth` d_0, `sparse_depth` s:

    w_k(p)     = g_k(p + o_k) / sum_j |g_j(p + o_j)|
    d_{t+1}(p) = (1 - sum_k w_k(p)) * d_0(p) + sum_k w_k(p) * d_t(p + o_k)
    d_{t+1}(p) = the kept value                          where s(p) > 0, after every step

Channel k of the guidance belongs to the neighbour at this place around p (3x3):

    7 6 5        o_0 = (dy, dx) = (1, 1) is the one below and to the right,
    4 p 3        o_7 = (-1, -1) the one above and to the left.
    2 1 0        5x5 and 7x7 (24 and 48 channels) go on row by row in the same way.

Normalisation: "8sum" keeps the gates' signs, so the w_k lie in [-1, 1] and the centre weight in
[0, 2]; "8sum_abs" takes |g| first, so the w_k lie in [0, 1], sum to 1, and the centre weight is 0.

Borders: neighbours outside the image count as zero, in both sums.

Zero gates: a pixel whose gates are all 0 has weights 0 and keeps d_0; gradients stay finite.
    Deviation: the release returns NaN there.

Centre term: it multiplies the coarse depth d_0 in every step.
    Deviation: the paper's equation (1) writes d_t there; its released code, whose weights we
    load, uses d_0 and calls the formula a minor error.

Sparse rule: anchor="coarse" keeps the coarse depth at measured pixels, as the released code does.
    Deviation: the paper's text (section 3.3) writes the measurement back; that is
    anchor="sparse" (release issues 29 and 49).

Precision and cost: float32, also under autocast, because bfloat16 holds 2-3 cm at 5 m; float64
in gives float64 out. T steps cost 2 K T operations a pixel. Backward keeps the inputs alone, which
exist anyway, and computes the depth maps again; the released formulation keeps 1.58 GB at batch 8,
228x304, 24 steps.
"""

import torch
from torch import Tensor

from cspn.backends.convolution import propagate_portable
from cspn.backends.op import propagate_fast
from cspn.reference import NORM_TYPES, propagate_reference

ANCHORS = ("coarse", "sparse")
IMPLEMENTATIONS = ("auto", "fast", "reference", "portable")


def propagate(
    guidance: Tensor,
    coarse_depth: Tensor,
    sparse_depth: Tensor | None = None,
    *,
    steps: int = 24,
    norm_type: str = "8sum",
    anchor: str = "coarse",
    impl: str = "auto",
) -> Tensor:
    """Refine `coarse_depth` by `steps` rounds of propagation; see the module for the equations.

    Args:
        guidance: (B, K, H, W) raw affinity from the network, no unit; K = 8, 24 or 48 selects a
            3x3, 5x5 or 7x7 neighbourhood.
        coarse_depth: (B, C, H, W) map to refine; depth in metres has C = 1. With more channels
            (segmentation scores, say) all of them share the weights.
        sparse_depth: (B, 1, H, W) measurements in the unit of `coarse_depth`, 0 = none; (B, C, H,
            W) is taken too. None propagates without anchors.
        steps: number of propagation steps T; the published networks use 24.
        norm_type: "8sum" or "8sum_abs".
        anchor: "coarse" (released code) or "sparse" (the paper's text).
        impl: "reference" is the readable loop, "fast" the fused operator, "auto" the fast one
            wherever it applies, "portable" a few standard operations, for exporting a network to
            ONNX. All give the same result.

    Returns:
        (B, C, H, W) refined map, float32 (float64 for float64 input).

    Raises:
        ValueError: a shape, dtype or option that does not fit, with what was expected and got.
    """
    _check(guidance, coarse_depth, sparse_depth, steps, norm_type, anchor, impl)
    dtype = torch.promote_types(coarse_depth.dtype, guidance.dtype)
    dtype = torch.float64 if dtype == torch.float64 else torch.float32
    guidance, coarse_depth = guidance.to(dtype), coarse_depth.to(dtype)
    sparse_depth = None if sparse_depth is None else sparse_depth.to(dtype)

    if steps == 0:
        return coarse_depth.clone()

    # The fast operator has one mask for all channels and sends no gradient to the measurements.
    covered = sparse_depth is None or (
        sparse_depth.shape[1] == 1 and not (anchor == "sparse" and sparse_depth.requires_grad)
    )
    if impl == "fast" and not covered:
        raise ValueError(
            'impl="fast" needs a one-channel sparse_depth that requires no gradient; '
            'use impl="auto" or "reference"'
        )
    run = propagate_fast if impl in ("auto", "fast") and covered else propagate_reference
    if impl == "portable":
        run = propagate_portable
    with torch.autocast(device_type=coarse_depth.device.type, enabled=False):
        return run(guidance, coarse_depth, sparse_depth, steps, norm_type, anchor)


def _check(guidance, coarse_depth, sparse_depth, steps, norm_type, anchor, impl) -> None:
    """Raise a ValueError that says expected and got for anything `propagate` cannot serve."""
    for name, value, allowed in (
        ("norm_type", norm_type, NORM_TYPES),
        ("anchor", anchor, ANCHORS),
        ("impl", impl, IMPLEMENTATIONS),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps must be a whole number from 0 up, got {steps!r}")
    tensors = {"guidance": guidance, "coarse_depth": coarse_depth}
    if sparse_depth is not None:
        tensors["sparse_depth"] = sparse_depth
    for name, tensor in tensors.items():
        if tensor.dim() != 4:
            raise ValueError(f"{name} must be (B, C, H, W), got shape {tuple(tensor.shape)}")
        if not tensor.is_floating_point():
            raise ValueError(f"{name} must be a float tensor, got {tensor.dtype}")
        if tensor.device != coarse_depth.device:
            raise ValueError(f"{name} is on {tensor.device}, coarse_depth on {coarse_depth.device}")
    batch, channels, height, width = coarse_depth.shape
    if guidance.shape[1] not in (8, 24, 48):
        raise ValueError(
            f"guidance must have 8, 24 or 48 channels (kernel 3, 5 or 7), got {guidance.shape[1]}"
        )
    expected = (batch, guidance.shape[1], height, width)
    if tuple(guidance.shape) != expected:
        raise ValueError(f"guidance must be {expected} here, got {tuple(guidance.shape)}")
    if sparse_depth is not None:
        allowed = ((batch, 1, height, width), (batch, channels, height, width))
        if tuple(sparse_depth.shape) not in allowed:
            raise ValueError(
                f"sparse_depth must be {allowed[0]} here, got {tuple(sparse_depth.shape)}"
            )
