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
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from dataloaders import make_loader
from engine import options
from engine.checkpoint import (
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
from engine.progress import progress
from engine.run_folder import RunFolder
from engine.schedule import ReduceOnPlateau
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
    options.add_run_options(parser, "run folder to write (default output/<data>_<arch>_<model>)")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    device = options.resolve_device(args.device)
    torch.manual_seed(args.seed)
    # Convolutions of one size throughout: let cuDNN choose its fastest.
    torch.backends.cudnn.benchmark = True

    # Data.
    train_set = options.build_dataset(args, "train")
    eval_set = options.build_dataset(args, "val")
    loading = {"num_workers": args.num_workers, "seed": args.seed}
    train_loader = make_loader(train_set, args.batch_size_train, shuffle=True, **loading)
    eval_loader = make_loader(eval_set, args.batch_size_eval, **loading)

    # Where the run goes on, if it does.
    save_dir = Path(args.save_dir or f"output/{args.data_set}_{args.arch}_{args.model}")
    resumed = find_resumed(args, save_dir)

    # Model and optimiser.
    model = build_model(
        **options.model_options(args), pretrained=args.pretrain and resumed is None
    ).to(device)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=args.lr,
        momentum=args.momentum,
        weight_decay=args.weight_decay,
        nesterov=args.nesterov,
    )
    schedule = ReduceOnPlateau(optimizer)
    start_epoch, step, best_rmse = 0, 0, math.inf
    if resumed is not None:
        load_weights(model, resumed)
        if state := resumed.training:
            optimizer.load_state_dict(state["optimizer"])
            schedule.load_state_dict(state["schedule"])
            set_random_states(state["rng"])
            start_epoch, step, best_rmse = state["epoch"], state["step"], state["best_rmse"]
            print(f"resumed {resumed.path} after epoch {start_epoch}, best RMSE {best_rmse:.4f} m")
        else:
            print(f"started from the weights of {resumed.path} ({resumed.kind}); epoch 0")

    folder = RunFolder(save_dir)
    folder.write_args(vars(args))
    for table in ("train", "eval"):
        folder.forget_epochs(table, after=start_epoch)
    folder.log("start", epoch=start_epoch, device=str(device), frames=len(train_set))
    parameters = sum(p.numel() for p in model.parameters())
    print(
        f"{args.model} {args.arch}, {parameters / 1e6:.1f} M parameters, on {device}; "
        f"{len(train_set)} training and {len(eval_set)} validation frames of {train_set.root}; "
        f"run folder {save_dir}"
    )

    for epoch in range(start_epoch, args.num_epoch):
        if args.max_steps is not None and step >= args.max_steps:
            break
        lr = optimizer.param_groups[0]["lr"]
        train_loader.sampler.epoch = epoch
        started = time.perf_counter()
        steps_left = None if args.max_steps is None else args.max_steps - step
        train_scores, steps = train_epoch(
            model, train_loader, optimizer, device, epoch, args.num_epoch, steps_left
        )
        step += steps
        train_seconds = time.perf_counter() - started

        rows = evaluate(model, eval_loader, device, label="validation")
        scores = mean_scores(rows)
        if not math.isfinite(scores["RMSE"]):
            raise RunError(f"validation RMSE is {scores['RMSE']} after epoch {epoch + 1}")
        schedule.step(scores["MAE"])
        is_best = scores["RMSE"] < best_rmse
        best_rmse = min(best_rmse, scores["RMSE"])

        state = {
            "args": vars(args),
            "epoch": epoch + 1,
            "scores": scores,
            "model": model.state_dict(),
        }
        if is_best:
            save_checkpoint(save_dir / "best_model.pth", state)
        state |= {
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "best_rmse": best_rmse,
            "step": step,
            "rng": random_states(),
        }
        folder.append_row(
            "train", {"epoch": epoch, "lr": lr, "is_best": int(is_best)} | train_scores
        )
        folder.append_row("eval", {"epoch": epoch, "lr": lr, "is_best": int(is_best)} | scores)
        save_checkpoint(save_dir / "last.pth", state)
        save_curves(save_dir / "curves.png", folder.read_rows("train"), folder.read_rows("eval"))
        folder.log("epoch", epoch=epoch + 1, step=step, seconds=round(train_seconds, 1), **scores)
        print(
            f"epoch {epoch + 1}/{args.num_epoch}  lr {lr:g}  loss {train_scores['LOSS']:.4f}  "
            f"validation RMSE {scores['RMSE']:.4f} m  MAE {scores['MAE']:.4f} m  "
            f"REL {scores['ABS_REL']:.4f}  d1.25 {scores['DELTA1.25']:.4f}"
            + ("  best" if is_best else "")
            + f"  ({train_seconds:.0f} s)"
        )
    folder.log("end", best_rmse=best_rmse)
    print(f"done: best validation RMSE {best_rmse:.4f} m, in {save_dir}")


def find_resumed(args: argparse.Namespace, save_dir: Path):
    """The checkpoint to go on from, None to start anew; never over another run's files."""
    last = save_dir / "last.pth"
    if args.resume is None:
        if last.exists():
            raise options.OptionError(
                f"{save_dir} already holds a run; go on with --resume, or choose another --save_dir"
            )
        return None
    path = options.resume_path(args, save_dir)
    if args.resume == "auto" and args.best_model_dir is None and not last.exists():
        return None
    return load_checkpoint(find_checkpoint(path, ("last.pth", "best_model.pth")))


def train_epoch(
    model: nn.Module,
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    epoch: int,
    num_epoch: int,
    max_steps: int | None = None,
) -> tuple[dict[str, float], int]:
    """One pass over the loader; returns the epoch's mean LOSS and metrics, and its steps.

    Raises:
        RunError: the loss is no longer finite.
    """
    model.train()
    running, loss_sum, steps = RunningMetrics(), torch.zeros((), device=device), 0
    total = len(loader) if max_steps is None else min(len(loader), max_steps)
    bar = progress(loader, label=f"epoch {epoch + 1}/{num_epoch}", unit="step", total=total)
    for batch in bar:
        if steps >= total:
            break
        batch = to_device(batch, device)
        pred = model(batch["rgbd"])
        loss = depth_loss(pred, batch["depth"])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

        loss_sum += loss.detach()
        running.update(depth_metrics(pred, batch["depth"]))
        steps += 1
        if steps % LOG_INTERVAL == 0 or steps == total:
            mean_loss = loss_sum.item() / steps
            if not math.isfinite(mean_loss):
                raise RunError(
                    f"the loss is {mean_loss} in epoch {epoch + 1} by step {steps}; nothing was "
                    "saved over the last good checkpoint, try a smaller --lr"
                )
            bar.set_postfix(loss=f"{mean_loss:.3f}", rmse=f"{running.means()['RMSE']:.3f}")
    bar.close()
    return {"LOSS": loss_sum.item() / max(steps, 1), **running.means()}, steps


if __name__ == "__main__":
    run_script(main)
