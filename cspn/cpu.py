"""The propagation's inner loops for float32 on a CPU, compiled by numba where it is installed.

Steps do not sweep the image one after another: row i of step t+1 is computed as soon as rows
i - r .. i + r of step t are, so a group of steps runs down the image together, r + 1 rows apart.
The weights of a row are made when the first step reaches it and are still in cache when the last
of the group does: each is read from memory once a group instead of once a step. One image is one
thread's work.

Shapes, one image: guidance (K, H, W); coarse and refined depth (C, H, W); sparse depth (H, W),
0 = no measurement; states (T, C, H + 2r, W + 2r), the depth maps d_0..d_{T-1} in a border of zeros.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from cspn.reference import neighbour_offsets

try:
    from numba import njit
except ImportError:  # includes a numba that refuses this NumPy
    njit = None

HAS_NUMBA = njit is not None

# Steps that run down the image together: their rows of weights (and in backward of the weights'
# gradients) should fit a core's second-level cache, about a megabyte.
GROUP = 12


def covers(*tensors: Tensor | None) -> bool:
    """True where this file serves: numba is there and all tensors are float32 on the CPU."""
    return HAS_NUMBA and all(
        t is None or (t.device.type == "cpu" and t.dtype == torch.float32) for t in tensors
    )


def propagate_images(
    guidance: Tensor,
    coarse: Tensor,
    sparse: Tensor | None,
    steps: int,
    norm_type: str,
    anchor: str,
    states: Tensor | None,
) -> Tensor:
    """Propagate a batch; fills `states` (T, B, C, H + 2r, W + 2r, zeros) where it is given."""
    offsets = np.array(neighbour_offsets(round((guidance.shape[1] + 1) ** 0.5)), np.int64)
    border = 2 * int(offsets.max())
    batch, channels, height, width = coarse.shape
    refined = torch.empty_like(coarse, memory_format=torch.contiguous_format)
    tensors = _detached(guidance, coarse, sparse, refined)

    def some(images: range) -> None:
        weights = np.zeros((len(offsets), height + border, width + border), np.float32)
        maps = np.zeros((2, channels, height + border, width + border), np.float32)
        for b in images:
            _propagate(
                *(tensor[b].contiguous().numpy() for tensor in tensors),
                maps if states is None else states[:, b].numpy(),
                weights,
                offsets,
                steps,
                norm_type == "8sum_abs",
                anchor == "sparse",
            )

    _share_out(some, batch)
    return refined


def propagate_images_backward(
    grad_refined: Tensor,
    guidance: Tensor,
    coarse: Tensor,
    sparse: Tensor | None,
    states: Tensor,
    norm_type: str,
    anchor: str,
) -> tuple[Tensor, Tensor]:
    """Gradients to guidance (B, K, H, W) and coarse depth (B, C, H, W)."""
    offsets = np.array(neighbour_offsets(round((guidance.shape[1] + 1) ** 0.5)), np.int64)
    border = 2 * int(offsets.max())
    batch, count, height, width = guidance.shape
    # NumPy asks for huge pages, which makes the first touch of tens of megabytes much faster.
    grad_guidance = torch.from_numpy(np.zeros(guidance.shape, np.float32))
    grad_coarse = torch.empty_like(coarse, memory_format=torch.contiguous_format)
    tensors = _detached(guidance, coarse, sparse, grad_refined, grad_guidance, grad_coarse)

    def some(images: range) -> None:
        weights = np.zeros((count, height + border, width + border), np.float32)
        grad_weights = np.empty((count, height, width), np.float32)
        for b in images:
            _propagate_backward(
                *(tensor[b].contiguous().numpy() for tensor in tensors),
                states[:, b].detach().numpy(),
                weights,
                grad_weights,
                offsets,
                norm_type == "8sum_abs",
                anchor == "sparse",
            )

    _share_out(some, batch)
    return grad_guidance, grad_coarse


def _detached(guidance: Tensor, coarse: Tensor, sparse: Tensor | None, *more: Tensor) -> list:
    """The tensors without gradients; no measurements are an empty (B, 0, 0) sparse depth."""
    known = guidance.new_empty(guidance.shape[0], 0, 0) if sparse is None else sparse[:, 0]
    return [tensor.detach() for tensor in (guidance, coarse, known, *more)]


def _share_out(function, batch: int) -> None:
    """Call `function` with parts of range(batch), one part for each thread PyTorch may use."""
    threads = max(1, min(batch, torch.get_num_threads()))
    parts = [range(n * batch // threads, (n + 1) * batch // threads) for n in range(threads)]
    if threads == 1:
        function(parts[0])
        return
    # The kernels release the interpreter's lock. A pool of its own for each call costs little and
    # outlives no fork.
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(function, parts))


def _compiled(function):
    """numba's compilation, cached on disk; fused multiply-adds are allowed, nothing else is."""
    if not HAS_NUMBA:
        return function
    options = {"nogil": True, "fastmath": {"contract"}}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no folder for the cache can be written
        return njit(**options)(function)


