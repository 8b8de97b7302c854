"""Train a depth-completion network.

    bash train_cspn_nyu.sh                                     # the published NYU recipe
    python train.py --data_root data/nyudepth_hdf5 --save_dir output/my_run --nesterov --pretrain
    python train.py --save_dir output/my_run --resume           # go on where it stopped
    torchrun --nproc_per_node=4 train.py ...                    # the same run on four GPUs

Writes to --save_dir: args.json, train.csv and eval.csv (a row an epoch), log.jsonl, last.pth
(everything a run needs to go on; previous.pth is the one before), best_model.pth (lowest validation
RMSE) and curves.png. Ctrl-C and SIGTERM save at the next step and exit with code 75.
"""

import argparse
import contextlib
import math
import time
from itertools import islice
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from dataloaders import DepthDataset, make_loader
from engine import config, distributed, flags
from engine.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from engine.cli import run_script
from engine.errors import RunError
from engine.evaluation import evaluate, mean_scores, to_device
from engine.health import Health
from engine.metrics import METRICS, depth_loss, measured
from engine.optimizer import build_optimizer
from engine.precision import (
    autocast,
    gradient_scaler,
    keep_freed_memory,
    prepare,
    use_exact_float32,
)
from engine.progress import progress
from engine.random_states import seed_everything
from engine.run_folder import RunFolder
from engine.saving import BEST, LAST, PREVIOUS, Saver, load_newest
from engine.schedule import build_schedule
from engine.stopping import Stopped, StopRequest
from engine.training import Training
from models import build_model

# Steps between looks at how a GPU is doing, which wait for it; a CPU is looked at always.
CHECK_INTERVAL = 10


def build_parser() -> argparse.ArgumentParser:
    """Every flag of this script."""
    return flags.build_parser(__doc__.split("\n\n")[0], config.TrainConfig)


def main(argv: list[str] | None = None) -> None:
    args = config.TrainConfig.of(flags.given_flags(build_parser(), argv))
    device = distributed.start(config.resolve_device(args.device))
    folder = RunFolder(Path(args.save_dir or f"output/{args.data_set}_{args.arch}_{args.model}"))
    owned = folder.owned() if distributed.is_main() else contextlib.nullcontext()
    with owned, StopRequest().listening() as request:
        train(args, device, folder, request)
    distributed.stop()


def train(
    args: config.TrainConfig, device: torch.device, folder: RunFolder, request: StopRequest
) -> None:
    """The whole run, or what is left of it."""
    seed_everything(args.seed)
    # Convolutions of one size throughout: let cuDNN choose its fastest.
    torch.backends.cudnn.benchmark = True
    use_exact_float32()
    if device.type == "cpu" and not args.give_back_memory:
        keep_freed_memory()

    # Data.
    train_set, eval_set = config.build_training_sets(args)
    loading = {"num_workers": args.num_workers, "seed": args.seed}
    loading |= {"rank": distributed.rank(), "world_size": distributed.world_size()}
    train_loader = make_loader(train_set, args.batch_size_train, shuffle=True, **loading)
    eval_loader = make_loader(eval_set, args.batch_size_eval, **loading)

    # Model, optimiser, and where the run goes on, if it does.
    checkpoint = find_resumed(args, folder)
    distributed.barrier()
    model = build_model(**args.model_options(), pretrained=args.pretrain and checkpoint is None).to(
        device
    )
    prepare(model, channels_last=args.channels_last, compile_model=args.compile)
    optimizer = build_optimizer(
        model,
        lr=args.lr,
        momentum=args.momentum,
        weight_decay=args.weight_decay,
        nesterov=args.nesterov,
    )
    schedule = build_schedule(args.lr_schedule, optimizer, args.num_epoch)
    scaler = gradient_scaler(args.amp, device)
    frames = len(train_set) // distributed.world_size()
    run = Training(model, optimizer, schedule, scaler, device, frames)
    if checkpoint:
        run.resume(checkpoint)
    network = distributed.wrap_ddp(model, device, sync_batchnorm=args.sync_batchnorm)

    saver = Saver(folder, args.to_dict(), args.save_minutes)
    steps = StepEnd(run, saver, request)
    if distributed.is_main():
        begin(args, run, saver, checkpoint, train_set, eval_set)

    while run.epoch < args.num_epoch:
        train_loader.sampler.epoch, train_loader.sampler.start = run.epoch, run.position
        steps_left = len(train_loader)
        if args.max_steps is not None:
            steps_left = min(steps_left, args.max_steps - run.step)
        if steps_left <= 0 and run.position == 0:
            break
        started = time.perf_counter()
        label = f"epoch {run.epoch + 1}/{args.num_epoch}"
        train_epoch(run, network, train_loader, args, Health(folder, label), steps, steps_left)
        left_out = [frame for own in distributed.all_gather(run.skipped.sentences) for frame in own]
        if left_out and distributed.is_main():
            folder.log("left out", epoch=run.epoch + 1, frames=left_out)
        seconds = time.perf_counter() - started

        distributed.broadcast_buffers(model)
        rows = evaluate(
            model,
            eval_loader,
            device,
            amp=args.amp,
            on_batch=steps.in_validation,
            label="validation",
        )
        scores = mean_scores(rows)
        if not math.isfinite(scores["RMSE"]):
            raise RunError(f"the validation RMSE is {scores['RMSE']} in {label}; nothing was saved")
        is_best = run.finish_epoch(scores)
        saver.save_epoch(run, is_best)
        if distributed.is_main():
            tell_epoch(folder, run, label, seconds)
    saver.check_written()
    if distributed.is_main():
        folder.log("end", best_rmse=run.best_rmse)
        print(f"done: best validation RMSE {run.best_rmse:.4f} m, in {folder.path}")


