"""Train a depth-completion network.

    bash train_cspn_nyu.sh                                     # the published NYU recipe
    python train.py --data_root data/nyudepth_hdf5 --save_dir output/my_run --nesterov --pretrain
    python train.py --save_dir output/my_run --resume           # go on where it stopped

Writes to --save_dir: args.json, train.csv and eval.csv (a row an epoch), log.jsonl, last.pth
(everything a run needs to go on), best_model.pth (lowest validation RMSE) and curves.png.
"""

import argparse
import math
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from dataloaders import DepthDataset, make_loader
from engine import options
from engine.bad_frames import SkippedFrames
from engine.checkpoint import (
    Checkpoint,
    find_checkpoint,
    load_checkpoint,
    load_weights,
    random_states,
    save_checkpoint,
    set_random_states,
)
from engine.evaluation import evaluate, mean_scores, to_device
from engine.failure import RunError, run_script
from engine.loss import depth_loss
from engine.metrics import RunningMetrics, depth_metrics
from engine.pictures import save_curves
from engine.precision import autocast, gradient_scaler, prepare
from engine.progress import progress
from engine.run_folder import RunFolder
from engine.schedule import CosineDecay, ReduceOnPlateau, build_schedule
from models import build_model

# How often the progress bar (and the check for a loss gone to NaN) reads the device.
LOG_INTERVAL = 10


def build_parser() -> argparse.ArgumentParser:
    """Every flag of this script."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_data_options(parser)
    options.add_model_options(parser)
    options.add_optimisation_options(parser)
    options.add_speed_options(parser)
    options.add_run_options(parser, "run folder to write (default output/<data>_<arch>_<model>)")
    return parser


@dataclass
class Progress:
    """How far a run is: epochs and steps done, lowest validation RMSE in metres."""

    epoch: int = 0
    step: int = 0
    best_rmse: float = math.inf


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    device = options.resolve_device(args.device)
    torch.manual_seed(args.seed)
    # Convolutions of one size throughout: let cuDNN choose its fastest.
    torch.backends.cudnn.benchmark = True

    # Data.
    train_set, eval_set = options.build_training_sets(args)
    loading = {"num_workers": args.num_workers, "seed": args.seed}
    train_loader = make_loader(train_set, args.batch_size_train, shuffle=True, **loading)
    eval_loader = make_loader(eval_set, args.batch_size_eval, **loading)

    # Model, optimiser, and where the run goes on, if it does.
    save_dir = Path(args.save_dir or f"output/{args.data_set}_{args.arch}_{args.model}")
    checkpoint = find_resumed(args, save_dir)
    model = build_model(
        **options.model_options(args), pretrained=args.pretrain and checkpoint is None
    ).to(device)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=args.lr,
        momentum=args.momentum,
        weight_decay=args.weight_decay,
        nesterov=args.nesterov,
    )
    schedule = build_schedule(args.lr_schedule, optimizer, args.num_epoch)
    scaler = gradient_scaler(args.amp, device)
    done = Progress()
    if checkpoint:
        done = resume(checkpoint, model, optimizer, schedule, scaler)
    prepare(model, channels_last=args.channels_last, compile_model=args.compile)

    folder = RunFolder(save_dir)
    folder.write_args(vars(args))
    for table in ("train", "eval"):
        folder.forget_epochs(table, after=done.epoch)
    folder.log("start", epoch=done.epoch, device=str(device), frames=len(train_set))
    announce(args, model, device, train_set, eval_set, save_dir)

    while done.epoch < args.num_epoch:
        steps_left = len(train_loader)
        if args.max_steps is not None:
            steps_left = min(steps_left, args.max_steps - done.step)
        if steps_left <= 0:
            break
        started = time.perf_counter()
        train_loader.sampler.epoch = done.epoch
        label = f"epoch {done.epoch + 1}/{args.num_epoch}"
        skipped = SkippedFrames(len(train_set))
        train_scores = train_epoch(
            model, train_loader, optimizer, scaler, device, args, label, steps_left, skipped
        )
        if skipped.sentences:
            folder.log("left out", epoch=done.epoch + 1, frames=skipped.sentences)
        seconds = time.perf_counter() - started

        scores = mean_scores(evaluate(model, eval_loader, device, amp=args.amp, label="validation"))
        if not math.isfinite(scores["RMSE"]):
            raise RunError(f"the validation RMSE is {scores['RMSE']} in {label}; nothing was saved")
        lr = optimizer.param_groups[0]["lr"]
        schedule.step(scores["MAE"])

        is_best = scores["RMSE"] < done.best_rmse
        done = Progress(done.epoch + 1, done.step + steps_left, min(done.best_rmse, scores["RMSE"]))
        row = {"epoch": done.epoch, "lr": lr, "is_best": int(is_best)}
        folder.append_row("train", row | train_scores)
        folder.append_row("eval", row | scores)
        save(folder, args, done, scores, is_best, model, optimizer, schedule, scaler)
        folder.log("epoch", epoch=done.epoch, step=done.step, seconds=round(seconds, 1), **scores)
        print(
            f"{label}  lr {lr:g}  loss {train_scores['LOSS']:.4f}  "
            f"validation RMSE {scores['RMSE']:.4f} m  MAE {scores['MAE']:.4f} m  "
            f"REL {scores['ABS_REL']:.4f}  d1.25 {scores['DELTA1.25']:.4f}  "
            f"({seconds:.0f} s)" + ("  best" if is_best else "")
        )
    folder.log("end", best_rmse=done.best_rmse)
    print(f"done: best validation RMSE {done.best_rmse:.4f} m, in {save_dir}")


def announce(
    args: argparse.Namespace,
    model: nn.Module,
    device: torch.device,
    train_set: DepthDataset,
    eval_set: DepthDataset,
    save_dir: Path,
) -> None:
    """Say what is going to be trained, on what, and where it goes."""
    parameters = sum(p.numel() for p in model.parameters())
    print(
        f"{args.model} {args.arch}, {parameters / 1e6:.1f} M parameters, on {device}; "
        f"{len(train_set)} training and {len(eval_set)} validation frames of {train_set.root}; "
        f"run folder {save_dir}"
    )


def find_resumed(args: argparse.Namespace, save_dir: Path) -> Checkpoint | None:
    """The checkpoint to go on from, None to start anew; never over another run's files."""
    last = save_dir / "last.pth"
    if args.resume is None:
        if last.exists():
            raise options.OptionError(
                f"{save_dir} already holds a run; go on with --resume, or choose another --save_dir"
            )
        return None
    if args.resume == "auto" and args.best_model_dir is None and not last.exists():
        return None
    path = options.resume_path(args, save_dir)
    found = find_checkpoint(path, ("last.pth", "best_model.pth"))
    if last.exists() and found.resolve() != last.resolve():
        raise options.OptionError(
            f"{save_dir} already holds another run than {found}; choose another --save_dir"
        )
    return load_checkpoint(found)


