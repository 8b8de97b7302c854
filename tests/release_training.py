"""Training steps of the published code, followed step by step with the same weights and batches.

    python -m tests.release_training             # four losses in float64, as they come
    python -m tests.release_training --steps 2   # the first two, half the time

prints the loss of each step as the released code had it and as it is here, and the seconds it took:
PyTorch has no fast float64 convolution on a CPU. In float64 the two agree to 1e-9 or better; in
float32 rounding grows from step to step, in the released code as here. Needs 8 GB of memory.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from golden_weights import GOLDEN, golden_state_dict

from engine.metrics import depth_loss
from engine.schedule import build_optimizer
from models import build_model, convert_released_state_dict


def batch(seed: int, step: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rgbd (2, 4, 228, 304) and depth (2, 1, 228, 304) of a step, by the golden rule."""
    rng = np.random.default_rng([seed, step])

    def coarse(channels: int) -> np.ndarray:
        blocks = rng.random((2, channels, 15, 19), dtype=np.float32)
        return np.kron(blocks, np.ones((16, 16), np.float32))[..., :228, :304]

    def uniform(channels: int) -> np.ndarray:
        return rng.random((2, channels, 228, 304), dtype=np.float32)

    depth = 1 + 4 * coarse(1) + np.float32(0.2) * uniform(1)
    depth[uniform(1) < 0.1] = 0
    rgb = np.float32(0.5) * coarse(3) + np.float32(0.5) * uniform(3)
    sparse_depth = depth * (uniform(1) < 500 / (228 * 304))
    rgbd = np.concatenate((rgb, sparse_depth), axis=1).astype(np.float32)
    return torch.from_numpy(rgbd).to(dtype), torch.from_numpy(depth).to(dtype)


def released_losses(dtype: torch.dtype) -> list[float]:
    """Return the released code's loss [metres] before each of its steps."""
    name = "training_resnet50" + ("_float64" if dtype == torch.float64 else "")
    return json.loads((GOLDEN / f"{name}.json").read_text())["loss"]


def losses(dtype: torch.dtype, steps: int, seed: int = 1) -> Iterator[float]:
    """Yield the loss [metres] before each of `steps` training steps of this project."""
    settings = json.loads((GOLDEN / "training_resnet50.json").read_text())
    model = build_model("resnet50", cspn_norm_type=settings["norm_type"])
    model.load_state_dict(convert_released_state_dict(golden_state_dict("resnet50")))
    model.to(dtype).train()
    optimizer = build_optimizer(
        model, **{key: settings[key] for key in ("lr", "momentum", "weight_decay", "nesterov")}
    )
    for step in range(steps):
        rgbd, depth = batch(seed, step, dtype)
        with torch.set_grad_enabled(step + 1 < steps):  # after the last loss nothing is trained
            loss = depth_loss(model(rgbd), depth)
        yield loss.item()
        if step + 1 < steps:
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()


def main(argv: list[str] | None = None) -> int:
    """Print both losses of every step in float64 as they come; return 1 where they differ."""
    released = released_losses(torch.float64)
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    most = len(released)
    parser.add_argument(
        "--steps", type=int, default=most, choices=range(1, most + 1), help=f"(default {most})"
    )
    steps = parser.parse_args(argv).steps
    print(
        "step  released loss (m)    this project (m)     relative difference  seconds", flush=True
    )
    started, largest = time.perf_counter(), 0.0
    for step, own in enumerate(losses(torch.float64, steps)):
        theirs, seconds = released[step], time.perf_counter() - started
        difference = abs(own / theirs - 1)
        largest = max(largest, difference)
        print(
            f"{step:4}  {theirs:.15f}  {own:.15f}  {difference:19.1e}  {seconds:7.0f}", flush=True
        )
    return int(largest > 1e-9)


if __name__ == "__main__":
    sys.exit(main())
