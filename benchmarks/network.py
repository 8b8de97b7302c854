"""Inference time of the whole network, this project against the plain formulation.

    python -m benchmarks.network --arch resnet50 --batch 1

On a CPU the convolutions' weights are packed at the first call (`models.packing`).
"""

import argparse
import copy

import torch

from benchmarks.plain import PlainNetwork
from benchmarks.timing import add_device_options, chosen_device, medians, write_results
from models import build_model, convert_released_state_dict


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    add_device_options(parser)
    parser.add_argument("--arch", default="resnet50", help="resnet18 or resnet50 (default)")
    parser.add_argument("--batch", type=int, default=1, help="images (default 1)")
    parser.add_argument("--size", type=int, nargs=2, default=(228, 304), help="height width")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each (default 5)")
    args = parser.parse_args(argv)
    device = chosen_device(args)

    torch.manual_seed(0)
    plain = PlainNetwork(args.arch).to(device).eval()
    ours = build_model(args.arch).to(device).eval()
    ours.load_state_dict(convert_released_state_dict(plain.state_dict()))
    channels_last = copy.deepcopy(ours).to(memory_format=torch.channels_last)
    rgbd = torch.rand(args.batch, 4, *args.size, device=device)
    rgbd[:, 3] *= 5 * (torch.rand(args.batch, *args.size, device=device) < 0.007)

    @torch.inference_mode()
    def run(model, bf16=False):
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return model(rgbd)

    difference = (run(plain) - run(ours)).abs().max().item()
    assert difference < 1e-4, f"the networks differ by {difference} m"
    forms = {
        "plain, float32": lambda: run(plain),
        "this project, float32": lambda: run(ours),
        "this project, float32, channels last": lambda: run(channels_last),
        "this project, bf16": lambda: run(ours, bf16=True),
        "this project, bf16, channels last": lambda: run(channels_last, bf16=True),
    }
    if device.type == "cuda":
        compiled = copy.deepcopy(channels_last)
        compiled.compile()
        name = "this project, bf16, channels last, compiled"
        forms[name] = lambda: run(compiled, bf16=True)
    seconds = medians(forms, device, args.repeats)
    size = f"{args.size[0]}x{args.size[1]}"
    rows = [
        {
            "form": name,
            "arch": args.arch,
            "batch": args.batch,
            "size": size,
            "ms": 1000 * value,
            "times_faster": seconds["plain, float32"] / value,
        }
        for name, value in seconds.items()
    ]
    write_results("network", device, rows)


if __name__ == "__main__":
    main()
