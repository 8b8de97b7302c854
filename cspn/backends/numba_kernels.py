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
time, weights in the order of their use, and each row of a map read once. Nothing in these loops
looks at the numbers either: the largest size of what enters is kept, and an image that holds NaN,
infinity, or sums of gates whose reciprocal float32 cannot hold is reported, to be done elsewhere.
"""

import warnings

import numpy as np
from numba import njit
from numba.core.caching import FunctionCache

from cspn.backends.simd import (
    LANES,
    absolute,
    add,
    after,
    before,
    larger,
    load,
    multiply,
    multiply_add,
    prefetch,
    reciprocal,
    splat,
    store,
    subtract,
    where_positive,
)

# Rows that a step goes on at a time. The weights of two rows, 3x3 and 304 columns wide, stay in a
# core's first cache until the next step, which needs one of the two; of more they would not.
ROWS = 2
# How many rows before its use the guidance is prefetched.
AHEAD = 2
MARGIN = LANES  # as much as keeps rows on the boundaries of vectors; more than any radius
# The largest size of a number that these loops take: a map grows by at most 2 max|d_0|
# a step, so that none of it can become infinite.
LARGEST = np.float32(2.0**100)


class _Cache(FunctionCache):
    """numba's cache on disk, without which the work goes on where it is damaged or cannot be
    written."""

    def load_overload(self, *key):
        try:
            return super().load_overload(*key)
        except Exception as error:
            return _warn_of_cache(error)

    def save_overload(self, *key):
        try:
            super().save_overload(*key)
        except Exception as error:
            _warn_of_cache(error)


_warned = []


def _warn_of_cache(error: Exception) -> None:
    """Warn, once in a process, that the kernels are compiled anew."""
    if not _warned:
        _warned.append(error)
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(f"the propagation compiles without numba's cache ({reason})", stacklevel=2)


def _compiled(function):
    """Compile with numba, cached on disk; fused multiply-adds are allowed, nothing else is."""
    compiled = njit(nogil=True, fastmath={"contract"})(function)
    try:
        compiled._cache = _Cache(function)
    except Exception as error:  # no folder for the cache can be written
        _warn_of_cache(error)
    return compiled


@_compiled
def _copy_row(source, first, out, at, width):
    """Copy width values of `source` from index `first` on, to index `at` of `out`."""
    whole = width // LANES * LANES
    for j in range(0, whole, LANES):
        store(out, at + j, load(source, first + j))
    if whole < width:
        rest, into = source.reshape(-1), out.reshape(-1)
        for j in range(whole, width):
            into[at + j] = rest[first + j]


@_compiled
def _weigh_row(
    gates, indices, maps, depth, known, positive, keep_sparse,
    weights, weight, scale, factor, constant, term, largest,
):  # fmt: skip
    """Write one row of the weights, of 1 / sum_k |q_k|, both 0 at measured pixels, and of the
    constant term; `largest` (LANES,) keeps the largest size of what went in.

    indices (K,): what the row's first pixel reads of the padded `gates`. depth: index of its coarse
    depth in `maps`. known (WIDTH): the row of measurements. weight, factor, term: indices of the
    row in `weights`, `scale` and `constant`.
    """
    count, width = len(indices), len(known)
    nothing, one, top = splat(np.float32(0)), splat(np.float32(1)), load(largest, 0)
    for j in range(0, width, LANES):
        total, centre, measured = nothing, one, load(known, j)
        for k in range(count):
            total = add(total, absolute(load(gates, indices[k] + j)))
        inverse = reciprocal(total)
        top = larger(larger(top, measured), larger(total, inverse))
        for k in range(count):
            value = load(gates, indices[k] + j)
            if positive:
                value = absolute(value)
            value = multiply(value, inverse)
            centre = subtract(centre, value)
            value = where_positive(measured, nothing, value)
            store(weights, weight + j * count + k * LANES, value)
        store(scale, factor + j, where_positive(measured, nothing, inverse))
        for c in range(constant.shape[1]):
            value = load(maps, depth + c * maps.shape[3] + j)
            top = larger(top, value)
            kept = measured if keep_sparse else value
            value = where_positive(measured, kept, multiply(centre, value))
            store(constant, term + c * width + j, value)
    store(largest, 0, top)


@_compiled
def _trusted(largest):
    """Return whether all that went in is finite and at most LARGEST."""
    return not np.any(~(largest <= LARGEST))


@_compiled
def _weigh_row_backward(gates, gate, scale, indices, positive, weights, weight):
    """Write one row of the weights with which gradients go back a step.

    g_t(p) = sum_k w_k(p - o_k) g_{t+1}(p - o_k) reads the same indices as a step does, as
    -o_k = o_{K-1-k}; and w_k(p - o_k) = q_k(p) / sum_j |q_j(p - o_k)|.

    gate: index of the row of the first gate in the padded `gates`. indices (K,): what the row's
    first pixel reads of the padded `scale`. weight: index of the row in `weights`.
    """
    count, width = len(indices), weights.shape[1] * LANES
    for k in range(count):
        mine = gate + (count - 1 - k) * gates.shape[3]
        for j in range(0, width, LANES):
            value = load(gates, mine + j)
            if positive:
                value = absolute(value)
            value = multiply(value, load(scale, indices[k] + j))
            store(weights, weight + j * count + k * LANES, value)


@_compiled
def _step_row(
    maps, at, start, begin, weights, weight, count, width, p0, p1, p2, p3, p4, p5, p6, p7
):
    """Set maps at `at` = start + sum_n w_n * depth(p + o_n), eight neighbours in one pass of a row.

    at, begin: indices of the row in `maps` and `start`. weight: index of the row's first of these
    eight weights, of the `count` that it has in all. p0..p7: what the row's first pixel reads, in
    `maps`.
    """
    for j in range(0, width, LANES):
        w = weight + j * count
        value = multiply_add(load(weights, w), load(maps, p0 + j), load(start, begin + j))
        value = multiply_add(load(weights, w + LANES), load(maps, p1 + j), value)
        value = multiply_add(load(weights, w + 2 * LANES), load(maps, p2 + j), value)
        value = multiply_add(load(weights, w + 3 * LANES), load(maps, p3 + j), value)
        value = multiply_add(load(weights, w + 4 * LANES), load(maps, p4 + j), value)
        value = multiply_add(load(weights, w + 5 * LANES), load(maps, p5 + j), value)
        value = multiply_add(load(weights, w + 6 * LANES), load(maps, p6 + j), value)
        value = multiply_add(load(weights, w + 7 * LANES), load(maps, p7 + j), value)
        store(maps, at + j, value)


@_compiled
def _step_row_3x3(maps, at, start, begin, weights, weight, width, above, same, below):
    """Do the same for 3x3, which reads each of three rows once: above, same and below are the
    indices of the rows' first pixels. A neighbour to the side is put together from two vectors."""
    a0, a1 = load(maps, above - LANES), load(maps, above)
    s0, s1 = load(maps, same - LANES), load(maps, same)
    b0, b1 = load(maps, below - LANES), load(maps, below)
    for j in range(0, width, LANES):
        a2, s2 = load(maps, above + j + LANES), load(maps, same + j + LANES)
        b2, w = load(maps, below + j + LANES), weight + 8 * j
        value = multiply_add(load(weights, w), after(b1, b2), load(start, begin + j))
        value = multiply_add(load(weights, w + LANES), b1, value)
        value = multiply_add(load(weights, w + 2 * LANES), before(b0, b1), value)
        value = multiply_add(load(weights, w + 3 * LANES), after(s1, s2), value)
        value = multiply_add(load(weights, w + 4 * LANES), before(s0, s1), value)
        value = multiply_add(load(weights, w + 5 * LANES), after(a1, a2), value)
        value = multiply_add(load(weights, w + 6 * LANES), a1, value)
        value = multiply_add(load(weights, w + 7 * LANES), before(a0, a1), value)
        store(maps, at + j, value)
        a0, a1, s0, s1, b0, b1 = a1, a2, s1, s2, b1, b2


