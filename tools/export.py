"""The command `python -m tools.export`: a checkpoint in, ONNX and PyTorch programs out.

Every file is run beside the network itself, on an image of the published size, before it gets its
name; a file that disagrees is an error.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dataloaders import DATA_SETS
from engine import config
from engine.checkpoint import (
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
    load_network,
    shipped_network,
)
from engine.cli import run_script
from engine.data import build_dataset
from engine.errors import OptionError, RunError
from engine.files import whole_file
from engine.flags import add_flags, command_parser, given_flags
from models.export import (
    ERROR,
    INPUT,
    ONNX_FORMAT,
    OUTPUT,
    ExportError,
    export_program,
    save_onnx,
    save_program,
)
from models.int8 import save_int8
from models.network import MIN_SIZE, DepthCompletionNet

# Largest difference to the network's own output that passes, as a fraction of its largest depth.
TOLERANCE = 1e-4
CALIBRATION = 32  # frames, evenly spread
WRITERS = {".onnx": save_onnx, ".pt2": save_program}
ENCODINGS = {
    "released": "trunc((rgb / 255 - mean) / std * 255) mod 256 / 255",
    "normalized": "(rgb / 255 - mean) / std",
}
CONSTANTS = (
    "in float32, with rgb in 0..255, mean = (0.485, 0.456, 0.406) and std = (0.229, 0.224, 0.225); "
    "mod takes the sign of 256, so that the result is in 0..1"
)


@dataclass
class NetworkFlags(config.ModelConfig, config.PropagationConfig):
    """The flags that override the checkpoint's settings."""


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = command_parser("tools.export", __doc__)
    add = parser.add_argument
    add("--resume", metavar="CHECKPOINT", help="file or run folder (default pretrained/)")
    meaning = f"files to write, of a kind that their ending says: .onnx ({ONNX_FORMAT}) or .pt2"
    add("--out", nargs="+", required=True, metavar="FILE", help=meaning)
    meaning = (
        f"write .onnx files with convolutions in INT8, calibrated on {CALIBRATION} training "
        "frames of this data root; their depth is compared in the mean and need not agree"
    )
    add("--int8", metavar="DATA_ROOT", help=meaning)
    add_flags(parser, NetworkFlags)
    given = given_flags(parser, argv)
    paths = [Path(name) for name in given["out"]]
    for path in paths:
        if path.suffix not in WRITERS:
            raise OptionError(f"--out {path} must end in {' or '.join(WRITERS)}")
        if given.get("int8") and path.suffix != ".onnx":
            raise OptionError(f"--out {path} must end in .onnx, the kind that --int8 writes")
    checkpoint = load_checkpoint(find_checkpoint(Path(given.get("resume") or shipped_network())))
    settings = config.NetworkConfig.of(config.evaluation_settings(checkpoint.args), given)
    model = load_network(checkpoint, settings, torch.device("cpu")).eval()
    metadata = describe(model, checkpoint)
    print(f"{checkpoint.path}: {metadata['network']}; {metadata['propagation']}")
    print(f"input {INPUT}: {metadata[INPUT]}")
    frames = calibration_frames(settings, given["int8"]) if given.get("int8") else []

    rgbd = example(*DATA_SETS[settings.data_set].crop_size).repeat(3, 1, 1, 1)
    rgbd[1, 3], rgbd[2, 3] = 0, 0  # the case of no measurement, and of one
    rgbd[2, 3, 0, 0] = 2
    with torch.no_grad():
        expected = torch.cat([m for m in model(rgbd, with_error=True) if m is not None], dim=1)
    try:
        program = export_program(model, with_error=model.estimates_error)
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as part:
                WRITERS[path.suffix](program, part, metadata)
                compared = "not run: onnxruntime is not installed"
                with contextlib.suppress(ImportError):
                    compared = compare(part, rgbd, expected)
                if frames:
                    count = save_int8(part, part, frames)
                    difference = mean_difference(part, model, frames)
                    compared = f"{count} convolutions in INT8; {difference}"
            form = ONNX_FORMAT if path.suffix == ".onnx" else "torch.export"
            megabytes = path.stat().st_size / 1e6
            print(f"wrote {path}, {form}, {megabytes:.1f} MB; {compared}")
    except ExportError as error:
        raise OptionError(str(error)) from error


