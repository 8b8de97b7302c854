"""The propagation of one image in loops over rows, compiled by numba for float32.

Steps do not sweep the image one after another: row i of step s is computed as soon as rows
i - r .. i + r of step s - 1 are, so all steps run down the image together, r rows apart. A row's
weights are made when the first step is about to reach it and are still in cache when the last step
does. For backward nothing is kept but the inputs: the depth maps are computed again, beside their
gradients g_T .. g_0, which run down the image in the same way; when both have passed a row, its
weights' gradient sum_t g_{t+1}(p) d_t(p + o_k) is summed in registers. Computing maps costs less
here than carrying them through memory.

Shapes: guidance (K, H, W); coarse and refined depth (C, H, W); sparse depth (H, W), 0 = no
measurement. Rows are WIDTH values long: W rounded up to whole vectors, and what lies beyond W stays
0. Padded rows, STRIDE in all, have MARGIN or more zeros before and after, so that a neighbour can
be read anywhere. Ring buffers, image row i being row i & mask: gates (ring, 1, K, STRIDE), weights
(ring, WIDTH / LANES, K, LANES), in the order in which a step reads them, the weights' scale
1 / sum_k |q_k| (ring, STRIDE), the constant term (ring, C, WIDTH), maps (ring, slots, C, STRIDE)
with slot s for step s. An index is the number of values before one.

What limits a step is how numbers reach a core's first cache, not arithmetic: hence two rows at a
time, weights in the order of their use, and each row of a map read once. `numba_rows` has the
loops over a row.
"""

import numpy as np

from cspn.backends.numba_rows import (
    collect_row,
    compiled,
    copy_row,
    finish_row,
    step_row,
    step_row_3x3,
    trusted,
    weigh_row,
    weigh_row_backward,
)
from cspn.backends.simd import LANES, load, prefetch, store

# Rows that a step goes on at a time. The weights of two rows, 3x3 and 304 columns wide, stay in a
# core's first cache until the next step, which needs one of the two; of more they would not.
ROWS = 2
# How many rows before its use the guidance is prefetched.
AHEAD = 2
MARGIN = LANES  # as much as keeps rows on the boundaries of vectors; more than any radius


@compiled
def _expect_row(field, i):
    """Prefetch row i of an image (C, H, W)."""
    channels, height, width = field.shape
    if 0 <= i < height:
        for c in range(channels):
            for j in range(0, width, LANES):
                prefetch(field, (c * height + i) * width + j)


@compiled
def _start_row(maps, field, i):
    """Fill row i of slot 0 from an image (C, H, W), with zeros outside it."""
    channels, height, width = field.shape
    ring, slots, _, stride = maps.shape
    row = i & (ring - 1)
    if not 0 <= i < height:
        maps[row, 0] = 0
        return
    for c in range(channels):
        at = (row * slots * channels + c) * stride + MARGIN
        copy_row(field, (c * height + i) * width, maps, at, width)


@compiled
def _advance(maps, weights, constant, offsets, front, last, height):
    """Compute the ROWS rows up to front - r s of slot s from slot s - 1, for s = 1 .. last, zeros
    outside the image. Each step finds most of its weights in the cache that the last one filled."""
    ring, slots, channels, stride = maps.shape
    mask, line, radius = ring - 1, slots * channels * stride, offsets[0, 0]
    count, width = weights.shape[2], weights.shape[1] * LANES
    indices = np.empty(8, np.int64)
    for s in range(1, last + 1):
        newest = front - radius * s
        if newest < -radius:
            break
        for i in range(max(newest - ROWS + 1, -radius), min(newest + 1, height + radius)):
            if i < 0 or i >= height:
                maps[i & mask, s] = 0
                continue
            for c in range(channels):
                slot = (s * channels + c) * stride + MARGIN
                earlier, at = slot - channels * stride, (i & mask) * line + slot
                term = ((i & (len(constant) - 1)) * channels + c) * width
                weight = (i & (len(weights) - 1)) * count * width
                if count == 8:
                    step_row_3x3(
                        maps, at, constant, term, weights, weight, width,
                        ((i - 1) & mask) * line + earlier, at - channels * stride,
                        ((i + 1) & mask) * line + earlier,
                    )  # fmt: skip
                    continue
                maps[i & mask, s, c, MARGIN : MARGIN + width] = constant[i & (len(constant) - 1), c]
                for k in range(0, count, 8):  # K is 24 or 48
                    _find(indices, offsets, k, i, mask, line, earlier)
                    step_row(
                        maps, at, maps, at, weights, weight + k * LANES, count, width,
                        indices[0], indices[1], indices[2], indices[3],
                        indices[4], indices[5], indices[6], indices[7],
                    )  # fmt: skip


@compiled
def _find(indices, offsets, k, i, mask, line, first):
    """Find what the first pixel of row i reads for the neighbours k, k + 1 .. in a ring buffer."""
    for n in range(len(indices)):
        dy, dx = offsets[k + n]
        indices[n] = ((i + dy) & mask) * line + first + dx


@compiled
def _weigh(
    gates, maps, sparse, offsets, positive, keep_sparse, i, width,
    weights, scale, row, constant, indices, known, largest,
):  # fmt: skip
    """Compute row i of the weights, of their scale (in its row `row`), and of the constant."""
    ring, _, count, stride = gates.shape
    _find(indices, offsets, 0, i, ring - 1, count * stride, MARGIN)
    for k in range(count):
        indices[k] += k * stride
    if sparse.size > 0:
        copy_row(sparse, i * width, known, 0, width)
    weigh_row(
        gates, indices, maps, _row(maps, i) + MARGIN, known, positive, keep_sparse, weights,
        _row(weights, i), scale, row * scale.shape[1] + MARGIN, constant, _row(constant, i),
        largest,
    )  # fmt: skip
    for j in range(MARGIN + width, MARGIN + len(known)):
        scale[row, j] = 0