@_compiled
def _collect_row(
    grad_weights, at, grad_constant, into, width, grads, grad, maps, slot, steps, indices
):
    """Add sum_t g_{t+1}(p) d_t(p + o_n) to the gradients of eight weights, and write
    sum_t g_{t+1}(p), the constant's.

    grad: index of g_1 in `grads`, which holds g_2 a `slot` before it. indices (8,): what the row's
    first pixel reads of d_0 in `maps`, which holds d_1 a slot after it.
    """
    p0, p1, p2, p3 = indices[0], indices[1], indices[2], indices[3]
    p4, p5, p6, p7 = indices[4], indices[5], indices[6], indices[7]
    for j in range(0, width, LANES):
        a = at + j
        g0, g1 = load(grad_weights, a), load(grad_weights, a + width)
        g2, g3 = load(grad_weights, a + 2 * width), load(grad_weights, a + 3 * width)
        g4, g5 = load(grad_weights, a + 4 * width), load(grad_weights, a + 5 * width)
        g6, g7 = load(grad_weights, a + 6 * width), load(grad_weights, a + 7 * width)
        total = splat(np.float32(0))
        for t in range(steps):
            value, p = load(grads, grad - t * slot + j), t * slot + j
            total = add(total, value)
            g0 = multiply_add(value, load(maps, p0 + p), g0)
            g1 = multiply_add(value, load(maps, p1 + p), g1)
            g2 = multiply_add(value, load(maps, p2 + p), g2)
            g3 = multiply_add(value, load(maps, p3 + p), g3)
            g4 = multiply_add(value, load(maps, p4 + p), g4)
            g5 = multiply_add(value, load(maps, p5 + p), g5)
            g6 = multiply_add(value, load(maps, p6 + p), g6)
            g7 = multiply_add(value, load(maps, p7 + p), g7)
        store(grad_constant, into + j, total)
        store(grad_weights, a, g0)
        store(grad_weights, a + width, g1)
        store(grad_weights, a + 2 * width, g2)
        store(grad_weights, a + 3 * width, g3)
        store(grad_weights, a + 4 * width, g4)
        store(grad_weights, a + 5 * width, g5)
        store(grad_weights, a + 6 * width, g6)
        store(grad_weights, a + 7 * width, g7)


