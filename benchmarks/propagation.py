"""Time and memory of the propagation alone.

python -m benchmarks.propagation                     # the published shape
python -m benchmarks.propagation --scaling           # over batch, image size and steps
"""

import argparse

import torch

from benchmarks.plain import propagate_plain
from benchmarks.timing import (
    add_device_options,
    chosen_device,
    medians,
    saved_bytes,
    write_results,
)
from cspn import propagate
from models.spn import propagate_spn

PUBLISHED = (8, 228, 304, 24)  # batch, height, width, steps


def inputs(batch: int, height: int, width: int, device: torch.device) -> list[torch.Tensor]:
    """Random guidance and coarse depth, and 0.7 % measured pixels."""
    generator = torch.Generator().manual_seed(0)
    guidance = torch.randn(batch, 8, height, width, generator=generator)
    coarse = torch.rand(batch, 1, height, width, generator=generator) * 5
    sparse = coarse * (torch.rand(coarse.shape, generator=generator) < 0.007)
    return [tensor.to(device) for tensor in (guidance, coarse, sparse)]


def measure(shape: tuple[int, int, int, int], device: torch.device, repeats: int) -> list[dict]:
    """Rows for inference and for forward + backward of one shape."""
    batch, height, width, steps = shape
    guidance, coarse, sparse = inputs(batch, height, width, device)
    guidance.requires_grad_()
    coarse.requires_grad_()
    forms = {
        "plain": lambda: propagate_plain(guidance, coarse, sparse, steps),
        "reference": lambda: propagate(guidance, coarse, sparse, steps=steps, impl="reference"),
        "fast": lambda: propagate(guidance, coarse, sparse, steps=steps),
    }
    outputs = {name: form().detach() for name, form in forms.items()}
    # The paper's comparison: the scan-line propagation that CSPN replaces, with 12 gates a pixel.
    gates = torch.cat((guidance, guidance[:, :4]), dim=1).detach().requires_grad_()
    forms["SPN instead"] = lambda: propagate_spn(gates, coarse, sparse)
    worst = max((outputs["fast"] - other).abs().max().item() for other in outputs.values())
    assert worst < 1e-4, f"the forms differ by {worst} m"

    cotangent = torch.randn(coarse.shape, device=device)

    def inference(form):
        with torch.no_grad():
            form()

    def training(form):
        guidance.grad = coarse.grad = gates.grad = None
        form().backward(cotangent)

    rows = []
    for what, run in (("inference", inference), ("forward + backward", training)):
        seconds = medians(
            {name: (lambda run=run, form=form: run(form)) for name, form in forms.items()},
            device,
            repeats,
            run=5,
        )
        for name, value in seconds.items():
            given = [guidance, gates, coarse, sparse]
            kept = saved_bytes(forms[name], given) if run is training else 0
            rows.append(
                {
                    "what": what,
                    "form": name,
                    "batch": batch,
                    "size": f"{height}x{width}",
                    "steps": steps,
                    "ms": 1000 * value,
                    "times_faster": seconds["plain"] / value,
                    "kept_for_backward_MB": kept / 1e6,
                }
            )
    return rows


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    add_device_options(parser)
    parser.add_argument("--repeats", type=int, default=7, help="turns of five runs (default 7)")
    parser.add_argument("--scaling", action="store_true", help="over batch, size and steps")
    args = parser.parse_args(argv)
    device = chosen_device(args)
    shapes = [PUBLISHED]
    if args.scaling:
        _, height, width, steps = PUBLISHED
        shapes = [(b, height, width, steps) for b in (1, 2, 4, 8)]
        shapes += [(2, height * k // 2, width * k // 2, steps) for k in (1, 3, 4)]
        shapes += [(2, height, width, t) for t in (6, 12, 48)]
    rows = [row for shape in shapes for row in measure(shape, device, args.repeats)]
    write_results("propagation_scaling" if args.scaling else "propagation", device, rows)


if __name__ == "__main__":
    main()
