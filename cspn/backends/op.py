"""The same propagation with the waste removed, as one differentiable operator.

The T steps are the linear recursion d_{t+1} = c + sum_k w_k * shift_k(d_t), with the sparse
rule folded once into the weights (w_k = 0 where s > 0) and into the constant c (the value that
is kept there, the centre term elsewhere). So a step is K multiply-adds on shifted views of one
zero-bordered buffer: no padded copies, no K-channel volume.

On a CPU `numba_cpu` does this in compiled loops where numba is installed, on an NVIDIA GPU
`triton_gpu` in Triton kernels.

For backward nothing is kept but the inputs: the weights and the depth maps d_0..d_{T-1} are
computed again, which costs about as much as writing and reading the maps would and saves 53 MB at
batch 8, 228x304. On the CPU images are taken one at a time, so that an image's weights stay in
cache for all steps. Registered as the custom operator `cspn::propagate`, so it survives
`torch.compile` and `torch.export`. Differentiable once.
"""

import torch
from torch import Tensor

from cspn.backends import numba_cpu as cpu
from cspn.backends import triton_gpu as gpu
from cspn.reference import neighbour_offsets


def propagate_fast(
    guidance: Tensor,
    coarse_depth: Tensor,
    sparse_depth: Tensor | None,
    steps: int,
    norm_type: str,
    anchor: str,
) -> Tensor:
    """`cspn.propagate` for checked arguments of one float dtype; no gradient to sparse_depth."""
    return _propagate_op(guidance, coarse_depth, sparse_depth, steps, norm_type, anchor)


class _Neighbourhood:
    """Views of a zero-bordered buffer (..., H + 2r, W + 2r), one per neighbour."""

    def __init__(self, channels: int, height: int, width: int):
        self.offsets = neighbour_offsets(round((channels + 1) ** 0.5))
        self.radius = max(dy for dy, _ in self.offsets)
        self.height, self.width = height, width
        self.padded_size = (height + 2 * self.radius, width + 2 * self.radius)

    def view(self, padded: Tensor, dy: int = 0, dx: int = 0) -> Tensor:
        """The (..., H, W) window whose pixel p is the image's pixel p + (dy, dx)."""
        top, left = self.radius + dy, self.radius + dx
        return padded[..., top : top + self.height, left : left + self.width]

    def padded_zeros(self, like: Tensor, *lead: int) -> Tensor:
        return like.new_zeros(*lead, *self.padded_size)

    def overlap(self, dy: int, dx: int) -> tuple[tuple, tuple]:
        """Index pairs (p, p + o) for which both pixels lie in the image."""
        h, w = self.height, self.width
        rows = slice(max(0, -dy), max(0, min(h, h - dy)))
        cols = slice(max(0, -dx), max(0, min(w, w - dx)))
        rows_o = slice(rows.start + dy, rows.stop + dy) if rows.stop > rows.start else slice(0, 0)
        cols_o = slice(cols.start + dx, cols.stop + dx) if cols.stop > cols.start else slice(0, 0)
        return (..., rows, cols), (..., rows_o, cols_o)


def _images_per_pass(batch: Tensor) -> int:
    """One on the CPU, where its weights then fit the cache; all of them on a GPU."""
    return 1 if batch.device.type == "cpu" else max(1, batch.shape[0])


def _passes(batch: Tensor) -> list[slice]:
    size = _images_per_pass(batch)
    return [slice(start, start + size) for start in range(0, batch.shape[0], size)]


def _gates(guidance: Tensor, area: _Neighbourhood, norm_type: str) -> tuple[Tensor, Tensor]:
    """The gates read at the neighbours.

    Returns:
        q_k(p) = g_k(p + o_k), or its absolute value, (b, K, H, W), and sum_k |q_k|, 1 where that
        is 0, (b, 1, H, W).
    """
    gates = torch.zeros_like(guidance)
    for k, o_k in enumerate(area.offsets):
        here, there = area.overlap(*o_k)
        gates[:, k][here] = guidance[:, k][there]
    if norm_type == "8sum_abs":
        gates.abs_()
    total = gates.abs().sum(dim=1, keepdim=True)
    return gates, total.masked_fill_(total == 0, 1)


def _weights_and_constant(
    gates: Tensor, total: Tensor, coarse: Tensor, sparse: Tensor | None, anchor: str
) -> tuple[Tensor, Tensor]:
    """w_k (b, K, H, W) with the sparse rule folded in, and the constant c (b, C, H, W)."""
    weights = gates / total
    constant = (1 - weights.sum(dim=1, keepdim=True)) * coarse
    if sparse is not None:
        known = sparse > 0  # (b, 1, H, W)
        weights.masked_fill_(known, 0)
        constant = torch.where(known, coarse if anchor == "coarse" else sparse, constant)
    return weights, constant


@torch.library.custom_op("cspn::propagate", mutates_args=())
def _propagate_op(
    guidance: Tensor,
    coarse: Tensor,
    sparse: Tensor | None,
    steps: int,
    norm_type: str,
    anchor: str,
) -> Tensor:
    """Returns d_T (B, C, H, W)."""
    for form in (gpu, cpu):
        if form.covers(guidance, coarse, sparse):
            return form.propagate_images(guidance, coarse, sparse, steps, norm_type, anchor)
    area = _Neighbourhood(guidance.shape[1], *coarse.shape[2:])
    refined = torch.empty_like(coarse, memory_format=torch.contiguous_format)
    # Two buffers take turns and serve every pass.
    buffers = area.padded_zeros(coarse, 2, _images_per_pass(coarse), coarse.shape[1])
    for images in _passes(coarse):
        gates, total = _gates(guidance[images], area, norm_type)
        known = None if sparse is None else sparse[images]
        weights, constant = _weights_and_constant(gates, total, coarse[images], known, anchor)
        area.view(buffers[0]).copy_(coarse[images])
        for t in range(steps):
            following = refined[images] if t == steps - 1 else area.view(buffers[(t + 1) % 2])
            _step(buffers[t % 2], following, weights, constant, area)
    return refined