def describe(model: DepthCompletionNet, checkpoint: Checkpoint) -> dict[str, str]:
    """Return what a user of the file must know, as plain strings: input, output, origin."""
    encoding = checkpoint.args.get("rgb_encoding", "released")
    propagation, cspn = "none", model.refinement
    if cspn is not None:
        propagation = (
            f"cspn, {cspn.steps} steps, {cspn.kernel_size}x{cspn.kernel_size}, "
            f"norm_type {cspn.norm_type}, anchor {cspn.anchor}"
        )
    outputs = {OUTPUT: "(batch, 1, height, width) float32, metres"}
    if model.estimates_error:
        outputs[ERROR] = "(batch, 1, height, width) float32, expected absolute error in metres"
    return {
        INPUT: (
            f"(batch, 4, height, width) float32, height and width at least {MIN_SIZE}: encoded "
            "red, green and blue, then sparse depth in metres, 0 = no measurement"
        ),
        **outputs,
        "rgb_encoding": f"{encoding}: {ENCODINGS[encoding]} {CONSTANTS}",
        "network": f"{model.arch} UNet",
        "propagation": propagation,
        "checkpoint": f"{checkpoint.path.name}, {checkpoint.kind}, epoch {checkpoint.epoch}",
        "data_set": str(checkpoint.args.get("data_set", "unknown")),
        "n_sample": str(checkpoint.args.get("n_sample", "unknown")),
        "torch": torch.__version__,
    }


def calibration_frames(settings: config.NetworkConfig, data_root: str) -> list[Tensor]:
    """Return training inputs (1, 4, H, W) of a data root, by the checkpoint's settings."""
    dataset = build_dataset(replace(settings, data_root=data_root), "train", seed=0, augment=False)
    count = min(CALIBRATION, len(dataset))
    indices = [i * len(dataset) // count for i in range(count)]
    return [dataset[index]["rgbd"][None] for index in indices]


def mean_difference(path: Path, model: DepthCompletionNet, frames: list[Tensor]) -> str:
    """Run an INT8 file and the network on frames; return in words how far apart they are."""
    run = load_export(path)
    with torch.no_grad():
        differences = [(run(frame)[:, :1] - model(frame)).abs().mean().item() for frame in frames]
    return f"on the mean {np.mean(differences):.2g} m from PyTorch's depth"


def example(height: int, width: int) -> Tensor:
    """Return (1, 4, H, W): noise for colours, and depth of 1..5 metres at about 500 pixels."""
    generator = torch.Generator().manual_seed(0)
    rgbd = torch.rand(1, 4, height, width, generator=generator)
    known = torch.rand(1, height, width, generator=generator) < 500 / (height * width)
    rgbd[:, 3] = torch.where(known, 1 + 4 * rgbd[:, 3], 0.0)
    return rgbd


def compare(path: Path, rgbd: Tensor, expected: Tensor) -> str:
    """Run the written file and return in words how far its depth is from the network's; the same of
    the error where there is one (B, 2, H, W). Raises RunError: further than rounding explains.
    Raises ImportError: onnxruntime is not installed."""
    run = load_export(path)
    with torch.no_grad():
        difference = (run(rgbd) - expected).abs().max().item()
    if not difference <= TOLERANCE * expected.abs().max().item():
        raise RunError(
            f"the {path.suffix} gives depth {difference:g} m off the network's; not kept"
        )
    size = f"{rgbd.shape[2]}x{rgbd.shape[3]}"
    return f"run on {size}: at most {difference:.1g} m from PyTorch's depth"


def load_export(path: Path) -> Callable[[Tensor], Tensor]:
    """Return a written file as a function of a CPU tensor, to depth (B, 1, H, W) or depth and error
    (B, 2, H, W); an ImportError without onnxruntime."""
    if path.suffix == ".pt2":
        network = torch.export.load(path).module()
        return lambda rgbd: m if isinstance(m := network(rgbd), Tensor) else torch.cat(m, dim=1)
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda rgbd: torch.from_numpy(
        np.concatenate(session.run(None, {INPUT: rgbd.numpy()}), axis=1)
    )


if __name__ == "__main__":
    run_script(main)