def resume(
    checkpoint: Checkpoint,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: ReduceOnPlateau | CosineDecay,
    scaler: torch.amp.GradScaler,
) -> Progress:
    """Put everything a run needs back; weights alone, as published files hold, start at epoch 0."""
    load_weights(model, checkpoint)
    state = checkpoint.training
    if not state:
        print(f"started from the weights of {checkpoint.path} ({checkpoint.kind}) at epoch 0")
        return Progress()
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    if state["scaler"]:
        scaler.load_state_dict(state["scaler"])
    set_random_states(state["rng"])
    done = Progress(state["epoch"], state["step"], state["best_rmse"])
    print(f"resumed {checkpoint.path} after epoch {done.epoch}, best {done.best_rmse:.4f} m")
    return done


def save(
    folder: RunFolder,
    args: argparse.Namespace,
    done: Progress,
    scores: dict[str, float],
    is_best: bool,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: ReduceOnPlateau | CosineDecay,
    scaler: torch.amp.GradScaler,
) -> None:
    """Write the epoch's checkpoints and curves. The rows come first: a run that is killed before
    last.pth is in place resumes one epoch earlier and writes them again."""
    weights = {
        "args": vars(args),
        "epoch": done.epoch,
        "scores": scores,
        "model": model.state_dict(),
    }
    if is_best:
        save_checkpoint(folder.path / "best_model.pth", weights)
    training = {
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "scaler": scaler.state_dict(),
        "step": done.step,
        "best_rmse": done.best_rmse,
        "rng": random_states(),
    }
    save_checkpoint(folder.path / "last.pth", weights | training)
    save_curves(folder.path / "curves.png", folder.read_rows("train"), folder.read_rows("eval"))


def train_epoch(
    model: nn.Module,
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    device: torch.device,
    args: argparse.Namespace,
    label: str,
    steps: int,
    skipped: SkippedFrames | None = None,
) -> dict[str, float]:
    """Take `steps` batches, at most one pass over the loader; returns mean LOSS and metrics.

    Raises:
        RunError: the loss is no longer finite, or too many frames had to be left out.
    """
    model.train()
    running, loss_sum = RunningMetrics(), torch.zeros((), device=device)
    batches = islice(loader, steps)
    with progress(batches, label=label, unit="step", total=steps) as bar:
        for step, batch in enumerate(bar, start=1):
            for sentence in skipped.add(batch) if skipped else ():
                bar.write(f"left out: {sentence}")
            batch = to_device(batch, device)
            with autocast(args.amp, device):
                pred = model(batch["rgbd"])
            loss = depth_loss(pred, batch["depth"])
            scaler.scale(loss / args.accumulate).backward()
            if step % args.accumulate == 0 or step == steps:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=True)

            loss_sum += loss.detach()
            running.update(depth_metrics(pred, batch["depth"]))
            if step % LOG_INTERVAL == 0 or step == steps:
                mean_loss = loss_sum.item() / step
                if not math.isfinite(mean_loss):
                    raise RunError(
                        f"the loss is {mean_loss} by step {step} of {label}; nothing was saved "
                        "over the last good checkpoint, try a smaller --lr"
                    )
                bar.set_postfix(loss=f"{mean_loss:.3f}", rmse=f"{running.means()['RMSE']:.3f}")
    return {"LOSS": loss_sum.item() / steps, **running.means()}


if __name__ == "__main__":
    run_script(main)
