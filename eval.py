"""Evaluate a checkpoint, ours or the authors', beside interpolation of the same samples.

    bash eval_nyudepth_cspn.sh                                  # the published protocol
    python eval.py --resume output/my_run/best_model.pth
    python eval.py --resume output/my_run --repeat 5            # mean and deviation over 5 draws
    python eval.py --resume output/my_run --export-released released.pth

Network and data settings are read from the checkpoint; any flag given here overrides its own.
Writes to --save_dir: eval.csv (a row an image, then the mean), summary.csv (a row a method) and
pictures/ (result strips, 16-bit depth in millimetres, where the propagation listens), and
evaluation.json (what was scored). A run folder also gets report.html, all of it on one page.
"""

import argparse
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from dataloaders import make_loader
from engine import config, flags
from engine.baselines import BASELINES, Interpolation
from engine.checkpoint import (
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
    save_file,
)
from engine.cli import run_script
from engine.evaluation import evaluate, mean_scores
from engine.flags import OptionError, count, given_flags, of_call
from engine.metrics import METRICS
from engine.precision import keep_freed_memory, prepare, use_exact_float32
from engine.run_folder import format_table, write_table
from inference.predictor import load_network
from models import export_released_state_dict
from visualize.evaluation_pictures import Illustrator
from visualize.report import write_record, write_report

EXTREMES = 3  # best and worst images to draw, each
SHOWN = ("RMSE", "MAE", "ABS_REL", "DELTA1.02", "DELTA1.05", "DELTA1.10", "DELTA1.25")


@dataclass
class EvalConfig(config.NetworkConfig, config.SpeedConfig, config.RunConfig):
    """Every flag of this script."""

    TITLE: ClassVar[str] = "evaluation"

    repeat: int = of_call(1, "sampling seeds to average over", type=count, published="5")
    pictures: int = of_call(
        16,
        "first images to draw, -1 for all; then the best and the worst",
        unit="images",
        type=int,
    )
    baselines: bool = of_call(True, "score nearest and linear interpolation too")
    export_released: str | None = of_call(
        None,
        "write the weights under the release's names instead of evaluating",
        short=("--export-released",),
        metavar="FILE",
    )


def build_parser() -> argparse.ArgumentParser:
    """Every flag of this script."""
    return flags.build_parser(__doc__.split("\n\n")[0], EvalConfig)


def main(argv: list[str] | None = None) -> None:
    given = given_flags(build_parser(), argv)
    if "resume" not in given and "best_model_dir" not in given:
        raise OptionError("name a checkpoint: --resume CHECKPOINT (a file or a run folder)")
    resumed = EvalConfig.of(given).resume_path(Path("output"))
    checkpoint = load_checkpoint(find_checkpoint(resumed))
    args = EvalConfig.of(config.evaluation_settings(checkpoint.args), given)
    device = config.resolve_device(args.device)
    torch.backends.cudnn.benchmark = True
    use_exact_float32()
    if device.type == "cpu" and not args.give_back_memory:
        keep_freed_memory()

    model = load_network(checkpoint, args, device)
    describe(checkpoint, args)
    if args.export_released:
        export_released(model, Path(args.export_released))
        return

    save_dir = Path(args.save_dir or checkpoint.path.parent / "eval_result")
    (save_dir / "pictures").mkdir(parents=True, exist_ok=True)
    prepare(model, channels_last=args.channels_last, compile_model=args.compile)
    network = args.model
    methods: dict[str, nn.Module] = {network: model}
    if args.baselines:
        methods |= {name: Interpolation(name) for name in BASELINES}

    # Every method sees the same samples; draw r of image i depends on (seed + r, i) alone.
    means: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    rows: list[dict] = []
    drawn: dict[int, str] = {}
    for repeat in range(args.repeat):
        seed = args.seed + repeat
        dataset = config.build_dataset(args, "val", seed=seed)
        loader = make_loader(dataset, args.batch_size_eval, num_workers=args.num_workers)
        wanted = len(dataset) if args.pictures < 0 else args.pictures
        for name, method in methods.items():
            draws = name == network and repeat == 0 and wanted > 0
            draw = Illustrator(model, save_dir / "pictures", range(wanted)) if draws else None
            label = f"{name}, seed {seed}"
            scored = evaluate(method, loader, device, amp=args.amp, on_batch=draw, label=label)
            means[name].append(mean_scores(scored))
            if name == network:
                rows += [{"seed": seed, **row} for row in scored]
            if draw:
                draw.draw_extremes(dataset, scored, device, args.amp, min(wanted, EXTREMES))
                drawn = draw.drawn

    summary = [{"method": name, **average(of_repeats)} for name, of_repeats in means.items()]
    rows.append({"seed": "all", "name": "mean"} | {m: summary[0][m] for m in METRICS})
    write_table(save_dir / "eval.csv", rows)
    write_table(save_dir / "summary.csv", summary)
    write_record(save_dir, args.to_dict(), dataset, checkpoint, drawn)

    frames = f"{len(dataset)} frames of {dataset.root}, {args.n_sample} samples"
    print(f"\n{frames}, mean of {args.repeat} draw{'s' if args.repeat > 1 else ''}")
    shown = [("method", *SHOWN)] if args.repeat == 1 else [("method", *SHOWN, "RMSE_std")]
    print(format_table([{column: row[column] for column in shown[0]} for row in summary]))
    print(f"\nwritten to {save_dir}: eval.csv, summary.csv, pictures/")
    if resumed.is_dir():
        # Scores written elsewhere get their page there: the run's own shows its own evaluation.
        page = save_dir / "report.html" if args.save_dir else None
        print(f"report: {write_report(resumed, eval_dir=save_dir, out=page)}")


def export_released(model: nn.Module, path: Path) -> None:
    """Write a bare state dict as the release's own code stores it, without its dead layers."""
    try:
        state = export_released_state_dict(model.state_dict())
    except ValueError as error:
        raise OptionError(str(error)) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(path, state)
    print(f"wrote {len(state)} tensors under the release's names to {path}")


def average(of_repeats: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each metric over the repeats and, as `<metric>_std`, their deviation."""
    columns = {m: [scores[m] for scores in of_repeats] for m in METRICS}
    means = {m: statistics.fmean(values) for m, values in columns.items()}
    spread = {
        f"{m}_std": statistics.stdev(values) if len(values) > 1 else float("nan")
        for m, values in columns.items()
    }
    return means | spread


def describe(checkpoint: Checkpoint, args: EvalConfig) -> None:
    """Say what was found in the file and what will be run."""
    print(f"{checkpoint.path}: {checkpoint.kind} checkpoint, {args.model} {args.arch}", end="")
    print(f", epoch {checkpoint.epoch}" if checkpoint.epoch else "")
    if args.refine == "cspn":
        print(f"propagation: {args.cspn_step} steps, {args.cspn_norm_type}, {args.cspn_anchor}")
    else:
        print(f"propagation: {args.refine}")
    if checkpoint.dropped:
        print(f"dropped {len(checkpoint.dropped)} tensors that the published network never uses:")
        print("  " + ", ".join(checkpoint.dropped))


if __name__ == "__main__":
    run_script(main)
