"""Evaluate a checkpoint, ours or the authors', beside interpolation of the same samples.

    bash eval_nyudepth_cspn.sh                                  # the published protocol
    python eval.py --resume output/my_run/best_model.pth
    python eval.py --resume output/my_run --repeat 5            # mean and deviation over 5 draws
    python eval.py --resume output/my_run --export-released released.pth
    torchrun --nproc_per_node=4 eval.py ...                     # the same scores from four GPUs

Network and data settings are read from the checkpoint; any flag given here overrides its own.
Writes to --save_dir: eval.csv (per image, then the mean), summary.csv (per method), pictures/
(result strips, 16-bit depth in millimetres, the affinity's influence maps) and evaluation.json
(what was scored). A run folder also gets report.html, all of it on one page.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd
import torch
from torch import nn

from dataloaders import DepthDataset, make_loader
from engine import config, distributed, flags
from engine.baselines import BASELINES, Interpolation
from engine.checkpoint import (
    Checkpoint,
    describe,
    find_checkpoint,
    load_checkpoint,
    load_network,
    save_released,
    shipped_network,
)
from engine.cli import run_script
from engine.data import build_dataset, build_held_out_set
from engine.evaluation import count_frames, evaluate, write_scores
from engine.flags import count, given_flags, of_call
from engine.precision import prepare, prepare_device
from engine.resume import frames_record
from engine.run_folder import check_no_run, format_table
from visualize.evaluation_pictures import PictureWriter
from visualize.report import write_record, write_report

EXTREMES = 3  # best and worst images to draw, each
SHOWN = ["RMSE", "MAE", "ABS_REL", "DELTA1.02", "DELTA1.05", "DELTA1.10", "DELTA1.25"]


@dataclass
class EvalConfig(config.NetworkConfig, config.SpeedConfig, config.RunConfig):
    """Every flag of this script."""

    TITLE: ClassVar[str] = "evaluation"

    eval_split: str = of_call(
        "val",
        "the val split, or the training scenes that --holdout set aside in the checkpoint's run",
        choices=("val", "held_out"),
    )
    repeat: int = of_call(1, "sampling seeds to average over", type=count, published="5")
    pictures: int = of_call(
        16, "first images to draw, -1 for all; then the best and the worst", type=int
    )
    baselines: bool = of_call(True, "score nearest and linear interpolation too")
    export_released: str | None = of_call(
        None,
        "write the weights under the release's names, as PyTorch 0.4 reads them, and score nothing",
        short=("--export-released",),
        metavar="FILE",
    )


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of this script's flags."""
    return flags.build_parser(__doc__.split("\n\n")[0], EvalConfig)


def main(argv: list[str] | None = None) -> None:
    """Evaluate with the flags of the command line."""
    given = given_flags(build_parser(), argv)
    if "resume" not in given and "best_model_dir" not in given:
        shipped = shipped_network()
        given = {"save_dir": f"output/{shipped.name}"} | given | {"resume": str(shipped)}
    resumed = EvalConfig.of(given).resume_path(Path("output"))
    checkpoint = load_checkpoint(find_checkpoint(resumed))
    args = EvalConfig.of(config.evaluation_settings(checkpoint.args), given)
    with distributed.joined(config.resolve_device(args.device), args.dist_timeout) as device:
        prepare_device(device, give_back_memory=args.give_back_memory)
        model = load_network(checkpoint, args, device)
        if distributed.is_main():
            print(describe(checkpoint, args))
            if args.export_released:
                out = Path(args.export_released)
                written = save_released(out, model)
                print(f"wrote {written} tensors under the release's names to {out}")
        if not args.export_released:
            save_dir = Path(args.save_dir or checkpoint.path.parent / "eval_result")
            check_no_run(save_dir)
            score(model, checkpoint, args, device, save_dir)
            if distributed.is_main() and resumed.is_dir():
                # Scores written elsewhere get their page there; the run's own shows its own.
                page = save_dir / "report.html" if args.save_dir else None
                print(f"report: {write_report(resumed, eval_dir=save_dir, out=page)}")


def score(
    model: nn.Module, checkpoint: Checkpoint, args: EvalConfig, device: torch.device, save_dir: Path
) -> None:
    """Score the network and the baselines on the same samples; write and print the tables."""
    (save_dir / "pictures").mkdir(parents=True, exist_ok=True)
    prepare(model, channels_last=args.channels_last, compile_model=args.compile)
    methods: dict[str, nn.Module] = {args.model: model}
    if args.baselines:
        methods |= {name: Interpolation(name) for name in BASELINES}
    part = {"rank": distributed.rank(), "world_size": distributed.world_size()}

    # Every method sees the same samples; draw r of image i depends on (seed + r, i) alone.
    tables: list[pd.DataFrame] = []
    drawn: dict[int, str] = {}
    for seed in range(args.seed, args.seed + args.repeat):
        if args.eval_split == "held_out":
            dataset = build_held_out_set(args, checkpoint.args.get("holdout"), seed=seed)
        else:
            dataset = build_dataset(args, "val", seed=seed)
        if seed == args.seed:
            check_processes_agree(checkpoint, dataset, args)
        loader = make_loader(dataset, args.batch_size_eval, num_workers=args.num_workers, **part)
        wanted = len(dataset) if args.pictures < 0 else args.pictures
        for name, method in methods.items():
            draws = name == args.model and seed == args.seed and wanted > 0
            draw = PictureWriter(model, save_dir / "pictures", range(wanted)) if draws else None
            label = f"{name}, seed {seed}"
            rows = evaluate(method, loader, device, amp=args.amp, on_batch=draw, label=label)
            tables.append(pd.DataFrame(rows).assign(method=name, seed=seed))
            if draw:
                drawn = draw.draw_extremes(dataset, rows, device, args.amp, min(wanted, EXTREMES))
    if not distributed.is_main():
        return

    scores = pd.concat(tables)
    summary = write_scores(save_dir, scores, args.model)
    write_record(save_dir, args.to_dict(), dataset, checkpoint, drawn)
    draws = f"{args.repeat} draw{'s' * (args.repeat > 1)}"
    counted = count_frames(scores[scores["method"] == args.model], dataset)
    print(f"\n{counted}, {args.n_sample} samples, mean of {draws}")
    shown = summary[[*SHOWN, "RMSE_std"] if args.repeat > 1 else SHOWN]
    print(format_table(shown.reset_index().to_dict("records")))
    print(f"\nwritten to {save_dir}: eval.csv, summary.csv, pictures/")


def check_processes_agree(checkpoint: Checkpoint, dataset: DepthDataset, args: EvalConfig) -> None:
    """Raise OptionError unless every process scores the same weights on the same frames."""
    weights = sum(tensor.double().sum().item() for tensor in checkpoint.model.values())
    found = {"weights that sum to": weights, "frames": frames_record(dataset)}
    found |= {
        f"--{name}": getattr(args, name) for name in ("repeat", "seed", "n_sample", "sampler")
    }
    distributed.check_equal(found, "give every machine the same checkpoint, frames and flags")


if __name__ == "__main__":
    run_script(main, lower="try a smaller --batch_size_eval or --num_workers", processes=True)
