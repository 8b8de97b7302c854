"""The propagation for float32 on an NVIDIA GPU, as three Triton kernels.

`_prepare` normalises the weights once, and pads the first map. `_advance` runs one step or several
in a launch. A program owns a tile and computes it with a margin, of which every step but the last
uses up a ring; its weights stay in registers meanwhile. Registers cannot be read at an offset, so
between two steps the tile goes through memory of the program's own, which a barrier makes visible
to all its threads and which is small enough to stay in cache. Backward runs the same kernel: the
gradient's recursion

    g_t(p) = sum_k w_k(p - o_k) g_{t+1}(p - o_k)

is a step without constant whose weights are read at the neighbours, because -o_k = o_{K-1-k}.
`_finish` then sums g_{t+1}(p) d_t(p + o_k) over the steps in registers and goes on to the
gradients of guidance and coarse depth. Nothing waits for the GPU, and what is launched depends on
shapes alone, so both directions can be captured in a CUDA graph.

Shapes: guidance (B, K, H, W); coarse and refined depth and gradients (B, C, H, W); sparse depth
(B, 1, H, W), 0 = no measurement; states (T, B, C, H + 2r, W + 2r), the depth maps d_0..d_{T-1} in
a border of zeros. In the kernels (i, j) is a pixel of the image; its border has i or j below 0 or
from H or W on. Tensors of a program are (SLOTS, pixels...), with K rounded up to a power of two.
"""

import functools
import os

import torch
import triton
import triton.language as tl
from torch import Tensor

from cspn.backends import Inputs, failure

# Triton reads the same variable: its kernels then run on CPU tensors, for tests without a GPU.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

# Steps of a 3x3 neighbourhood in one launch; larger ones lose too much to the margin and take 1.
# On an H200 1 to 6 gave the same bits; with tiles of 32 x 64 pixels 2 was a fifth faster than 1,
# 3 to 6 no faster. With the tiles of today only 1 is timed.
STEPS_PER_LAUNCH = 1
# The weights of a measured pixel, which depends on no neighbour: others have a size of at most 1.
MEASURED = tl.constexpr(2.0)
# Timed on an H200, 24 steps on 8 x 228 x 304, forward / backward in ms: 16384 and 8 2.83 / 4.40,
# 8192 and 4 1.35 / 2.08, 8192 and 2 0.81 / 1.62, 4096 and 2 0.80 / 1.69, 4096 and 1 0.82 / 1.59.
VALUES = 8192  # weights held by a program of _advance: 16 x 64 pixels for 3x3
WARPS = 2  # 32 threads each; _advance takes twice as many


def why_not(direction: str, *tensors: Tensor | None) -> str:
    """Return why the kernels cannot run on these tensors, "" where they can."""
    present = [t for t in tensors if t is not None]
    device = present[0].device
    if any(t.device != device or t.dtype != torch.float32 or t.numel() == 0 for t in present):
        return "Triton's kernels are for float32 on one GPU, and at least one pixel"
    if device.type == "cpu" and INTERPRETED:
        return ""
    if device.type != "cuda" or torch.version.hip is not None:
        return f"Triton's kernels are for an NVIDIA GPU, not for {device}"
    return _failure(device)


@functools.cache
def _failure(device: torch.device) -> str:
    """Return how Triton fails to build or start kernels, "" where it works; warn once.

    It needs a C compiler and a recent GPU.
    """

    def run(inputs: Inputs, grad: Tensor) -> None:
        forward(inputs)
        backward(grad, inputs)
        torch.cuda.synchronize(device)  # what fails there is raised here

    return failure("triton", device, run)


def forward(inputs: Inputs) -> Tensor:
    """Return the refined depth (B, C, H, W)."""
    guidance, coarse, sparse, steps, norm_type, anchor = inputs
    guidance, coarse = guidance.contiguous(), coarse.contiguous()
    weights, constant = torch.empty_like(guidance), torch.empty_like(coarse)
    refined, maps = torch.empty_like(coarse), _padded_maps(guidance, coarse, 2)  # they take turns
    with torch.cuda.device_of(coarse):
        _start_prepare(guidance, coarse, sparse, norm_type, anchor, weights, constant, maps)
        _start_steps(maps, refined, weights, constant, steps, keep=False)
    return refined