def _step(
    depth: Tensor, following: Tensor, weights: Tensor, constant: Tensor, area: _Neighbourhood
) -> None:
    """following (b, C, H, W) = constant + sum_k w_k * depth(p + o_k), depth with its border."""
    following.copy_(constant)
    for k, o_k in enumerate(area.offsets):
        following.addcmul_(weights[:, k : k + 1], area.view(depth, *o_k))


@_propagate_op.register_fake
def _(guidance, coarse, sparse, steps, norm_type, anchor):
    return torch.empty_like(coarse, memory_format=torch.contiguous_format)


@torch.library.custom_op("cspn::propagate_backward", mutates_args=())
def _propagate_backward_op(
    grad_refined: Tensor,
    guidance: Tensor,
    coarse: Tensor,
    sparse: Tensor | None,
    steps: int,
    norm_type: str,
    anchor: str,
) -> tuple[Tensor, Tensor]:
    """Gradients to guidance (B, K, H, W) and coarse depth (B, C, H, W)."""
    for form in (gpu, cpu):
        if form.covers(grad_refined, guidance, coarse, sparse):
            return form.propagate_images_backward(
                grad_refined, guidance, coarse, sparse, steps, norm_type, anchor
            )
    area = _Neighbourhood(guidance.shape[1], *coarse.shape[2:])
    grad_guidance = torch.zeros_like(guidance, memory_format=torch.contiguous_format)
    grad_coarse = torch.empty_like(coarse, memory_format=torch.contiguous_format)
    size = _images_per_pass(coarse)
    depth_maps = area.padded_zeros(coarse, steps, size, coarse.shape[1])  # d_0 .. d_{T-1}
    for images in _passes(guidance):
        raw = guidance[images]
        gates, total = _gates(raw, area, norm_type)
        known = None if sparse is None else sparse[images] > 0
        known_depth = None if sparse is None else sparse[images]
        weights, constant = _weights_and_constant(gates, total, coarse[images], known_depth, anchor)
        area.view(depth_maps[0]).copy_(coarse[images])
        for t in range(steps - 1):
            _step(depth_maps[t], area.view(depth_maps[t + 1]), weights, constant, area)

        # The recursion, last step first: gradients to the weights, the constant and d_0.
        grad_weights = torch.zeros_like(weights)
        grad_constant = torch.zeros_like(coarse[images])
        grad_depth = grad_refined[images]
        scattered = [area.padded_zeros(coarse, *grad_depth.shape[:2]) for _ in range(2)]
        for t in reversed(range(steps)):
            grad_constant += grad_depth
            pushed = scattered[t % 2].zero_()
            for k, o_k in enumerate(area.offsets):
                neighbour = area.view(depth_maps[t], *o_k)
                for c in range(coarse.shape[1]):
                    grad_weights[:, k].addcmul_(grad_depth[:, c], neighbour[:, c])
                area.view(pushed, *o_k).addcmul_(weights[:, k : k + 1], grad_depth)
            grad_depth = area.view(pushed)

        # The constant: (1 - sum_k w_k) * coarse where nothing is known, the kept value elsewhere.
        free = grad_constant if known is None else grad_constant.masked_fill(known, 0)
        plain_weights = gates.div_(total)
        centre = 1 - plain_weights.sum(dim=1, keepdim=True)
        grad_coarse[images] = grad_depth + centre * free
        if known is not None and anchor == "coarse":
            grad_coarse[images] += grad_constant - free
        grad_weights -= (free * coarse[images]).sum(dim=1, keepdim=True)
        if known is not None:
            grad_weights.masked_fill_(known, 0)

        # The normalisation: w_k = q_k / sum_j |q_j|; the total's 1 for all-zero gates is constant.
        shared = (grad_weights * plain_weights).sum(dim=1, keepdim=True)
        grad_gates = grad_weights.addcmul_(plain_weights.sign(), shared, value=-1).div_(total)
        for k, o_k in enumerate(area.offsets):
            here, there = area.overlap(*o_k)
            grad_guidance[images][:, k][there] = grad_gates[:, k][here]
        if norm_type == "8sum_abs":
            grad_guidance[images] *= raw.sign()
    return grad_guidance, grad_coarse


@_propagate_backward_op.register_fake
def _(grad_refined, guidance, coarse, sparse, steps, norm_type, anchor):
    keep = {"memory_format": torch.contiguous_format}
    return torch.empty_like(guidance, **keep), torch.empty_like(coarse, **keep)


def _setup_context(ctx, inputs, output) -> None:
    guidance, coarse, sparse, *ctx.options = inputs
    ctx.save_for_backward(guidance, coarse, sparse)


def _backward(ctx, grad_refined: Tensor):
    gradients = _propagate_backward_op(grad_refined, *ctx.saved_tensors, *ctx.options)
    return (*gradients, None, None, None, None)


_propagate_op.register_autograd(_backward, setup_context=_setup_context)
