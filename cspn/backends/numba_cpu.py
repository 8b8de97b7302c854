"""The propagation for float32 on a CPU with numba: workspaces and threads for the kernels.

One image is one thread's work. Nothing but guidance, depth and results goes through memory; all
else lives in ring buffers of rows that stay in a core's cache.
"""

import ctypes
import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numba import config
from torch import Tensor

from cspn.backends import Inputs, eager, failure
from cspn.backends.numba_kernels import (
    LANES,
    MARGIN,
    ROWS,
    propagate_image,
    propagate_image_backward,
)
from cspn.reference import neighbour_offsets

# What stays allocated between calls, for each thread that PyTorch may use.
KEPT_BYTES = 128 << 20


def why_not(direction: str, *tensors: Tensor | None) -> str:
    """Return why the kernels of a direction cannot run on these tensors, "" where they can."""
    for tensor in tensors:
        if tensor is not None and (tensor.device.type, tensor.dtype) != ("cpu", torch.float32):
            return f"numba is for float32 on a CPU, not {tensor.dtype} on {tensor.device}"
    if config.DISABLE_JIT:
        return "NUMBA_DISABLE_JIT is set"
    return _failure(direction)


@cache
def _failure(direction: str) -> str:
    """Return how numba fails to compile and run a direction here, "" where it works; warn once."""

    def run(inputs: Inputs, grad: Tensor) -> None:
        forward(inputs) if direction == "forward" else backward(grad, inputs)

    return failure("numba", torch.device("cpu"), run)


def forward(inputs: Inputs) -> Tensor:
    """Return the refined depth (B, C, H, W)."""
    refined = torch.empty_like(inputs.coarse, memory_format=torch.contiguous_format)
    for image in _run(propagate_image, inputs, refined):
        refined[image] = eager.forward(inputs.images(image))
    return refined


def backward(grad_refined: Tensor, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Return the gradients to guidance (B, K, H, W) and coarse depth (B, C, H, W)."""
    # NumPy asks for huge pages, which makes the first touch of tens of megabytes much faster.
    grad_guidance = torch.from_numpy(np.zeros(inputs.guidance.shape, np.float32))
    grad_coarse = torch.empty_like(inputs.coarse, memory_format=torch.contiguous_format)
    for image in _run(propagate_image_backward, inputs, grad_refined, grad_guidance, grad_coarse):
        gradients = eager.backward(grad_refined[image], inputs.images(image))
        grad_guidance[image], grad_coarse[image] = gradients
    return grad_guidance, grad_coarse


def _run(kernel: Callable[..., bool], inputs: Inputs, *more: Tensor) -> list[slice]:
    """Run a kernel on every image; return the images whose numbers it is not good for."""
    guidance, coarse, sparse, steps, norm_type, anchor = inputs
    # No measurements are an empty (B, 0, 0) sparse depth.
    known = guidance.new_empty(len(guidance), 0, 0) if sparse is None else sparse[:, 0]
    batches = [tensor.detach().numpy() for tensor in (guidance, coarse, known, *more)]
    modes = norm_type == "8sum_abs", anchor == "sparse"
    size = (kernel is propagate_image_backward, guidance.shape[1], *coarse.shape[1:], steps)
    left = []

    def some(images: Iterator[int]) -> None:
        with _pool.workspace(size) as workspace:
            for b in images:
                arrays = (np.ascontiguousarray(array[b]) for array in batches)
                if not kernel(*arrays, *workspace.rings, workspace.offsets, *modes):
                    left.append(slice(b, b + 1))

    _run_in_threads(some, len(coarse))
    return left


class Workspace:
    """Ring buffers of rows, zeroed when they are made and good for any image of one size."""

    def __init__(
        self, backward: bool, count: int, channels: int, height: int, width: int, steps: int
    ):
        self.size = (backward, count, channels, height, width, steps)
        self.offsets = np.array(neighbour_offsets(round((count + 1) ** 0.5)), np.int64)
        radius = int(self.offsets.max())
        # Rows from the first step's newest to the oldest that backward reads, or the whole image.
        rows = min(radius * (steps + 1), height + 3 * radius) + ROWS
        few_rows = 2 * radius + ROWS
        width = -(-width // LANES) * LANES
        # An odd number of cache lines, so that the maps of one row fall into different ones.
        stride = width + 2 * MARGIN
        stride += LANES * (1 - stride // LANES % 2)
        weights = (rows, width // LANES, count, LANES)
        shapes = [(few_rows, 1, count, stride), weights, (rows, channels, width)]  # and constant
        maps = (rows if backward else few_rows, steps + 1, channels, stride)
        shapes += [maps, weights, maps] if backward else [maps]
        shapes += [(rows, stride)]  # the weights' scale
        shapes += [(1, channels, width)] if backward else []  # no constant
        self.rings = [_ring(*shape) for shape in shapes]
        self.bytes = sum(ring.nbytes for ring in self.rings)


class _Pool:
    """Workspaces that no thread uses: making one takes as long as the work on a third of an image.

    The last used come last; the first are let go where all are larger than `KEPT_BYTES` a thread.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.unused: list[Workspace] = []

    @contextmanager
    def workspace(self, size: tuple[int, ...]) -> Iterator[Workspace]:
        """Return one of a size, for one thread alone for as long as the context lasts."""
        with self.lock:
            fit = [n for n, workspace in enumerate(self.unused) if workspace.size == size]
            workspace = self.unused.pop(fit[-1]) if fit else None
        workspace = workspace or Workspace(*size)
        yield workspace  # one that an error has left half used does not come back
        with self.lock:
            self.unused.append(workspace)
            while sum(w.bytes for w in self.unused) > KEPT_BYTES * torch.get_num_threads():
                self.unused.pop(0)


_pool = _Pool()
_process = os.getpid()
if hasattr(os, "register_at_fork"):  # a lock may be held in the moment of a fork
    os.register_at_fork(after_in_child=_pool.__init__)


def _ring(rows: int, *shape: int) -> np.ndarray:
    """Return float32 zeros for at least so many rows, a power of two of them, that begin on the
    boundary of a vector."""
    shape = 1 << (rows - 1).bit_length(), *shape
    size = math.prod(shape)
    values = np.zeros(size + LANES, np.float32)
    first = -values.ctypes.data // values.itemsize % LANES
    return values[first : first + size].reshape(shape)


def _run_in_threads(function: Callable[[Iterator[int]], None], batch: int) -> None:
    """Call `function` in each thread PyTorch may use; together they go through range(batch).

    Raises:
        the first error of a thread.
    """
    threads = min(batch, torch.get_num_threads())
    images = iter(range(batch))  # each image goes to the first thread that is free
    errors = []

    def some(_=None) -> None:
        try:
            function(images)
        except BaseException as error:
            errors.append(error)

    if threads == 1:
        some()
    elif threads > 1 and _openmp() is not None and os.getpid() == _process:
        _openmp().GOMP_parallel(_CALLBACK(some), None, threads, 0)
    elif threads > 1:  # also in a forked process, where OpenMP's threads are gone
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(some, range(threads)))
    if errors:
        raise errors[0]


_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def _openmp() -> ctypes.CDLL | None:
    """Return the GNU OpenMP library that PyTorch brings and uses, None where it does not.

    Its threads wait for work in a busy loop for some milliseconds after each operation: threads
    beside them would have half a core each, and a propagation takes no longer than that.
    """
    for path in (Path(torch.__file__).parent / "lib").glob("libgomp*"):
        library = ctypes.CDLL(str(path))
        if hasattr(library, "GOMP_parallel"):
            return library
    return None
