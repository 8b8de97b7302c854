"""Train a depth-completion network.

    bash train_cspn_nyu.sh                                     # the published NYU recipe
    python train.py --data_root data/nyudepth_hdf5 --save_dir output/my_run --nesterov --pretrain
    python train.py --save_dir output/my_run --resume           # go on where it stopped
    torchrun --nproc_per_node=4 train.py ...                    # the same run on four GPUs

Writes to --save_dir: args.json, train.csv and eval.csv (one row per epoch), log.jsonl, last.pth
(everything a run needs to go on; previous.pth is the one before), best_model.pth (lowest validation
RMSE) and curves.png. Ctrl-C and SIGTERM save at the next step and exit with code 75.
"""

import argparse
import contextlib
import math
import time
from collections.abc import Iterable
from itertools import islice

import torch
from torch import nn

from dataloaders import make_loader
from engine import distributed, flags
from engine.checkpoint_writer import CheckpointWriter, StopOrSave
from engine.cli import run_script
from engine.config import TrainConfig, resolve_device
from engine.data import build_training_sets
from engine.divergence import DivergenceCheck
from engine.evaluation import evaluate, mean_scores, to_device
from engine.metrics import METRICS
from engine.precision import autocast, gradient_scaler, prepare, prepare_device
from engine.progress import progress
from engine.resume import (
    Start,
    check_processes_agree,
    frames_record,
    resolve_resume,
    run_folder_path,
    take_up,
)
from engine.run_folder import RunFolder
from engine.schedule import build_optimizer, build_schedule
from engine.signals import StopRequest
from engine.training import Objective, Training, seed_everything
from models import build_model
from visualize.curves import save_curves
from visualize.tensorboard import TensorBoard