@_compiled
def _gates_of_row(guidance, offsets, positive, i, gates, total):
    """gates (K, W): g_k(p + o_k), or |g_k|, along row i; total (W): sum_k |q_k|, 1 where 0."""
    count, height, width = guidance.shape
    total[:] = 0
    for k in range(count):
        dy, dx = offsets[k]
        gates[k, :] = 0
        first, last = max(0, -dx), min(width, width - dx)
        if 0 <= i + dy < height and first < last:
            there = guidance[k, i + dy, first + dx : last + dx]
            here = gates[k, first:last]
            sums = total[first:last]
            for j in range(last - first):
                size = abs(there[j])
                here[j] = size if positive else there[j]
                sums[j] += size
    for j in range(width):
        if total[j] == 0:
            total[j] = 1


@_compiled
def _weights_of_row(
    guidance, coarse, sparse, offsets, positive, keep_sparse, i, weights, constant, gates, total
):
    """Row i of the weights, 0 at measured pixels, and of the constant term (C, W)."""
    count, _, width = guidance.shape
    radius = offsets[0, 0]
    _gates_of_row(guidance, offsets, positive, i, gates, total)
    for j in range(width):
        total[j] = 1 / total[j]
    centre = np.ones(width, np.float32)
    for k in range(count):
        row = weights[k, i + radius, radius : radius + width]
        gate = gates[k]
        for j in range(width):
            weight = gate[j] * total[j]
            centre[j] -= weight
            row[j] = weight
    for c in range(coarse.shape[0]):
        for j in range(width):
            constant[c, i, j] = centre[j] * coarse[c, i, j]
    if sparse.size == 0:
        return
    for j in range(width):
        if sparse[i, j] > 0:
            for k in range(count):
                weights[k, i + radius, j + radius] = 0
            for c in range(coarse.shape[0]):
                constant[c, i, j] = sparse[i, j] if keep_sparse else coarse[c, i, j]


@_compiled
def _add_four(row, w0, d0, w1, d1, w2, d2, w3, d3):
    """row += w0 d0 + w1 d1 + w2 d2 + w3 d3: four neighbours for one pass over the row."""
    for j in range(len(row)):
        row[j] += w0[j] * d0[j] + w1[j] * d1[j] + (w2[j] * d2[j] + w3[j] * d3[j])


