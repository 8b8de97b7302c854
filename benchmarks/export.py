"""Exported files beside the network they came from: size, difference and time on the CPU.

python -m benchmarks.export        # ResNet-18 and ResNet-50, two minutes on two cores

Weights are random: they do not change the time.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.timing import medians, write_results
from models import ARCHITECTURES, build_model
from models.export import export_program, save_onnx, save_program
from tools.export import example, load_export

CPU = torch.device("cpu")
FORMS = {"ONNX Runtime": ("model.onnx", save_onnx), "torch.export": ("model.pt2", save_program)}


def build_parser() -> argparse.ArgumentParser:
    """Every flag of this script."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--size", type=int, nargs=2, default=(228, 304), help="height width")
    parser.add_argument("--repeats", type=int, default=10, help="timed runs of each (default 10)")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    rows = []
    for arch in ARCHITECTURES:
        rows += measure(arch, tuple(args.size), args.repeats)
    write_results("export", CPU, rows)


@torch.no_grad()
def measure(arch: str, size: tuple[int, int], repeats: int) -> list[dict]:
    """A row a form of one network."""
    torch.manual_seed(0)
    model = build_model(arch)
    model.train()(torch.rand(2, 4, 64, 96))  # statistics that keep the depth in metres
    model.eval()
    rgbd = example(*size)
    expected = model(rgbd)

    program = export_program(model)
    functions = {"PyTorch": model}
    megabytes = {}
    with tempfile.TemporaryDirectory() as folder:
        for form, (name, save) in FORMS.items():
            path = Path(folder) / name
            save(program, path, {})
            megabytes[form] = path.stat().st_size / 1e6
            functions[form] = load_export(path)
    seconds = medians({f: lambda run=run: run(rgbd) for f, run in functions.items()}, CPU, repeats)
    return [
        {
            "form": form,
            "arch": arch,
            "batch": 1,
            "size": f"{size[0]}x{size[1]}",
            "file_MB": f"{megabytes[form]:.1f}" if form in megabytes else "",
            "relative": f"{((run(rgbd) - expected).abs().max() / expected.max()).item():.1g}",
            "ms": 1000 * seconds[form],
            "times_faster": seconds["PyTorch"] / seconds[form],
        }
        for form, run in functions.items()
    ]


if __name__ == "__main__":
    main()
