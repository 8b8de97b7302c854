"""The propagation for float32 on a CPU with numba: room and threads for `cspn.loops`.

One image is one thread's work. Nothing but guidance, depth and results goes through memory; all
else lives in rings of rows that stay in a core's cache.
"""

import ctypes
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cspn.loops import HAS_NUMBA, LANES, MARGIN, propagate_image, propagate_image_backward
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
    tensors = _detached(guidance, coarse, sparse, refined)

    def some(images: Iterator[int]) -> None:
        room = _Room(guidance, coarse, steps)
        few = _ring(2 * room.radius + 1)
        rings = room.gates(), room.weights(), room.constant(), room.maps(few), room.scale()
        for b in images:
            arrays = (tensor[b].contiguous().numpy() for tensor in tensors)
            propagate_image(
                *arrays, *rings, room.offsets, norm_type == "8sum_abs", anchor == "sparse"
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
    tensors = _detached(guidance, coarse, sparse, grad_refined, grad_guidance, grad_coarse)

    def some(images: Iterator[int]) -> None:
        room = _Room(guidance, coarse, steps)
        rings = (
            *(room.gates(), room.weights(), room.constant(), room.maps(room.ring)),
            *(room.weights(), room.maps(room.ring), room.scale(), room.nothing()),
        )
        for b in images:
            arrays = (tensor[b].contiguous().numpy() for tensor in tensors)
            propagate_image_backward(
                *arrays, *rings, room.offsets, norm_type == "8sum_abs", anchor == "sparse"
            )

    _share_out(some, len(coarse))
    return grad_guidance, grad_coarse


class _Room:
    """Zeroed rings of rows to work in."""

    def __init__(self, guidance: Tensor, coarse: Tensor, steps: int):
        self.count, self.channels, self.slots = guidance.shape[1], coarse.shape[1], steps + 1
        self.offsets = np.array(neighbour_offsets(round((self.count + 1) ** 0.5)), np.int64)
        self.radius = int(self.offsets.max())
        # Rows from the first step's newest to the oldest that backward reads, or the whole image.
        rows = min(self.radius * (steps + 1), coarse.shape[2] + 3 * self.radius) + 1
        self.ring = _ring(rows)
        self.width = -(-coarse.shape[3] // LANES) * LANES
        self.stride = self.width + 2 * MARGIN
        # An odd number of cache lines, so that the maps of one row do not compete for the same.
        self.stride += LANES * (1 - self.stride // LANES % 2)

    def gates(self) -> np.ndarray:
        return _aligned_zeros(_ring(2 * self.radius + 1), 1, self.count, self.stride)

    def weights(self) -> np.ndarray:
        return _aligned_zeros(self.ring, self.count, self.width)

    def constant(self) -> np.ndarray:
        return _aligned_zeros(self.ring, self.channels, self.width)

    def maps(self, ring: int) -> np.ndarray:
        return _aligned_zeros(ring, self.slots, self.channels, self.stride)

    def nothing(self) -> np.ndarray:
        return _aligned_zeros(1, self.channels, self.width)

    def scale(self) -> np.ndarray:
        return _aligned_zeros(self.ring, self.stride)


def _ring(rows: int) -> int:
    """A power of two of at least `rows`."""
    return 1 << (rows - 1).bit_length()


def _aligned_zeros(*shape: int) -> np.ndarray:
    """float32 zeros that begin on the boundary of a vector."""
    size = int(np.prod(shape))
    values = np.zeros(size + LANES, np.float32)
    first = -values.ctypes.data // values.itemsize % LANES
    return values[first : first + size].reshape(shape)


def _detached(guidance: Tensor, coarse: Tensor, sparse: Tensor | None, *more: Tensor) -> list:
    """The tensors without gradients; no measurements are an empty (B, 0, 0) sparse depth."""
    known = guidance.new_empty(guidance.shape[0], 0, 0) if sparse is None else sparse[:, 0]
    return [tensor.detach() for tensor in (guidance, coarse, known, *more)]


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