@_compiled
def _finish_row(
    guidance, coarse, offsets, positive, keep_sparse, i, weights, scale,
    grad_weights, grad_constant, grad_start, grad_guidance, grad_coarse,
):  # fmt: skip
    """Turn the gradients of row i's weights (K, WIDTH), of its constant and of d_0 (C, WIDTH) into
    those of guidance and coarse depth. weights: (K, WIDTH); scale: as `_weigh_row` left it."""
    count, height, width = guidance.shape
    from_centre, common = np.zeros(width, np.float32), np.zeros(width, np.float32)
    centre = np.ones(width, np.float32)
    for k in range(count):
        weight = weights[k, :width]
        for j in range(width):
            centre[j] -= weight[j]
    if keep_sparse:
        for j in range(width):
            centre[j] = centre[j] if scale[j] > 0 else 0
    for c in range(coarse.shape[0]):
        grad, start = grad_constant[c, :width], grad_start[c, :width]
        depth, into = coarse[c, i], grad_coarse[c, i]
        for j in range(width):
            from_centre[j] += grad[j] * depth[j]
            into[j] = start[j] + grad[j] * centre[j]
    for k in range(count):
        grad, weight = grad_weights[k, :width], weights[k, :width]
        for j in range(width):
            grad[j] -= from_centre[j]
            common[j] += grad[j] * weight[j]
    # w_k = q_k / sum_j |q_j|, and the gate q_k is one of the neighbour's, read by this pixel alone.
    for k in range(count):
        dy, dx = offsets[k]
        first, last = max(0, -dx), min(width, width - dx)
        if not (0 <= i + dy < height and first < last):
            continue
        raw = guidance[k, i + dy, first + dx : last + dx]
        into = grad_guidance[k, i + dy, first + dx : last + dx]
        grad, weight = grad_weights[k, first:last], weights[k, first:last]
        along, factor = common[first:last], scale[first:last]
        for j in range(last - first):
            sign = np.float32(weight[j] > 0) - np.float32(weight[j] < 0)
            value = (grad[j] - sign * along[j]) * factor[j]
            if positive:
                value *= np.float32(raw[j] > 0) - np.float32(raw[j] < 0)
            into[j] = value