@_compiled
def _propagate(
    guidance, coarse, sparse, refined, states, weights, offsets, steps, positive, keep_sparse
):
    """Fill `refined`, and the states, from one image; given two states, they take turns.

    weights: (K, H + 2r, W + 2r) to work in, its border zeros.
    """
    count, height, width = guidance.shape
    channels = coarse.shape[0]
    radius = offsets[0, 0]
    end = radius + width
    kept = states.shape[0]
    constant = np.empty((channels, height, width), np.float32)
    gates, total = np.empty((count, width), np.float32), np.empty(width, np.float32)
    states[0, :, radius : radius + height, radius:end] = coarse

    for start in range(0, steps, GROUP):
        together = min(GROUP, steps - start)
        for front in range(height + (radius + 1) * (together - 1)):
            for n in range(together):
                i = front - (radius + 1) * n
                if i < 0:
                    break
                if i >= height:
                    continue
                t = start + n
                if t == 0:
                    _weights_of_row(
                        guidance, coarse, sparse, offsets, positive, keep_sparse, i,
                        weights, constant, gates, total,
                    )  # fmt: skip
                y = i + radius
                for c in range(channels):
                    depth = states[t % kept, c]
                    row = states[(t + 1) % kept, c, y, radius:end]
                    if t == steps - 1:
                        row = refined[c, i]
                    row[:] = constant[c, i]
                    _step_of_row(row, depth, weights, offsets, y, radius, end)


@_compiled
def _step_of_row(row, depth, weights, offsets, y, radius, end):
    """row += sum_k w_k * depth(p + o_k), along row y of the bordered maps."""
    for k in range(0, len(offsets), 4):  # K is 8, 24 or 48
        (y0, x0), (y1, x1) = offsets[k], offsets[k + 1]
        (y2, x2), (y3, x3) = offsets[k + 2], offsets[k + 3]
        _add_four(
            row,
            weights[k, y, radius:end],
            depth[y + y0, radius + x0 : end + x0],
            weights[k + 1, y, radius:end],
            depth[y + y1, radius + x1 : end + x1],
            weights[k + 2, y, radius:end],
            depth[y + y2, radius + x2 : end + x2],
            weights[k + 3, y, radius:end],
            depth[y + y3, radius + x3 : end + x3],
        )


@_compiled
def _backward_row(grad, depth, weights, grads, grad_weights, pushed, offsets, i):
    """One row of one step back: adds to the weights' gradient, fills the previous map's."""
    count, _, width = grad_weights.shape
    radius = offsets[0, 0]
    y, end = i + radius, radius + width
    pushed[:] = 0
    for k in range(0, count, 4):
        for n in range(k, k + 4):
            dy, dx = offsets[n]
            into = grad_weights[n, i]
            neighbour = depth[y + dy, radius + dx : end + dx]
            for j in range(width):
                into[j] += grad[j] * neighbour[j]
        (y0, x0), (y1, x1) = offsets[k], offsets[k + 1]
        (y2, x2), (y3, x3) = offsets[k + 2], offsets[k + 3]
        _add_four(
            pushed,
            weights[k, y - y0, radius - x0 : end - x0],
            grads[y - y0, radius - x0 : end - x0],
            weights[k + 1, y - y1, radius - x1 : end - x1],
            grads[y - y1, radius - x1 : end - x1],
            weights[k + 2, y - y2, radius - x2 : end - x2],
            grads[y - y2, radius - x2 : end - x2],
            weights[k + 3, y - y3, radius - x3 : end - x3],
            grads[y - y3, radius - x3 : end - x3],
        )


