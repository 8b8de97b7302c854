"""Time and memory of a training step, this project against the plain formulation.

python -m benchmarks.training --arch resnet50 --batch 2
python -m benchmarks.training --memory --batch 8     # peak memory, each in its own process
"""

import argparse

import torch
from torch import nn

from benchmarks.plain import PlainNetwork
from benchmarks.timing import (
    add_device_options,
    chosen_device,
    in_new_process,
    medians,
    peak_memory,
    reset_peak_memory,
    write_results,
)
from engine.metrics import depth_loss
from engine.schedule import build_optimizer
from models import build_model

FORMS = (
    "plain, float32",
    "this project, float32",
    "this project, float32, channels last",
    "this project, bf16",
)
ON_A_GPU = ("this project, bf16, channels last, compiled",)
GIVES_BACK = ", --give_back_memory"


class Step:
    """One optimiser step on a fixed random batch."""

    def __init__(self, form: str, arch: str, batch: int, size: tuple[int, int], device: str):
        torch.manual_seed(0)
        self.device = torch.device(device)
        self.bf16 = "bf16" in form
        self.keeps_gradients = form.startswith("plain")
        network: nn.Module = PlainNetwork(arch) if form.startswith("plain") else build_model(arch)
        layout = torch.channels_last if "channels last" in form else torch.contiguous_format
        self.network = network.to(self.device, memory_format=layout)
        if form.endswith("compiled"):
            self.network.compile()
        settings = {"lr": 1e-4, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": True}
        if form.startswith("plain"):
            self.optimizer = torch.optim.SGD(network.parameters(), **settings)
        else:
            self.optimizer = build_optimizer(network, **settings)
        self.set_batch(batch, size)

    def set_batch(self, batch: int, size: tuple[int, int]) -> None:
        """Draw another batch."""
        self.rgbd = torch.rand(batch, 4, *size, device=self.device)
        self.rgbd[:, 3] *= 5 * (torch.rand(batch, *size, device=self.device) < 0.007)
        self.depth = torch.rand(batch, 1, *size, device=self.device) * 5 + 0.5

    def __call__(self) -> None:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            pred = self.network(self.rgbd)
        loss = depth_loss(pred, self.depth)
        if self.keeps_gradients:  # PyTorch 0.4 sets them to zero in place
            self.optimizer.zero_grad(set_to_none=False)
        loss.backward()
        self.optimizer.step()
        if not self.keeps_gradients:  # as train.py does: gone before the next forward pass
            self.optimizer.zero_grad(set_to_none=True)


def step_memory(form: str, args: argparse.Namespace) -> int:
    """Peak bytes of a step beyond parameters, gradients and optimiser state. On a CPU it counts
    what this process has grown by since it was started, memory it keeps included."""
    args.give_back_memory |= form.startswith("plain") or form.endswith(GIVES_BACK)
    device = chosen_device(args)
    form = form.removesuffix(GIVES_BACK)
    before = 0 if device.type == "cuda" else reset_peak_memory()
    step = Step(form, args.arch, args.batch, tuple(args.size), args.device)
    state = 3 * sum(parameter.nbytes for parameter in step.network.parameters())
    step()  # gradients and momentum exist from here on
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) - state
    reset_peak_memory()
    step()
    return peak_memory() - before - state


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    add_device_options(parser)
    parser.add_argument("--arch", default="resnet50", help="resnet18 or resnet50 (default)")
    parser.add_argument("--batch", type=int, default=2, help="images (default 2)")
    parser.add_argument("--size", type=int, nargs=2, default=(228, 304), help="height width")
    parser.add_argument("--repeats", type=int, default=3, help="timed steps of each (default 3)")
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead")
    parser.add_argument("--memory_of", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.memory_of:
        print(step_memory(args.memory_of, args))
        return
    device = chosen_device(args)
    size = f"{args.size[0]}x{args.size[1]}"
    forms = FORMS + ON_A_GPU if device.type == "cuda" else FORMS
    if args.memory:
        if device.type == "cpu":
            forms += tuple(form + GIVES_BACK for form in FORMS[1:])
        common = ["--device", args.device, "--arch", args.arch, "--batch", args.batch]
        common += ["--size", *args.size]
        values = {
            form: int(in_new_process("benchmarks.training", *common, "--memory_of", form))
            for form in forms
        }
        unit, scale = "peak_MB", 1e-6
    else:
        steps = {
            form: Step(form, args.arch, args.batch, tuple(args.size), args.device) for form in forms
        }
        values = medians(steps, device, args.repeats)
        unit, scale = "ms", 1e3
    plain = values[FORMS[0]]
    rows = [
        {
            "form": form,
            "arch": args.arch,
            "batch": args.batch,
            "size": size,
            unit: value * scale,
            "ratio": plain / value,
        }
        for form, value in values.items()
    ]
    name = "training_memory" if args.memory else "training"
    write_results(f"{name}_given_back" if args.give_back_memory else name, device, rows)


if __name__ == "__main__":
    main()