@compiled
def _row(ring, i):
    """Return the index of image row i in a ring buffer of rows."""
    return (i & (len(ring) - 1)) * (ring.size // len(ring))


@compiled
def propagate_image(
    guidance, coarse, sparse, refined,
    gates, weights, constant, maps, scale, offsets, positive, keep_sparse,
):  # fmt: skip
    """Fill `refined` from one image; return whether its numbers are fit for it."""
    channels, height, width = coarse.shape
    radius, steps = offsets[0, 0], maps.shape[1] - 1
    indices, known = np.empty(len(offsets), np.int64), np.zeros(constant.shape[2], np.float32)
    largest = np.zeros(LANES, np.float32)
    for front in range(-2 * radius, height + radius * steps + ROWS - 1):
        if front < height + radius:
            _start_row(gates, guidance, front + radius)
            _start_row(maps, coarse, front)
        _expect_row(guidance, front + radius + AHEAD)
        if 0 <= front < height:
            _weigh(
                gates, maps, sparse, offsets, positive, keep_sparse, front, width,
                weights, scale, 0, constant, indices, known, largest,
            )  # fmt: skip
        if front % ROWS:
            continue
        _advance(maps, weights, constant, offsets, front, steps, height)
        newest = front - radius * steps
        for i in range(max(newest - ROWS + 1, 0), min(newest + 1, height)):
            row = maps[i & (len(maps) - 1), steps]
            for c in range(channels):
                copy_row(row[c], MARGIN, refined, (c * height + i) * width, width)
    return trusted(largest)


@compiled
def propagate_image_backward(
    guidance, coarse, sparse, grad_refined, grad_guidance, grad_coarse,
    gates, weights, constant, maps, back, grads, scale, nothing, offsets, positive, keep_sparse,
):  # fmt: skip
    """Fill both gradients from one image; return whether its numbers are fit for it.

    back: the weights of the gradients' steps.
    """
    channels, height, width = coarse.shape
    radius, steps, mask = offsets[0, 0], maps.shape[1] - 1, len(maps) - 1
    padded = constant.shape[2]
    grad_weights = np.empty((len(offsets), padded), np.float32)
    grad_constant = np.empty((channels, padded), np.float32)
    plain = np.empty((len(offsets), padded), np.float32)
    indices, known = np.empty(len(offsets), np.int64), np.zeros(padded, np.float32)
    largest = np.zeros(LANES, np.float32)
    for front in range(-2 * radius, height + radius * steps + ROWS - 1):
        row = front & mask
        if front < height + radius:
            _start_row(gates, guidance, front + radius)
            _start_row(maps, coarse, front)
            _start_row(grads, grad_refined, front)
            scale[row] = 0
        _expect_row(guidance, front + radius + AHEAD)
        if 0 <= front < height:
            _weigh(
                gates, maps, sparse, offsets, positive, keep_sparse, front, width,
                weights, scale, row, constant, indices, known, largest,
            )  # fmt: skip
        i = front - radius
        if 0 <= i < height:
            _find(indices, offsets, 0, i, mask, scale.shape[1], MARGIN)
            gate = _row(gates, i) + MARGIN
            weigh_row_backward(gates, gate, scale, indices, positive, back, _row(back, i))
        if front % ROWS:
            continue
        _advance(maps, weights, constant, offsets, front, steps - 1, height)
        _advance(grads, back, nothing, offsets, front, steps, height)
        newest = front - radius * steps
        for i in range(max(newest - ROWS + 1, 0), min(newest + 1, height)):
            row = i & mask
            _collect(maps, grads, offsets, i, grad_weights, grad_constant)
            _separate(weights, i, plain)
            finish_row(
                guidance, coarse, offsets, positive, keep_sparse, i,
                plain, scale[row, MARGIN : MARGIN + width], grad_weights, grad_constant,
                grads[row, steps, :, MARGIN : MARGIN + width], grad_guidance, grad_coarse,
            )  # fmt: skip
    return trusted(largest)


@compiled
def _separate(weights, i, plain):
    """Copy row i of the weights, neighbour by neighbour: (K, WIDTH)."""
    count, width = plain.shape
    first = _row(weights, i)
    for k in range(count):
        for j in range(0, width, LANES):
            store(plain, k * width + j, load(weights, first + j * count + k * LANES))


@compiled
def _collect(maps, grads, offsets, i, grad_weights, grad_constant):
    """Sum the gradients of row i's weights (K, WIDTH) and of its constant (C, WIDTH)."""
    ring, slots, channels, stride = maps.shape
    mask, line, width = ring - 1, slots * channels * stride, grad_weights.shape[1]
    indices = np.empty(8, np.int64)
    grad_weights[:] = 0
    for c in range(channels):
        slot = c * stride + MARGIN
        grad = (i & mask) * line + (slots - 2) * channels * stride + slot
        for k in range(0, len(offsets), 8):
            _find(indices, offsets, k, i, mask, line, slot)
            collect_row(
                grad_weights, k * width, grad_constant, c * width, width,
                grads, grad, maps, channels * stride, slots - 1, indices,
            )  # fmt: skip
