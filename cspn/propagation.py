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

Missing values: NaN and infinity spread as the equations say, never into a measured pixel.

Centre term: it multiplies the coarse depth d_0 in every step.
    Deviation: the paper's equation (1) writes d_t there; its released code, whose weights we
    load, uses d_0 and calls the formula a minor error.

Sparse rule: anchor="coarse" keeps the coarse depth at measured pixels, as the released code does.
    Deviation: the paper's text (section 3.3) writes the measurement back; that is
    anchor="sparse" (release issues 29 and 49).

Precision and cost: float32, also under autocast, because bfloat16 holds 2-3 cm at 5 m; float64
in gives float64 out. T steps cost 2 K T operations per pixel. Backward keeps the inputs alone,
which exist anyway, and computes the depth maps again; the released formulation keeps 1.58 GB at
batch 8, 228x304, 24 steps.

`reference.py` is these equations as code. `IMPLEMENTATIONS` below is all there is beside it.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cspn.backends.convolution import propagate_portable
from cspn.backends.op import BACKENDS, inside_a_transform, propagate_operator
from cspn.reference import NORM_TYPES, neighbour_offsets, propagate_reference

ANCHORS = ("coarse", "sparse")


class Implementation(NamedTuple):
    """One way to compute the propagation."""

    run: Callable[..., Tensor]  # (guidance, coarse_depth, sparse_depth, steps, norm_type, anchor)
    covers: str
    method: str


