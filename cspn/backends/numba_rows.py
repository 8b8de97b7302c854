"""The rows that `numba_kernels` goes through, in vectors, compiled by numba for float32.

Shapes and words are those of `numba_kernels`. An index is the number of values before one.

Nothing in these loops looks at the numbers: the largest size of what enters is kept, and an image
that holds NaN, infinity, or sums of gates whose reciprocal float32 cannot hold is reported, to be
done elsewhere.
"""

import hashlib
import warnings
from contextlib import contextmanager
from pathlib import Path

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
    reciprocal,
    splat,
    store,
    subtract,
    where_positive,
)

# The largest size of a number that these loops take: a map grows by at most 2 max|d_0|
# a step, so that none of it can become infinite.
LARGEST = np.float32(2.0**100)
_FOLDER = Path(__file__).parent
# Numba looks at the file of a function alone, not at those of the functions compiled into it.
_STAMP = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(_FOLDER.glob("*.py")))).digest()

_warned = []


@contextmanager
def _harmless_errors():
    """Go on after an error of the cache; warn, once in a process, that kernels compile anew."""
    try:
        yield
    except Exception as error:
        if not _warned:
            _warned.append(error)
            reason = f"numba's cache ({type(error).__name__}: {error})"
            warnings.warn(f"the propagation compiles without {reason}", stacklevel=4)


class _Cache(FunctionCache):
    """numba's cache on disk, which may be damaged, or in a folder that cannot be written."""

    def __init__(self, function):
        super().__init__(function)
        self._cache_file._source_stamp = self._cache_file._source_stamp, _STAMP

    def load_overload(self, *key):
        with _harmless_errors():
            return super().load_overload(*key)

    def save_overload(self, *key):
        with _harmless_errors():
            super().save_overload(*key)


def compiled(function):
    """Compile with numba, cached on disk; fused multiply-adds are allowed, nothing else is."""
    dispatcher = njit(nogil=True, fastmath={"contract"})(function)
    with _harmless_errors():
        dispatcher._cache = _Cache(function)
    return dispatcher


@compiled
def copy_row(source, first, out, at, width):
    """Copy width values of `source` from index `first` on, to index `at` of `out`."""
    whole = width // LANES * LANES
    for j in range(0, whole, LANES):
        store(out, at + j, load(source, first + j))
    if whole < width:
        rest, into = source.reshape(-1), out.reshape(-1)
        for j in range(whole, width):
            into[at + j] = rest[first + j]


@compiled
def weigh_row(
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


@compiled
def trusted(largest):
    """Return whether all that went in is finite and at most LARGEST."""
    return not np.any(~(largest <= LARGEST))


@compiled
def weigh_row_backward(gates, gate, scale, indices, positive, weights, weight):
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


@compiled
def step_row(maps, at, start, begin, weights, weight, count, width, p0, p1, p2, p3, p4, p5, p6, p7):
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


@compiled
def step_row_3x3(maps, at, start, begin, weights, weight, width, above, same, below):
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


@compiled
def collect_row(
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


@compiled
def finish_row(
    guidance, coarse, offsets, positive, keep_sparse, i, weights, scale,
    grad_weights, grad_constant, grad_start, grad_guidance, grad_coarse,
):  # fmt: skip
    """Turn the gradients of row i's weights (K, WIDTH), of its constant and of d_0 (C, WIDTH) into
    those of guidance and coarse depth. weights: (K, WIDTH); scale: as `weigh_row` left it."""
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