# Steps between checks that synchronise a GPU; on a CPU every step is checked.
CHECK_INTERVAL = 10


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with every flag of this script."""
    return flags.build_parser(__doc__.split("\n\n")[0], TrainConfig)


def main(argv: list[str] | None = None) -> None:
    """Train with the flags of the command line."""
    given = flags.given_flags(build_parser(), argv)
    config = TrainConfig.of(given)
    with distributed.joined(resolve_device(config.device), config.dist_timeout) as device:
        folder = RunFolder(run_folder_path(config))
        owned = folder.owned() if distributed.is_main() else contextlib.nullcontext()
        with owned, StopRequest().received() as request:
            start = resolve_resume(given, folder)
            distributed.barrier()
            train(start, device, folder, request)


def train(start: Start, device: torch.device, folder: RunFolder, request: StopRequest) -> None:
    """Train the whole run, or what is left of it."""
    config = start.config
    seed_everything(config.seed)
    prepare_device(device, give_back_memory=config.give_back_memory)

    # Data.
    train_set, eval_set = build_training_sets(config)
    loading = {"num_workers": config.num_workers, "seed": config.seed}
    loading |= {"rank": distributed.rank(), "world_size": distributed.world_size()}
    train_loader = make_loader(train_set, config.batch_size_train, shuffle=True, **loading)
    eval_loader = make_loader(eval_set, config.batch_size_eval, **loading)

    # Model, optimiser, and where the run goes on, if it does.
    pretrained = config.pretrain and start.checkpoint is None
    model = build_model(**config.model_options(), pretrained=pretrained).to(device)
    prepare(model, channels_last=config.channels_last, compile_model=config.compile)
    optimizer = build_optimizer(model, **config.optimizer_options())
    total_steps = min(config.num_epoch * len(train_loader), config.max_steps or math.inf)
    schedule = build_schedule(config.lr_schedule, optimizer, config.num_epoch, total_steps)
    scaler = gradient_scaler(config.amp, device)
    frames = {"train": frames_record(train_set), "val": frames_record(eval_set)}
    run = Training(model, optimizer, schedule, scaler, device, frames)
    notes = take_up(run, start, folder)
    check_processes_agree(run, config)
    network = distributed.wrap_ddp(model, device, sync_batchnorm=config.sync_batchnorm)

    writer = CheckpointWriter(folder, start.settings(), config.save_minutes)
    stop_or_save = StopOrSave(run, writer, request)
    board = None
    if distributed.is_main():
        log_start(start, run, writer, notes, f"{train_set.root}")
        board = TensorBoard(folder.path, purge_after_epoch=run.epoch)

    while run.epoch < config.num_epoch:
        train_loader.sampler.epoch, train_loader.sampler.start = run.epoch, run.position
        steps = len(train_loader)
        if config.max_steps is not None:
            steps = min(steps, config.max_steps - run.step)
        if steps <= 0 and run.position == 0:
            break
        started = time.perf_counter()
        label = f"epoch {run.epoch + 1}/{config.num_epoch}"
        divergence = DivergenceCheck(folder, label, gradients=config.amp != "fp16")
        batches = islice(train_loader, steps) if steps > 0 else ()
        train_epoch(run, network, batches, config, divergence, stop_or_save, steps)
        if run.skipped.sentences and distributed.is_main():
            folder.log("left out", epoch=run.epoch + 1, frames=run.skipped.sentences)
        seconds = time.perf_counter() - started

        distributed.broadcast_buffers(model)
        options = {"amp": config.amp, "on_batch": stop_or_save.in_validation}
        rows = evaluate(model, eval_loader, device, **options, label="validation")
        writer.save_epoch(run, is_best=run.finish_epoch(mean_scores(rows)))
        if distributed.is_main():
            log_epoch(run, writer, board, label, seconds)
    writer.check_written()
    if distributed.is_main():
        log_end(run, folder)


def train_epoch(
    run: Training,
    network: nn.Module,
    batches: Iterable[dict],
    config: TrainConfig,
    divergence: DivergenceCheck,
    stop_or_save: StopOrSave,
    steps: int,
) -> None:
    """Train on `steps` batches.

    Args:
        run: updated in place. network: `run.model` as this process calls it.

    Raises:
        RunError: the loss or a gradient is no longer finite.
        Stopped: after a signal; the run is saved.
    """
    device = run.device
    interval = 1 if device.type == "cpu" else CHECK_INTERVAL
    run.model.train()
    objective = Objective(config.confidence)
    with progress(batches, label=divergence.label, unit="step", total=steps) as bar:
        for step, batch in enumerate(bar, start=1):
            skipped = run.skipped.add(batch, device)
            for sentence in skipped if distributed.is_main() else ():
                bar.write(f"left out: {sentence}")
            batch = to_device(batch, device)
            is_update_step = step % config.accumulate == 0 or step == steps
            with distributed.sync_context(network, is_update_step):
                with autocast(config.amp, device):
                    output = network(batch["rgbd"], **objective.options)
                pred, loss, weighted_loss = objective(output, batch["depth"])
                run.scaler.scale(weighted_loss).backward()
            norm = None
            if is_update_step:
                norm = run.optimizer_step(config.clip_grad, objective.finish_step())

            run.count_batch(loss, pred, batch["depth"])
            divergence.add(run.scores.batches, batch["name"], loss, norm)
            if step % CHECK_INTERVAL == 0 or step == steps:
                bar.set_postfix(run.scores.shown())
            if step % interval == 0 or step == steps:
                divergence.check()
                if is_update_step:
                    stop_or_save(divergence)


def log_start(
    start: Start, run: Training, writer: CheckpointWriter, notes: list[str], root: str
) -> None:
    """Print and log what is going to be trained, on what, and where it goes; write the settings."""
    config, folder, checkpoint = start.config, writer.folder, start.checkpoint
    if start.goes_on:
        place = f"after epoch {run.epoch}" + (f" and {run.position} images" * (run.position > 0))
        print(f"resumed {checkpoint.path} {place}, best {run.best_rmse:.4f} m")
    elif checkpoint:
        print(f"started from the weights of {checkpoint.path} ({checkpoint.kind}) at epoch 0")
    for note in notes:
        print(f"note: {note}")
    folder.write_args(writer.settings)
    writer.write_tables(run)
    counts = {part: record["count"] for part, record in run.frames.items()}
    processes = distributed.world_size()
    facts = {"epoch": run.epoch, "step": run.step, "device": str(run.device)}
    facts |= {"processes": processes, "frames": counts["train"]}
    event = "resumed" if start.goes_on else "start"
    folder.log(event, **facts, **({"notes": notes} if notes else {}))
    parameters = sum(p.numel() for p in run.model.parameters())
    print(
        f"{config.model} {config.arch}, {parameters / 1e6:.1f} M parameters, on {run.device}"
        + (f" and {processes - 1} more" if processes > 1 else "")
        + f"; {counts['train']} training and {counts['val']} validation frames of {root}; "
        f"run folder {folder.path}"
    )
    if run.epoch >= config.num_epoch:
        print(f"nothing left to train: {run.epoch} epochs are done; --num_epoch trains longer")


def log_epoch(
    run: Training, writer: CheckpointWriter, board: TensorBoard, label: str, seconds: float
) -> None:
    """Print, log and draw the epoch that was finished last."""
    trained, scores = run.rows["train"][-1], run.rows["eval"][-1]
    metrics = {name: scores[name] for name in METRICS}
    folder = writer.folder
    curves = folder.path / "curves.png"
    writer.attempt(lambda: save_curves(curves, run.rows["train"], run.rows["eval"]))
    losses = {name: trained[name] for name in ("LOSS", *METRICS)}
    writer.attempt(lambda: board.write(run.epoch, losses, metrics, trained["lr"]))
    folder.log("epoch", epoch=run.epoch, step=run.step, seconds=round(seconds, 1), **metrics)
    print(
        f"{label}  lr {trained['lr']:g}  loss {trained['LOSS']:.4f}  "
        f"validation RMSE {scores['RMSE']:.4f} m  MAE {scores['MAE']:.4f} m  "
        f"REL {scores['ABS_REL']:.4f}  d1.25 {scores['DELTA1.25']:.4f}  "
        f"({seconds:.0f} s)" + ("  best" if scores["is_best"] else "")
    )


def log_end(run: Training, folder: RunFolder) -> None:
    """Print and log the run's best score, where it has one."""
    folder.log("end", best_rmse=run.best_rmse)
    best = f"best validation RMSE {run.best_rmse:.4f} m, " if run.rows["eval"] else ""
    print(f"done: {best}in {folder.path}")


if __name__ == "__main__":
    run_script(main, processes=True, lower="try a smaller --batch_size_train or --batch_size_eval")