# All give the same result. The first three compute the operator `cspn::propagate`: sparse depth of
# one channel and without gradient, outside of torch.func transforms and forward-mode AD.
IMPLEMENTATIONS = {
    "triton": Implementation(
        partial(propagate_operator, backend="triton"),
        "float32 on an NVIDIA GPU",
        "three Triton kernels, the weights in registers",
    ),
    "numba": Implementation(
        partial(propagate_operator, backend="numba"),
        "float32 on a CPU",
        "compiled loops in which all steps run down the image together, in cache",
    ),
    "eager": Implementation(
        partial(propagate_operator, backend="eager"),
        "every float type and device",
        "multiply-adds on shifted views of one padded buffer",
    ),
    "convolution": Implementation(
        propagate_portable,
        "everything, ONNX too",
        "standard operations alone, neighbours read by a convolution with zeros and ones",
    ),
    "reference": Implementation(
        propagate_reference,
        "everything",
        "the equations term by term, differentiable in every way of PyTorch",
    ),
}
# Words for a choice among these: the first of the operator's three that serves, which "auto" gives
# up for the reference where the operator cannot serve; and what can be exported.
CHOICES = {"auto": propagate_operator, "fast": propagate_operator, "portable": propagate_portable}


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
            (segmentation scores) the weights are the same for all.
        sparse_depth: (B, 1, H, W) measurements in the unit of `coarse_depth`; 0, negative or NaN =
            none; (B, C, H, W) is taken too. None propagates without anchors.
        steps: number of propagation steps T; the published networks use 24.
        norm_type: "8sum" or "8sum_abs".
        anchor: "coarse" (released code) or "sparse" (the paper's text).
        impl: a name of `IMPLEMENTATIONS`, or a choice among them: "auto" and "fast" the fastest
            that serves these tensors here, "portable" the one for exporting to ONNX. All give the
            same result.

    Returns:
        (B, C, H, W) refined map, float32 (float64 for float64 input).

    Raises:
        ValueError: a shape, dtype or option that does not fit, with what was expected and got, or
            an implementation that cannot serve these tensors, with those that can.
    """
    _check_options(steps, norm_type, anchor, impl)
    _check_tensors(guidance, coarse_depth, sparse_depth)
    dtype = torch.promote_types(coarse_depth.dtype, guidance.dtype)
    dtype = torch.float64 if dtype == torch.float64 else torch.float32
    guidance, coarse_depth = guidance.to(dtype), coarse_depth.to(dtype)
    sparse_depth = None if sparse_depth is None else sparse_depth.to(dtype)

    if steps == 0:
        return coarse_depth.clone()

    obstacle = _obstacle(guidance, coarse_depth, sparse_depth, anchor)
    if obstacle and impl in ("fast", *BACKENDS):
        raise ValueError(
            f'impl="{impl}" cannot serve here: {obstacle}; what can: "convolution", "reference"'
        )
    if obstacle and impl == "auto":
        impl = "reference"
    run = CHOICES[impl] if impl in CHOICES else IMPLEMENTATIONS[impl].run
    device = coarse_depth.device.type
    has_autocast = torch.amp.is_autocast_available(device)
    with torch.autocast(device, enabled=False) if has_autocast else nullcontext():
        return run(guidance, coarse_depth, sparse_depth, steps, norm_type, anchor)


class CSPN(nn.Module):
    """The propagation as a layer without parameters.

    Args:
        steps: propagation steps; the published networks use 24.
        kernel_size: 3 (published), 5 or 7; the guidance then has 8, 24 or 48 channels.
        norm_type, anchor, impl: see `propagate`.

    Raises:
        ValueError: an option that does not exist.
    """

    def __init__(
        self,
        steps: int = 24,
        kernel_size: int = 3,
        norm_type: str = "8sum",
        anchor: str = "coarse",
        impl: str = "auto",
    ):
        super().__init__()
        if not isinstance(kernel_size, int) or kernel_size not in (3, 5, 7):
            raise ValueError(f"kernel_size must be 3, 5 or 7, got {kernel_size!r}")
        _check_options(steps, norm_type, anchor, impl)
        self.steps = steps
        self.kernel_size = kernel_size
        self.norm_type = norm_type
        self.anchor = anchor
        self.impl = impl

    @property
    def guidance_channels(self) -> int:
        """Return the channels K that the network must predict: 8, 24 or 48."""
        return len(neighbour_offsets(self.kernel_size))

    def forward(
        self, guidance: Tensor, coarse_depth: Tensor, sparse_depth: Tensor | None = None
    ) -> Tensor:
        """Return the refined depth (B, C, H, W) from guidance (B, K, H, W), coarse depth (B, C, H,
        W) in metres and sparse depth (B, 1, H, W) in metres, 0 = no measurement, or None."""
        channels = guidance.shape[1] if len(guidance.shape) == 4 else self.guidance_channels
        if channels != self.guidance_channels:
            raise ValueError(
                f"a {self.kernel_size}x{self.kernel_size} CSPN needs {self.guidance_channels} "
                f"guidance channels, got {channels}"
            )
        options = {name: getattr(self, name) for name in ("steps", "norm_type", "anchor", "impl")}
        return propagate(guidance, coarse_depth, sparse_depth, **options)

    def extra_repr(self) -> str:
        """Return the settings, for `print`."""
        names = ("steps", "kernel_size", "norm_type", "anchor", "impl")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)


def _obstacle(
    guidance: Tensor, coarse_depth: Tensor, sparse_depth: Tensor | None, anchor: str
) -> str:
    """Return why the operator `cspn::propagate` cannot serve, "" where it can."""
    if sparse_depth is not None and sparse_depth.shape[1] != 1:
        return f"sparse_depth has {sparse_depth.shape[1]} channels, not 1"
    if sparse_depth is not None and anchor == "sparse" and sparse_depth.requires_grad:
        return "it needs a sparse_depth that requires no gradient"
    if inside_a_transform(guidance, coarse_depth, sparse_depth):
        return "it has no rule for torch.func transforms and forward-mode AD"
    return ""


def _check_options(steps: int, norm_type: str, anchor: str, impl: str) -> None:
    """Raise ValueError, with expected and got, for an option that does not exist."""
    for name, value, allowed in (
        ("norm_type", norm_type, NORM_TYPES),
        ("anchor", anchor, ANCHORS),
        ("impl", impl, (*CHOICES, *IMPLEMENTATIONS)),
    ):
        if not (isinstance(value, str) and value in allowed):
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps must be a whole number from 0 up, got {steps!r}")


def _check_tensors(guidance: Tensor, coarse_depth: Tensor, sparse_depth: Tensor | None) -> None:
    """Raise ValueError, with expected and got, for tensors that do not fit together."""
    tensors = {"guidance": guidance, "coarse_depth": coarse_depth}
    if sparse_depth is not None:
        tensors["sparse_depth"] = sparse_depth
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name} must be a tensor, got {type(tensor).__name__}")
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