@_compiled
def _expect_row(field, i):
    """Prefetch row i of an image (C, H, W)."""
    channels, height, width = field.shape
    if 0 <= i < height:
        for c in range(channels):
            for j in range(0, width, LANES):
                prefetch(field, (c * height + i) * width + j)


@_compiled
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
        _copy_row(field, (c * height + i) * width, maps, at, width)


@_compiled
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
                    _step_row_3x3(
                        maps, at, constant, term, weights, weight, width,
                        ((i - 1) & mask) * line + earlier, at - channels * stride,
                        ((i + 1) & mask) * line + earlier,
                    )  # fmt: skip
                    continue
                maps[i & mask, s, c, MARGIN : MARGIN + width] = constant[i & (len(constant) - 1), c]
                for k in range(0, count, 8):  # K is 24 or 48
                    _find(indices, offsets, k, i, mask, line, earlier)
                    _step_row(
                        maps, at, maps, at, weights, weight + k * LANES, count, width,
                        indices[0], indices[1], indices[2], indices[3],
                        indices[4], indices[5], indices[6], indices[7],
                    )  # fmt: skip


@_compiled
def _find(indices, offsets, k, i, mask, line, first):
    """Find what the first pixel of row i reads for the neighbours k, k + 1 .. in a ring buffer."""
    for n in range(len(indices)):
        dy, dx = offsets[k + n]
        indices[n] = ((i + dy) & mask) * line + first + dx


@_compiled
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
        _copy_row(sparse, i * width, known, 0, width)
    _weigh_row(
        gates, indices, maps, _row(maps, i) + MARGIN, known, positive, keep_sparse, weights,
        _row(weights, i), scale, row * scale.shape[1] + MARGIN, constant, _row(constant, i),
        largest,
    )  # fmt: skip
    for j in range(MARGIN + width, MARGIN + len(known)):
        scale[row, j] = 0


@_compiled
def _row(ring, i):
    """Return the index of image row i in a ring buffer of rows."""
    return (i & (len(ring) - 1)) * (ring.size // len(ring))


@_compiled
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
                _copy_row(row[c], MARGIN, refined, (c * height + i) * width, width)
    return _trusted(largest)


@_compiled
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
            _weigh_row_backward(gates, gate, scale, indices, positive, back, _row(back, i))
        if front % ROWS:
            continue
        _advance(maps, weights, constant, offsets, front, steps - 1, height)
        _advance(grads, back, nothing, offsets, front, steps, height)
        newest = front - radius * steps
        for i in range(max(newest - ROWS + 1, 0), min(newest + 1, height)):
            row = i & mask
            _collect(maps, grads, offsets, i, grad_weights, grad_constant)
            _separate(weights, i, plain)
            _finish_row(
                guidance, coarse, offsets, positive, keep_sparse, i,
                plain, scale[row, MARGIN : MARGIN + width], grad_weights, grad_constant,
                grads[row, steps, :, MARGIN : MARGIN + width], grad_guidance, grad_coarse,
            )  # fmt: skip
    return _trusted(largest)


@_compiled
def _separate(weights, i, plain):
    """Copy row i of the weights, neighbour by neighbour: (K, WIDTH)."""
    count, width = plain.shape
    first = _row(weights, i)
    for k in range(count):
        for j in range(0, width, LANES):
            store(plain, k * width + j, load(weights, first + j * count + k * LANES))


@_compiled
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
            _collect_row(
                grad_weights, k * width, grad_constant, c * width, width,
                grads, grad, maps, channels * stride, slots - 1, indices,
            )  # fmt: skip
