"""Where the time of a training step goes: convolutions, loader, optimiser and the rest.

    python -m benchmarks.training_profile --data_root data/sample_rooms --flags "--arch resnet18"

Runs train.py's own step on its own batches, loaded in this process, under PyTorch's profiler. The
time of an operation counts for the first part that names it or what called it; `other` is what is
left, Python included.
"""

import argparse
import time

import pandas as pd
import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.timing import write_results
from dataloaders import make_loader
from engine.config import TrainConfig
from engine.data import build_training_sets
from engine.evaluation import to_device
from engine.flags import given_flags
from engine.precision import autocast, gradient_scaler, prepare_device
from engine.resume import frames_record
from engine.schedule import build_optimizer, build_schedule
from engine.training import Objective, Training
from models import build_model
from train import build_parser

CPU = torch.device("cpu")
# Part of the step -> names of its operations, or of the steps of the backward pass that call them.
OPERATIONS = {
    "convolution": ("aten::convolution", "aten::convolution_backward"),
    "batch normalisation": ("aten::batch_norm", "NativeBatchNormBackward0"),
    "propagation": ("cspn::propagate", "cspn::propagate_backward"),
    "casts": ("aten::to", "ToCopyBackward0"),
    "activation": ("aten::relu", "aten::relu_", "ReluBackward0"),
    "concatenation and cropping": (
        "aten::cat",
        "torch::autograd::CopySlices",
        "SplitBackward0",
        "SliceBackward0",
    ),
    "addition": ("aten::add", "aten::add_"),
    "pooling": ("aten::max_pool2d", "MaxPool2DWithIndicesBackward0"),
}
RANGES = ("loader", "loss and metrics", "optimiser")


def main(argv: list[str] | None = None) -> None:
    """Profile the steps and write results/training_profile_cpu.csv."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--data_root", required=True, help="training frames")
    parser.add_argument("--steps", type=int, default=8, help="profiled, after two (default 8)")
    parser.add_argument(
        "--flags",
        action="append",
        help="of train.py; may be given more than once (ResNet-18 and -50, batch 4, bf16)",
    )
    args = parser.parse_args(argv)
    default = [
        f"--arch {arch} --batch_size_train 4 --amp bf16" for arch in ("resnet18", "resnet50")
    ]
    rows = []
    for flags in args.flags or default:
        words = [*flags.split(), "--data_root", args.data_root, "--num_workers", "0"]
        shares = step_shares(TrainConfig.of(given_flags(build_parser(), words)), args.steps)
        rows += [{"flags": flags, "part": part, **row} for part, row in shares.items()]
    write_results("training_profile", CPU, rows)


def step_shares(config: TrainConfig, steps: int) -> dict[str, dict[str, float]]:
    """Return part of the step -> its milliseconds and its share of the step."""
    prepare_device(CPU, give_back_memory=config.give_back_memory)
    train_set, eval_set = build_training_sets(config)
    loader = make_loader(train_set, config.batch_size_train, shuffle=True, seed=config.seed)
    model = build_model(**config.model_options()).train()
    optimizer = build_optimizer(model, **config.optimizer_options())
    schedule = build_schedule(config.lr_schedule, optimizer, config.num_epoch, 1000)
    frames = {"train": frames_record(train_set), "val": frames_record(eval_set)}
    run = Training(model, optimizer, schedule, gradient_scaler(config.amp, CPU), CPU, frames)
    objective = Objective(config.confidence)
    batches = iter(loader)

    def step() -> None:
        with record_function("loader"):
            batch = to_device(next(batches), CPU)
        with autocast(config.amp, CPU):
            output = model(batch["rgbd"], **objective.options)
        with record_function("loss and metrics"):
            pred, loss, weighted_loss = objective(output, batch["depth"])
        weighted_loss.backward()
        with record_function("optimiser"):
            run.optimizer_step(config.clip_grad, objective.finish_step())
        with record_function("loss and metrics"):
            run.count_batch(loss, pred, batch["depth"])

    for _ in range(2):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        started = time.perf_counter()
        for _ in range(steps):
            step()
        total = 1e3 * (time.perf_counter() - started) / steps
    own = pd.DataFrame(
        [(_part(event), 1e-3 * event.self_cpu_time_total / steps) for event in profiler.events()],
        columns=("part", "ms"),
    )
    parts = own.groupby("part").ms.sum().reindex([*OPERATIONS, *RANGES], fill_value=0).to_dict()
    parts["other"] = total - sum(parts.values())
    parts["step"] = total
    return {part: {"ms": ms, "share": ms / total} for part, ms in parts.items()}


def _part(event: FunctionEvent | None) -> str:
    """Return the part that an event belongs to: the range around it, else what the nearest
    operation of `OPERATIONS` says; "" for none."""
    part = ""
    while event is not None:
        if event.name in RANGES:
            return event.name
        part = part or next((p for p, names in OPERATIONS.items() if event.name in names), "")
        event = event.cpu_parent
    return part


if __name__ == "__main__":
    main()