def tell_epoch(folder: RunFolder, run: Training, label: str, seconds: float) -> None:
    """Log and print the epoch that was finished last."""
    trained, scores = run.rows["train"][-1], run.rows["eval"][-1]
    metrics = {name: scores[name] for name in METRICS}
    folder.log("epoch", epoch=run.epoch, step=run.step, seconds=round(seconds, 1), **metrics)
    print(
        f"{label}  lr {trained['lr']:g}  loss {trained['LOSS']:.4f}  "
        f"validation RMSE {scores['RMSE']:.4f} m  MAE {scores['MAE']:.4f} m  "
        f"REL {scores['ABS_REL']:.4f}  d1.25 {scores['DELTA1.25']:.4f}  "
        f"({seconds:.0f} s)" + ("  best" if scores["is_best"] else "")
    )


def find_resumed(args: config.TrainConfig, folder: RunFolder) -> Checkpoint | None:
    """The checkpoint to go on from, None to start anew; never over another run's files."""
    own = [folder.path / name for name in (LAST, PREVIOUS)]
    holds_run = any(path.exists() for path in own)
    if args.resume is None:
        if holds_run:
            raise flags.OptionError(
                f"{folder.path} already holds a run; go on with --resume, or choose another "
                "--save_dir"
            )
        return None
    if args.resume == "auto" and args.best_model_dir is None:
        return load_newest(folder)
    path = args.resume_path(folder.path)
    if holds_run and path.resolve() in (folder.path.resolve(), own[0].resolve()):
        return load_newest(folder)
    found = find_checkpoint(path, (LAST, BEST))
    if holds_run:
        raise flags.OptionError(
            f"{folder.path} already holds another run than {found}; choose another --save_dir"
        )
    return load_checkpoint(found)


def begin(
    args: config.TrainConfig,
    run: Training,
    saver: Saver,
    checkpoint: Checkpoint | None,
    train_set: DepthDataset,
    eval_set: DepthDataset,
) -> None:
    """Say what is going to be trained, on what, and where it goes; write the settings."""
    if checkpoint and checkpoint.training:
        place = f"after epoch {run.epoch}" + (f" and {run.position} images" * (run.position > 0))
        print(f"resumed {checkpoint.path} {place}, best {run.best_rmse:.4f} m")
    elif checkpoint:
        print(f"started from the weights of {checkpoint.path} ({checkpoint.kind}) at epoch 0")
    folder = saver.folder
    folder.write_args(args.to_dict())
    saver.write_tables(run)
    folder.log(
        "start" if checkpoint is None else "resumed",
        epoch=run.epoch,
        step=run.step,
        device=str(run.device),
        processes=distributed.world_size(),
        frames=len(train_set),
    )
    parameters = sum(p.numel() for p in run.model.parameters())
    processes = distributed.world_size()
    print(
        f"{args.model} {args.arch}, {parameters / 1e6:.1f} M parameters, on {run.device}"
        + (f" and {processes - 1} more" if processes > 1 else "")
        + f"; {len(train_set)} training and {len(eval_set)} validation frames of "
        f"{train_set.root}; run folder {folder.path}"
    )


