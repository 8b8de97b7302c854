"""How many images a second two cores complete, and what each way costs in accuracy.

    python -m benchmarks.realtime --set rooms=data/sample_rooms --resume A --resume B

Batch 1 at 228x304. Float32 and bfloat16 as `model(rgbd)` runs them, float32 with weights laid out
anew at every call, and INT8 by ONNX Runtime (`models.int8`), calibrated on frames of the first
set's training part. `relative` is the RMSE over float32's; `peak_share` is how much of the
arithmetic that a float32 matrix product reaches here the network's convolutions do.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.any_density import open_set
from benchmarks.timing import medians, write_results
from dataloaders import DATA_SETS
from dataloaders.sampling import Measurements, measure
from dataloaders.transforms import encode_rgb
from engine.checkpoint import find_checkpoint, load_checkpoint, load_network, shipped_network
from engine.cli import run_script
from engine.config import NetworkConfig, evaluation_settings
from engine.metrics import depth_metrics
from engine.precision import keep_freed_memory
from models import DepthCompletionNet, release_packed
from models.export import export_program, save_onnx
from models.int8 import save_int8
from tools.export import load_export

CPU = torch.device("cpu")
Form = Callable[[Tensor], Tensor]


def main(argv: list[str] | None = None) -> None:
    """Measure and write results/realtime_cpu.csv."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    add = parser.add_argument
    add("--resume", action="append", help="checkpoint; may be given more than once (shipped)")
    add("--set", action="append", required=True, metavar="NAME=ROOT", help="a data root to score")
    add("--frames", type=int, default=24, help="scored of each set (default 24)")
    add("--calibration", type=int, default=32, help="training frames for INT8 (default 32)")
    add("--repeats", type=int, default=20, help="images of each in a turn (default 20)")
    args = parser.parse_args(argv)
    keep_freed_memory()
    rows = []
    for path in args.resume or [shipped_network()]:
        rows += network_rows(Path(path), args)
    write_results("realtime", CPU, rows)


def network_rows(path: Path, args: argparse.Namespace) -> list[dict]:
    """Return one row per form of a network."""
    checkpoint = load_checkpoint(find_checkpoint(path))
    settings = NetworkConfig.of(evaluation_settings(checkpoint.args))
    model = load_network(checkpoint, settings, CPU).eval()
    name, _, root = args.set[0].partition("=")
    training = frames(f"{name}=train:{root}", args.calibration, settings.rgb_encoding)
    scored = {
        entry.partition("=")[0]: frames(entry, args.frames, settings.rgb_encoding)
        for entry in args.set
    }
    image = training[0][0]
    made = forms(model, [rgbd for rgbd, _ in training])
    with torch.inference_mode():
        # In turns of many images, as a stream has them.
        timed = {name: lambda form=form: form(image) for name, form in made.items()}
        seconds = medians(timed, CPU, 3, run=args.repeats)
        errors = {
            form: {name: rmse(run, pairs) for name, pairs in scored.items()}
            for form, run in made.items()
        }
    gflop = gigaflops(model, image)
    peak = peak_gigaflops()
    rows = []
    for form, value in seconds.items():
        row = {"network": path.name, "arch": settings.arch, "form": form, "ms": 1000 * value}
        row |= {"images_per_s": 1 / value, "gflop": gflop, "peak_share": gflop / value / peak}
        for name, error in errors[form].items():
            row |= {f"RMSE_{name}": error, f"relative_{name}": error / errors["float32"][name]}
        rows.append(row)
    return rows


def forms(model: DepthCompletionNet, calibration: list[Tensor]) -> dict[str, Form]:
    """Return the ways to run a network, by name."""

    def unpacked(rgbd: Tensor) -> Tensor:
        release_packed(model)
        return model(rgbd)

    def bfloat16(rgbd: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model(rgbd)

    with tempfile.TemporaryDirectory() as folder:
        onnx, int8 = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        save_onnx(export_program(model), onnx, {})
        save_int8(onnx, int8, calibration)
        return {
            "float32, laid out at every call": unpacked,
            "float32": model,
            "bf16": bfloat16,
            "ONNX Runtime, float32": load_export(onnx),
            "ONNX Runtime, INT8": load_export(int8),
        }


def frames(entry: str, count: int, encoding: str) -> list[tuple[Tensor, Tensor]]:
    """Return evenly spread frames of a `--set`: rgbd (1, 4, H, W) with 500 measurements, and depth
    (1, 1, H, W) in metres."""
    dataset = open_set(entry)[1]
    size = DATA_SETS["nyudepth"].crop_size
    found = []
    for index in np.linspace(0, len(dataset) - 1, min(count, len(dataset)), dtype=int):
        frame = dataset.load(int(index), 0)
        rgb, depth = frame["rgb"], frame["depth"]
        assert depth.shape == size, f"frames of {size} are expected, got {depth.shape}"
        rng = np.random.default_rng(int(index))
        sparse_depth = measure(rgb, depth, Measurements("exact", 500), rng)
        rgbd = np.concatenate((encode_rgb(rgb, encoding), sparse_depth[None]))
        found.append((torch.from_numpy(rgbd)[None], torch.from_numpy(depth)[None, None]))
    return found


def rmse(run: Form, pairs: list[tuple[Tensor, Tensor]]) -> float:
    """Return the mean RMSE over frames in metres."""
    values = [depth_metrics(run(rgbd), depth)["RMSE"].item() for rgbd, depth in pairs]
    return float(np.mean(values))


def gigaflops(model: DepthCompletionNet, rgbd: Tensor) -> float:
    """Return 1e-9 times the additions and multiplications of the convolutions for one image."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(rgbd)
    return counter.get_total_flops() / 1e9


def peak_gigaflops(size: int = 2048) -> float:
    """Return the arithmetic per second of a float32 matrix product on the cores PyTorch uses."""
    a = torch.rand(size, size)
    seconds = medians({"product": lambda: a @ a}, CPU, 5)["product"]
    return 2 * size**3 / seconds / 1e9


if __name__ == "__main__":
    run_script(main)