def backward(grad_refined: Tensor, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Return the gradients to guidance (B, K, H, W) and coarse depth (B, C, H, W)."""
    guidance, coarse, sparse, steps, norm_type, anchor = inputs
    guidance, coarse = guidance.contiguous(), coarse.contiguous()
    states = _padded_maps(guidance, coarse, steps)  # d_0..d_{T-1}, computed again
    _, batch, channels, *padded = states.shape
    weights, grads = torch.empty_like(guidance), torch.empty_like(states)  # grads: g_T..g_1
    grad_guidance, grad_coarse = torch.empty_like(guidance), torch.empty_like(coarse)
    options = _options(guidance, WARPS)
    radius, block = options["R"], VALUES // 8 // options["SLOTS"]
    blocks = triton.cdiv(padded[0] * padded[1], block)
    with torch.cuda.device_of(coarse):
        constant = grad_coarse  # not needed before the constant is used up
        _start_prepare(guidance, coarse, sparse, norm_type, anchor, weights, constant, states)
        _start_steps(states, None, weights, constant, steps - 1, keep=True)
        grads[0].zero_()
        grads[0, ..., radius:-radius, radius:-radius] = grad_refined
        _start_steps(grads, grad_coarse, weights, None, steps, keep=True)  # g_0 to grad_coarse
        _finish[(blocks * batch,)](
            guidance, coarse, coarse if sparse is None else sparse.contiguous(), states, grads,
            grad_guidance, grad_coarse, steps, batch, channels, *coarse.shape[2:], blocks,
            HAS_SPARSE=sparse is not None, POSITIVE=norm_type == "8sum_abs",
            KEEP_SPARSE=anchor == "sparse", BLOCK=block, **options,
        )  # fmt: skip
    return grad_guidance, grad_coarse


def _padded_maps(guidance: Tensor, coarse: Tensor, count: int) -> Tensor:
    """Return memory for depth maps in their borders, (count, B, C, H + 2r, W + 2r)."""
    border = 2 * _options(guidance, WARPS)["R"]
    *lead, height, width = coarse.shape
    return coarse.new_empty(count, *lead, height + border, width + border)


def _options(guidance: Tensor, warps: int) -> dict[str, int]:
    """Return the neighbours, rounded up to a power of two too, the radius, and how to compile."""
    count = guidance.shape[1]
    shape = {"K": count, "SLOTS": triton.next_power_of_2(count), "R": round(count**0.5) // 2}
    return shape | {"num_warps": warps, "enable_fp_fusion": True}


def _start_prepare(guidance, start, sparse, norm_type, anchor, weights, constant, maps) -> None:
    """Fill weights, constant, and maps[0] with the padded `start`."""
    batch, channels, height, width = start.shape
    options = _options(guidance, WARPS)
    block = VALUES // 8 // options["SLOTS"]
    blocks = triton.cdiv(maps.shape[3] * maps.shape[4], block)
    _prepare[(blocks * batch,)](
        guidance, start, start if sparse is None else sparse.contiguous(), weights,
        constant, maps, channels, height, width, blocks, HAS_SPARSE=sparse is not None,
        POSITIVE=norm_type == "8sum_abs", KEEP_SPARSE=anchor == "sparse", BLOCK=block, **options,
    )  # fmt: skip


def _start_steps(maps, last_map, weights, constant, steps: int, keep: bool) -> None:
    """Write maps[1], maps[2].. from maps[0] (or use two in turn) and, where one is given, the last
    one into `last_map` in place of these, without a border.

    With a constant these are steps of the propagation, without one steps of its gradient.
    """
    _, batch, channels, *padded = maps.shape
    options = _options(weights, 2 * WARPS)  # registers for four pixels' weights to a thread
    limit = STEPS_PER_LAUNCH if options["K"] == 8 else 1
    tile = (VALUES // 64 // options["SLOTS"], 64)
    scratch = maps
    for launch, t in enumerate(range(0, steps, limit)):
        together = min(limit, steps - t)
        margins = 2 * options["R"] * (together - 1)
        step_h, step_w = tile[0] - margins, tile[1] - margins
        down, across = triton.cdiv(padded[0], step_h), triton.cdiv(padded[1], step_w)
        programs = down * across * batch * channels
        if launch == 0 and together > 1:  # the first launch has the most tiles
            scratch = maps.new_empty(programs * 2 * tile[0] * tile[1] + 1)
        source, target = (t, t + 1) if keep else (launch % 2, (launch + 1) % 2)
        _advance[(programs,)](
            maps[source], maps[min(target, len(maps) - 1)],
            maps if last_map is None else last_map, weights,
            weights if constant is None else constant, scratch, maps.stride(0), channels,
            *weights.shape[2:], down * across, across, step_h, step_w, STEPS=together, KEEP=keep,
            LAST=last_map is not None and t + together == steps, BACKWARD=constant is None,
            TILE_H=tile[0], TILE_W=tile[1], **options,
        )  # fmt: skip


@triton.jit
def _neighbours(K: tl.constexpr, SLOTS: tl.constexpr):
    """Return k, dy and dx of the neighbours, (SLOTS,) each; slots from K on are padding."""
    side: tl.constexpr = 3 if K == 8 else (5 if K == 24 else 7)
    k = tl.arange(0, SLOTS)
    index = k + tl.where(k >= K // 2, 1, 0)  # the centre is left out
    return k, side // 2 - index // side, side // 2 - index % side


@triton.jit
def _inside(i, j, height, width):
    return (i >= 0) & (i < height) & (j >= 0) & (j < width)


@triton.jit
def _at(field, i, j, height, width, mask):
    """Return field(i, j), 0 outside and where the mask is off."""
    return tl.load(field + i * width + j, mask & _inside(i, j, height, width), other=0.0)


@triton.jit
def _sign(value):
    return tl.where(value > 0, 1.0, 0.0) - tl.where(value < 0, 1.0, 0.0)


@triton.jit
def _pixels(blocks, width, R: tl.constexpr, BLOCK: tl.constexpr):
    """Return image number, index in the padded map, and (i, j) of a program's (1, BLOCK) pixels."""
    program = tl.program_id(0)
    index = (program % blocks * BLOCK + tl.arange(0, BLOCK))[None, :]
    padded = width + 2 * R
    return (program // blocks).to(tl.int64), index, index // padded - R, index % padded - R


@triton.jit
def _weights(guidance, sparse, image, i, j, height, width, K: tl.constexpr, SLOTS: tl.constexpr,
             POSITIVE: tl.constexpr, HAS_SPARSE: tl.constexpr):  # fmt: skip
    """Return raw gates g_k(p + o_k), weights before the sparse rule, (SLOTS, BLOCK); sum of |g|,
    1 where it is 0, the centre's weight and the measurement, (1, BLOCK)."""
    k, dy, dx = _neighbours(K, SLOTS)
    field = guidance + image * K * height * width + k[:, None] * height * width
    raw = _at(field, i + dy[:, None], j + dx[:, None], height, width, k[:, None] < K)
    total = tl.sum(tl.abs(raw), 0)[None, :]
    total = tl.where(total > 0, total, 1.0)
    weights = (tl.abs(raw) if POSITIVE else raw) / total
    measurement = tl.zeros_like(total)
    if HAS_SPARSE:
        plane = sparse + image * height * width
        measurement = tl.load(plane + i * width + j, _inside(i, j, height, width), other=0.0)
    return raw, weights, total, 1 - tl.sum(weights, 0)[None, :], measurement


@triton.jit
def _prepare(
    guidance, start, sparse, weights, constant, padded, channels, height, width, blocks,
    K: tl.constexpr, SLOTS: tl.constexpr, R: tl.constexpr, HAS_SPARSE: tl.constexpr,
    POSITIVE: tl.constexpr, KEEP_SPARSE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write weights (or MEASURED), the constant with the sparse rule in it, and `start` padded."""
    image, index, i, j = _pixels(blocks, width, R, BLOCK)
    inside = _inside(i, j, height, width)
    plane, padded_plane = height * width, (height + 2 * R) * (width + 2 * R)
    here = i * width + j
    _, affinity, _, centre, measurement = _weights(
        guidance, sparse, image, i, j, height, width, K, SLOTS, POSITIVE, HAS_SPARSE
    )
    measured = measurement > 0
    k = tl.arange(0, SLOTS)[:, None]
    into = weights + image * K * plane + k * plane + here
    tl.store(into, tl.where(measured, MEASURED, affinity), inside & (k < K))
    for c in range(channels):
        number = image * channels + c
        value = tl.load(start + number * plane + here, inside, other=0.0)
        tl.store(padded + number * padded_plane + index, value, index < padded_plane)
        term = tl.where(measured, measurement if KEEP_SPARSE else value, centre * value)
        tl.store(constant + number * plane + here, term, inside)


@triton.jit
def _advance(
    source, target, last_map, weights, constant, scratch, map_stride, channels, height, width,
    tiles, tiles_across, step_h, step_w, K: tl.constexpr, SLOTS: tl.constexpr, R: tl.constexpr,
    STEPS: tl.constexpr, KEEP: tl.constexpr, LAST: tl.constexpr, BACKWARD: tl.constexpr,
    TILE_H: tl.constexpr, TILE_W: tl.constexpr,
):  # fmt: skip
    """Run STEPS steps from the padded map `source`, on one tile of one of the B * C maps.

    All of them are written, from `target` on, with KEEP, else only the last; with LAST that one
    goes to `last_map`, which has no border.
    """
    program = tl.program_id(0).to(tl.int64)
    number, tile = program // tiles, tl.program_id(0) % tiles
    margin: tl.constexpr = R * (STEPS - 1)
    row, column = tl.arange(0, TILE_H)[None, :, None], tl.arange(0, TILE_W)[None, None, :]
    i = tile // tiles_across * step_h - margin - R + row
    j = tile % tiles_across * step_w - margin - R + column
    inside = _inside(i, j, height, width)
    own = _inside(row - margin, column - margin, step_h, step_w)
    own = own & (i < height + R) & (j < width + R)
    plane, padded_plane = height * width, (height + 2 * R) * (width + 2 * R)

    k, dy, dx = _neighbours(K, SLOTS)
    k, dy, dx = k[:, None, None], dy[:, None, None], dx[:, None, None]
    field = weights + number // channels * K * plane
    if BACKWARD:  # w_k(p - o_k) belongs to g(p - o_k), which is the neighbour K - 1 - k of p
        w = _at(field + (K - 1 - k) * plane, i + dy, j + dx, height, width, k < K)
        term = tl.zeros([1, TILE_H, TILE_W], tl.float32)
        measured = w == MEASURED
    else:
        w = _at(field + k * plane, i, j, height, width, k < K)
        term = tl.load(constant + number * plane + i * width + j, inside, other=0.0)
        measured = tl.max(w, 0)[None, :, :] == MEASURED

    field = source + number * padded_plane
    d = _at(field, i + R + dy, j + R + dx, height + 2 * R, width + 2 * R, k < K)
    for s in tl.static_range(STEPS):
        step = tl.sum(tl.where(measured, 0.0, w * d), 0)[None, :, :]
        value = tl.where(inside, term + step, 0.0)
        if LAST and s == STEPS - 1:
            tl.store(last_map + number * plane + i * width + j, value, own & inside)
        elif KEEP or s == STEPS - 1:
            into = target + number * padded_plane + (i + R) * (width + 2 * R) + j + R
            if KEEP:
                into += s * map_stride
            tl.store(into, value, own)
        if s < STEPS - 1:
            # Two pieces take turns, so one barrier a step is enough. They begin off the alignment:
            # vector stores would make the compiler lay out the tile differently from the loads.
            mine = scratch + 1 + (program * 2 + s % 2) * (TILE_H * TILE_W)
            tl.store(mine + row * TILE_W + column, value)
            tl.debug_barrier()
            d = _at(mine, row + dy, column + dx, TILE_H, TILE_W, k < K)


@triton.jit
def _finish(
    guidance, coarse, sparse, states, grads, grad_guidance, grad_coarse, steps, batch, channels,
    height, width, blocks, K: tl.constexpr, SLOTS: tl.constexpr, R: tl.constexpr,
    HAS_SPARSE: tl.constexpr, POSITIVE: tl.constexpr, KEEP_SPARSE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Make the gradients of d_0..d_{T-1} and g_T..g_1; grad_coarse holds g_0 and is completed."""
    image, index, i, j = _pixels(blocks, width, R, BLOCK)
    inside = _inside(i, j, height, width)
    plane, padded_plane = height * width, (height + 2 * R) * (width + 2 * R)
    here = i * width + j
    k, dy, dx = _neighbours(K, SLOTS)
    k, dy, dx = k[:, None], dy[:, None], dx[:, None]
    raw, weights, total, centre, measurement = _weights(
        guidance, sparse, image, i, j, height, width, K, SLOTS, POSITIVE, HAS_SPARSE
    )
    free = inside & ~(measurement > 0)

    grad_weights = tl.zeros([SLOTS, BLOCK], tl.float32)
    from_centre = tl.zeros([1, BLOCK], tl.float32)
    for c in range(channels):
        number = image * channels + c
        grad_constant = tl.zeros([1, BLOCK], tl.float32)
        for t in range(steps):
            opposite = (steps - 1 - t) * batch * channels + number
            grad = tl.load(grads + opposite * padded_plane + index, inside, other=0.0)
            field = states + (t * batch * channels + number) * padded_plane
            depth = _at(field, i + R + dy, j + R + dx, height + 2 * R, width + 2 * R, k < K)
            grad_weights += grad * depth
            grad_constant += grad
        into = grad_coarse + number * plane + here
        kept = tl.where(free, centre, 0.0 if KEEP_SPARSE else 1.0)
        tl.store(into, tl.load(into, inside, other=0.0) + grad_constant * kept, inside)
        from_centre += grad_constant * tl.load(coarse + number * plane + here, inside, other=0.0)

    # To the gates: w_k = q_k / sum_j |q_j|, with q = |g| or g, and |.| has the gradient 0 at 0.
    grad_weights = tl.where(free, grad_weights - from_centre, 0.0)
    common = tl.sum(grad_weights * weights, 0)[None, :]
    grad_gates = (grad_weights - _sign(weights) * common) / total
    if POSITIVE:
        grad_gates *= _sign(raw)
    # Each gate is written once: by the pixel, perhaps one of the border, that reads it.
    field = grad_guidance + image * K * plane + k * plane
    mask = (k < K) & _inside(i + dy, j + dx, height, width)
    tl.store(field + (i + dy) * width + j + dx, grad_gates, mask)