class StepEnd:
    """What is done between steps: save when it is time, stop when somebody asked."""

    def __init__(self, run: Training, saver: Saver, request: StopRequest):
        self.run = run
        self.saver = saver
        self.request = request

    def __call__(self, health: Health) -> None:
        """Called where the network is whole: after the optimiser's step.

        Raises:
            Stopped: somebody asked, and the run is saved.
        """
        asked = self.request.signal is not None
        stop, save = distributed.any_rank(asked, self.saver.is_due(), device=self.run.device)
        if stop or save:
            health.check()
            self.saver.save(self.run)
        if stop:
            self._stop()

    def in_validation(self, batch: dict, pred: torch.Tensor) -> None:
        """Called with each validation batch. The epoch's training is kept, its validation starts
        anew; several processes, which have unequal shares of it, finish theirs."""
        if self.request.signal is not None and distributed.world_size() == 1:
            self.saver.save(self.run)
            self._stop()

    def _stop(self) -> None:
        self.saver.check_written()
        run, asked = self.run, self.request.signal
        name = asked.name if asked else "another process"
        if distributed.is_main():
            self.saver.folder.log("stopped", by=name, epoch=run.epoch, step=run.step)
        raise Stopped(
            f"stopped by {name} after step {run.step}; saved in {self.saver.folder.path}, "
            "go on with --resume auto"
        )


def train_epoch(
    run: Training,
    network: nn.Module,
    loader: DataLoader,
    args: config.TrainConfig,
    health: Health,
    step_end: StepEnd,
    steps: int,
) -> None:
    """Take `steps` batches, at most what the loader has left of the epoch.

    Args:
        run: is brought forward. network: `run.model` as this process calls it.

    Raises:
        RunError: the loss or a gradient is no longer finite.
        Stopped: somebody asked for it, and the run is saved.
    """
    device, processes = run.device, distributed.world_size()
    interval = 1 if device.type == "cpu" else CHECK_INTERVAL
    health.gradients = args.amp != "fp16"
    run.model.train()
    batches = islice(loader, steps) if steps > 0 else ()
    with progress(batches, label=health.label, unit="step", total=steps) as bar:
        for step, batch in enumerate(bar, start=1):
            for sentence in run.skipped.add(batch):
                bar.write(f"left out: {sentence}")
            batch = to_device(batch, device)
            acts = step % args.accumulate == 0 or step == steps
            waits = contextlib.nullcontext() if acts or processes == 1 else network.no_sync()
            with waits:
                with autocast(args.amp, device):
                    pred = network(batch["rgbd"])
                # Gradients are averaged over processes: each divides by its share of all pixels.
                count = distributed.all_reduce_sum(measured(batch["depth"])) / processes
                loss = depth_loss(pred, batch["depth"], count)
                run.scaler.scale(loss / args.accumulate).backward()
            norm = run.take_step(args.clip_grad) if acts else None

            run.step += 1
            run.position += len(pred) * processes
            run.scores.update(loss / processes, pred, batch["depth"])
            health.add(run.scores.batches, batch["name"], loss, norm)
            if step % interval == 0 or step == steps:
                health.check()
                if step % CHECK_INTERVAL == 0 or step == steps:
                    means = run.scores.means()
                    bar.set_postfix(loss=f"{means['LOSS']:.3f}", rmse=f"{means['RMSE']:.3f}")
                if acts:
                    step_end(health)


if __name__ == "__main__":
    run_script(main)
