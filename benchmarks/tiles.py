"""How fast the Triton kernels are by the size of their tiles and the steps of a launch, on a GPU.

    python -m benchmarks.tiles

24 steps on 8 x 228 x 304, replayed from a CUDA graph, so that launching costs nothing; beside the
time that reading guidance, coarse and sparse depth and writing the result once would take at the
speed of a copy on the same GPU. Every form must give the bits of the first one.
"""

import argparse
import sys
from collections.abc import Callable

import torch

from benchmarks.propagation import PUBLISHED, inputs
from benchmarks.timing import write_results
from cspn.backends import Inputs, triton_gpu

# Weights held by a program, its warps in _prepare and _finish (twice as many in _advance), steps.
FORMS = [(v, w, 1) for v in (16384, 8192, 4096, 2048) for w in (4, 2, 1)]
FORMS += [(8192, 2, steps) for steps in (2, 3, 4)] + [(16384, 4, steps) for steps in (2, 4)]
REPLAYS = 50
COPIED = 2**30  # bytes


def main(argv: list[str] | None = None) -> None:
    """Time every form and write the table."""
    argparse.ArgumentParser(description=__doc__.split("\n\n")[0]).parse_args(argv)
    if not torch.cuda.is_available():
        sys.exit("error: PyTorch sees no GPU here")
    device = torch.device("cuda")
    batch, height, width, steps = PUBLISHED
    guidance, coarse, sparse = inputs(batch, height, width, device)
    given = Inputs(guidance, coarse, sparse, steps, "8sum", "coarse")
    cotangent = torch.randn_like(coarse)
    source = torch.empty(COPIED, dtype=torch.uint8, device=device)
    bytes_a_second = 2 * COPIED / seconds(source.clone)
    once = sum(t.numel() for t in (guidance, coarse, sparse, coarse)) * 4 / bytes_a_second
    rows, first = [], None
    for values, warps, together in FORMS:
        found = run_form(given, cotangent, values, warps, together)
        first = first or found
        assert all(torch.equal(a, b) for a, b in zip(found, first, strict=True)), (values, warps)
        forward = seconds(lambda: triton_gpu.forward(given))
        backward = seconds(lambda: triton_gpu.backward(cotangent, given))
        row = {"values": values, "warps": warps, "steps_per_launch": together}
        row |= {"forward_us": 1e6 * forward, "backward_us": 1e6 * backward}
        rows.append(row | {"times_one_pass": forward / once})
    write_results("propagation_tiles", device, rows)


def run_form(
    given: Inputs, cotangent: torch.Tensor, values: int, warps: int, together: int
) -> tuple[torch.Tensor, ...]:
    """Set the kernels' tiles; return refined depth and both gradients."""
    triton_gpu.VALUES, triton_gpu.WARPS = values, warps
    triton_gpu.STEPS_PER_LAUNCH = together
    return triton_gpu.forward(given), *triton_gpu.backward(cotangent, given)


def seconds(function: Callable[[], object]) -> float:
    """Return the seconds of a call on the GPU, the mean of `REPLAYS` of its graph."""
    function()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    graph.replay()
    start.record()
    for _ in range(REPLAYS):
        graph.replay()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / REPLAYS / 1000


if __name__ == "__main__":
    main()