@_compiled
def _propagate_backward(
    guidance,
    coarse,
    sparse,
    grad_refined,
    grad_guidance,
    grad_coarse,
    states,
    weights,
    grad_weights,
    offsets,
    positive,
    keep_sparse,
):
    """Fill both gradients from one image; the last step's rows come first.

    weights: as for `_propagate`. grad_weights: (K, H, W) to work in.
    """
    count, height, width = guidance.shape
    channels, steps, radius = coarse.shape[0], states.shape[0], offsets[0, 0]
    end = radius + width
    constant = np.empty((channels, height, width), np.float32)
    gates, total = np.empty((count, width), np.float32), np.empty(width, np.float32)
    grad_weights[:] = 0
    grad_constant = np.zeros((channels, height, width), np.float32)
    # Two gradient maps take turns: step u reads one and writes the other.
    grads = np.zeros((2, channels, height + 2 * radius, width + 2 * radius), np.float32)
    grads[0, :, radius : radius + height, radius:end] = grad_refined

    prepared = 0
    for start in range(0, steps, GROUP):
        together = min(GROUP, steps - start)
        for front in range(height + (radius + 1) * (together - 1)):
            while prepared < min(height, front + radius + 1):
                _weights_of_row(
                    guidance, coarse, sparse, offsets, positive, keep_sparse, prepared,
                    weights, constant, gates, total,
                )  # fmt: skip
                prepared += 1
            for n in range(together):
                i = front - (radius + 1) * n
                if i < 0:
                    break
                if i >= height:
                    continue
                u = start + n  # steps back from the last
                for c in range(channels):
                    grad = grads[u % 2, c, i + radius, radius:end]
                    into = grad_constant[c, i]
                    for j in range(width):
                        into[j] += grad[j]
                    _backward_row(
                        grad, states[steps - 1 - u, c], weights, grads[u % 2, c], grad_weights,
                        grads[(u + 1) % 2, c, i + radius, radius:end], offsets, i,
                    )  # fmt: skip

    grad_start = grads[steps % 2, :, radius : radius + height, radius:end]
    for i in range(height):
        _gates_of_row(guidance, offsets, positive, i, gates, total)
        _finish_row(
            guidance, coarse, sparse, offsets, positive, keep_sparse, i, gates, total,
            grad_weights, grad_constant, grad_start, grad_guidance, grad_coarse,
        )  # fmt: skip


@_compiled
def _finish_row(
    guidance, coarse, sparse, offsets, positive, keep_sparse, i, gates, total,
    grad_weights, grad_constant, grad_start, grad_guidance, grad_coarse,
):  # fmt: skip
    """From the recursion's gradients to those of guidance and coarse depth, for row i."""
    count, height, width = guidance.shape
    free = np.ones(width, np.float32)  # 0 at measured pixels
    if sparse.size > 0:
        for j in range(width):
            free[j] = 0 if sparse[i, j] > 0 else 1
    centre = np.ones(width, np.float32)
    for k in range(count):
        weight = gates[k]  # before the sparse rule
        for j in range(width):
            weight[j] /= total[j]
            centre[j] -= weight[j]

    from_centre, shared = np.zeros(width, np.float32), np.zeros(width, np.float32)
    kept = 0 if keep_sparse else 1
    for c in range(coarse.shape[0]):
        grad, depth, start, into = (
            grad_constant[c, i],
            coarse[c, i],
            grad_start[c, i],
            grad_coarse[c, i],
        )
        for j in range(width):
            from_centre[j] += grad[j] * depth[j]
            into[j] = start[j] + grad[j] * (free[j] * centre[j] + (1 - free[j]) * kept)
    for k in range(count):
        grad, weight = grad_weights[k, i], gates[k]
        for j in range(width):
            grad[j] -= from_centre[j]
            shared[j] += grad[j] * weight[j]

    for k in range(count):
        dy, dx = offsets[k]
        first, last = max(0, -dx), min(width, width - dx)
        if not (0 <= i + dy < height and first < last):
            continue
        raw = guidance[k, i + dy, first + dx : last + dx]
        into = grad_guidance[k, i + dy, first + dx : last + dx]
        grad, weight = grad_weights[k, i, first:last], gates[k, first:last]
        scale, common, unknown = total[first:last], shared[first:last], free[first:last]
        for j in range(last - first):
            sign = np.float32(weight[j] > 0) - np.float32(weight[j] < 0)
            value = (grad[j] - sign * common[j]) * unknown[j] / scale[j]
            if positive:
                value *= np.float32(raw[j] > 0) - np.float32(raw[j] < 0)
            into[j] = value
