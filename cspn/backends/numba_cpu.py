"""The propagation for float32 on a CPU with numba: work arrays and threads for the kernels.

One image is one thread's work. Nothing but guidance, depth and results goes through memory; all
else lives in rings of rows that stay in a core's cache.
"""

import ctypes
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cspn.backends.numba_kernels import (
    HAS_NUMBA,
    LANES,
    MARGIN,
    ROWS,
    propagate_image,
    propagate_image_backward,
)
from cspn.reference import neighbour_offsets


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
) -> Tensor:
    """Propagate a batch: (B, K, H, W), (B, C, H, W), (B, 1, H, W) -> (B, C, H, W)."""
    refined = torch.empty_like(coarse, memory_format=torch.contiguous_format)
    batches = _arrays(guidance, coarse, sparse, refined)

    def some(images: Iterator[int]) -> None:
        with _room(_Room, guidance, coarse, steps) as room:
            for b in images:
                arrays = (np.ascontiguousarray(array[b]) for array in batches)
                propagate_image(
                    *arrays, *room.rings, room.offsets, norm_type == "8sum_abs", anchor == "sparse"
                )

    _share_out(some, len(coarse))
    return refined


def propagate_images_backward(
    grad_refined: Tensor,
    guidance: Tensor,
    coarse: Tensor,
    sparse: Tensor | None,
    steps: int,
    norm_type: str,
    anchor: str,
) -> tuple[Tensor, Tensor]:
    """Gradients to guidance (B, K, H, W) and coarse depth (B, C, H, W)."""
    # NumPy asks for huge pages, which makes the first touch of tens of megabytes much faster.
    grad_guidance = torch.from_numpy(np.zeros(guidance.shape, np.float32))
    grad_coarse = torch.empty_like(coarse, memory_format=torch.contiguous_format)
    batches = _arrays(guidance, coarse, sparse, grad_refined, grad_guidance, grad_coarse)

    def some(images: Iterator[int]) -> None:
        with _room(_BackwardRoom, guidance, coarse, steps) as room:
            for b in images:
                arrays = (np.ascontiguousarray(array[b]) for array in batches)
                propagate_image_backward(
                    *arrays, *room.rings, room.offsets, norm_type == "8sum_abs", anchor == "sparse"
                )

    _share_out(some, len(coarse))
    return grad_guidance, grad_coarse


class _Room:
    """Rings of rows to work in, zeroed when they are made and good for any image of one size."""

    def __init__(self, count: int, channels: int, height: int, width: int, steps: int):
        self.offsets = np.array(neighbour_offsets(round((count + 1) ** 0.5)), np.int64)
        radius = int(self.offsets.max())
        # Rows from the first step's newest to the oldest that backward reads, or the whole image.
        self.rows = min(radius * (steps + 1), height + 3 * radius) + ROWS
        self.few_rows = 2 * radius + ROWS
        self.count, self.channels, self.slots = count, channels, steps + 1
        self.width = -(-width // LANES) * LANES
        self.stride = self.width + 2 * MARGIN
        # An odd number of cache lines, so that the maps of one row do not compete for the same.
        self.stride += LANES * (1 - self.stride // LANES % 2)
        self.rings = self.make_rings()

    def make_rings(self) -> tuple[np.ndarray, ...]:
        return (
            *(self.gates(), self.weights(), self.constant()),
            *(self.maps(self.few_rows), self.scale()),
        )

    def gates(self) -> np.ndarray:
        return _ring(self.few_rows, 1, self.count, self.stride)

    def weights(self) -> np.ndarray:
        return _ring(self.rows, self.width // LANES, self.count, LANES)

    def constant(self) -> np.ndarray:
        return _ring(self.rows, self.channels, self.width)

    def maps(self, rows: int) -> np.ndarray:
        return _ring(rows, self.slots, self.channels, self.stride)

    def scale(self) -> np.ndarray:
        return _ring(self.rows, self.stride)


class _BackwardRoom(_Room):
    """The same for backward, which keeps more rows of more things."""

    def make_rings(self) -> tuple[np.ndarray, ...]:
        nothing = _ring(1, self.channels, self.width)
        return (
            *(self.gates(), self.weights(), self.constant(), self.maps(self.rows)),
            *(self.weights(), self.maps(self.rows), self.scale(), nothing),
        )


# Rooms that nobody works in, a few of each kind: making one takes as long as the work on a third of
# an image. Of the sizes asked for last alone, so that they do not pile up.
_spare: dict[type[_Room], tuple[tuple[int, ...], list[_Room]]] = {}


@contextmanager
def _room(kind: type[_Room], guidance: Tensor, coarse: Tensor, steps: int) -> Iterator[_Room]:
    """A room of its own for the one who asks, for as long as the context lasts."""
    size = (guidance.shape[1], *coarse.shape[1:], steps)
    if _spare.get(kind, ((),))[0] != size:
        _spare[kind] = (size, [])
    rooms = _spare[kind][1]
    try:
        room = rooms.pop()
    except IndexError:  # all in use
        room = kind(*size)
    yield room
    rooms.append(room)


def _ring(rows: int, *shape: int) -> np.ndarray:
    """float32 zeros for at least so many rows, a power of two of them, that begin on the boundary
    of a vector."""
    shape = 1 << (rows - 1).bit_length(), *shape
    size = math.prod(shape)
    values = np.zeros(size + LANES, np.float32)
    first = -values.ctypes.data // values.itemsize % LANES
    return values[first : first + size].reshape(shape)


def _arrays(
    guidance: Tensor, coarse: Tensor, sparse: Tensor | None, *more: Tensor
) -> list[np.ndarray]:
    """The tensors as NumPy sees them; no measurements are an empty (B, 0, 0) sparse depth."""
    known = guidance.new_empty(guidance.shape[0], 0, 0) if sparse is None else sparse[:, 0]
    return [tensor.detach().numpy() for tensor in (guidance, coarse, known, *more)]


def _share_out(function: Callable[[Iterator[int]], None], batch: int) -> None:
    """Call `function` in each thread PyTorch may use; together they go through range(batch)."""
    threads = max(1, min(batch, torch.get_num_threads()))
    images = iter(range(batch))  # each image goes to the first thread that is free
    errors = []

    def some(_=None) -> None:
        try:
            function(images)
        except BaseException as error:
            errors.append(error)

    if threads == 1:
        some()
    elif _openmp() is not None:
        _openmp().GOMP_parallel(_CALLBACK(some), None, threads, 0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(some, range(threads)))
    if errors:
        raise errors[0]


_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def _openmp() -> ctypes.CDLL | None:
    """The GNU OpenMP library that PyTorch brings and uses, where it does.

    Its threads wait for work in a busy loop for some milliseconds after each operation: threads
    beside them would have half a core each, and a propagation takes no longer than that.
    """
    for path in (Path(torch.__file__).parent / "lib").glob("libgomp*"):
        library = ctypes.CDLL(str(path))
        if hasattr(library, "GOMP_parallel"):
            return library
    return None
