"""The flags of train.py, and of what reads a checkpoint: one dataclass per group.

Every field states its default, meaning, unit, published value and what resuming does with it
(`engine.flags`).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import torch

from cspn import ANCHORS, NORM_TYPES
from dataloaders import BAD_FRAMES, CROPS, DATA_SETS, DEPTH_RESIZES, RGB_ENCODINGS, SAMPLERS
from engine.errors import OptionError
from engine.flags import (
    Settings,
    count,
    fixed,
    followed,
    fraction,
    frames,
    of_call,
    positive,
    seed,
    whole,
)
from engine.precision import AMP
from engine.schedule import OPTIMIZERS, SCHEDULES
from models import ARCHITECTURES, DEPTH_INPUTS, REFINEMENTS, UNPOOLS


@dataclass
class DataConfig(Settings):
    """Which frames, and how they become the network's input."""

    TITLE: ClassVar[str] = "data"

    data_set: str = fixed("nyudepth", "layout and protocol of the frames", choices=tuple(DATA_SETS))
    data_root: str | None = frames(
        None,
        "folder with train/ and val/, or several separated by commas, trained on as one set and "
        "scored on the first one's val/",
        unset="data/<set>_hdf5",
    )
    train_list: str | None = frames(None, "CSV of training frames, header Name", unset="all")
    eval_list: str | None = frames(None, "CSV of validation frames, header Name", unset="all")
    n_sample: int = fixed(500, "sparse measurements per image", type=whole, published="500")
    sampler: str = fixed(
        "bernoulli",
        "each pixel with one probability, or exactly n_sample valid ones; or as a LiDAR, corner "
        "detections, a measured window or a coarse grid have them; any draws one of these, their "
        "number and their errors per image",
        choices=SAMPLERS,
        published="bernoulli",
    )
    noise: float = fixed(
        0.0, "deviation of a measurement, as a fraction of its depth", type=fraction, published="0"
    )
    outliers: float = fixed(
        0.0, "fraction of the measurements that are wrong", type=fraction, published="0"
    )
    rgb_encoding: str = fixed(
        "released",
        "colours as the released weights need them, or plainly normalised",
        choices=RGB_ENCODINGS,
        published="released",
    )
    depth_resize: str | None = fixed(
        None,
        "bilinear as released, or between valid pixels only",
        choices=DEPTH_RESIZES,
        unset="released on NYU, hole_aware on KITTI",
        published="released",
    )
    batch_size_eval: int = followed(
        1, "images per batch of evaluation, over all processes", type=count, published="1"
    )
    num_workers: int = followed(2, "loader processes", type=whole)


@dataclass
class ModelConfig(Settings):
    """The UNet."""

    TITLE: ClassVar[str] = "model"

    arch: str = fixed(
        "resnet50", "encoder", choices=ARCHITECTURES, published="resnet50 on NYU, resnet18 on KITTI"
    )
    depth_input: str = fixed(
        "sparse",
        "measurements as a sparse channel, or filled in to a dense one, in any number and unit",
        choices=DEPTH_INPUTS,
        published="sparse",
    )
    confidence: bool = fixed(False, "estimate the error of each pixel too", published="no")
    unpool: str = followed("fused", "one result; fused is the fastest", choices=UNPOOLS)


@dataclass
class PropagationConfig(Settings):
    """What refines the UNet's coarse depth. `refine` "none" is the UNet alone, the release's
    `--model unet`, and the only way to write it inside."""

    TITLE: ClassVar[str] = "propagation"

    refine: str = fixed(
        "cspn",
        "what refines the coarse depth; spn is the scan-line baseline, none the UNet alone",
        choices=REFINEMENTS,
        published="cspn",
    )
    cspn_step: int = fixed(24, "propagation steps", type=whole, published="24")
    cspn_kernel_size: int = fixed(
        3, "width of the neighbourhood", unit="pixels", type=int, choices=(3, 5, 7), published="3"
    )
    cspn_norm_type: str = fixed(
        "8sum",
        "affinity with its sign, or its absolute value",
        choices=NORM_TYPES,
        published="both",
    )
    cspn_anchor: str = fixed(
        "coarse",
        "what measured pixels keep: the coarse depth, or the measurement",
        choices=ANCHORS,
        published="coarse in the code, sparse in the paper",
    )

    @property
    def model(self) -> str:
        """Return the network's name: unet, cspn_unet or spn_unet."""
        return "unet" if self.refine == "none" else f"{self.refine}_unet"


@dataclass
class NetworkConfig(DataConfig, ModelConfig, PropagationConfig):
    """Flags whose value eval.py and predict.py take from the checkpoint."""

    def model_options(self) -> dict:
        """Return the keyword arguments of `models.build_model`."""
        names = (*ModelConfig.fields(), *PropagationConfig.fields())
        options = {name: getattr(self, name) for name in names}
        return options | {"cspn_steps": options.pop("cspn_step")}

    def to_dict(self) -> dict:
        """Return plain values by flag name, with the network's name as `model`."""
        return {**super().to_dict(), "model": self.model}


# Defaults that come with `--optimizer adamw`.
ADAMW = {"lr": 1e-3, "weight_decay": 1e-2, "lr_schedule": "warmup_cosine"}


@dataclass
class OptimisationConfig(Settings):
    """How the weights are found."""

    TITLE: ClassVar[str] = "optimisation"

    optimizer: str = fixed(
        "sgd",
        "SGD with momentum; or AdamW, for a small budget, whose default lr is 1e-3, weight_decay "
        "1e-2 and lr_schedule warmup_cosine",
        choices=OPTIMIZERS,
        published="sgd",
    )
    lr: float = followed(0.01, "learning rate", type=positive, published="0.01")
    momentum: float = followed(0.9, "of SGD", type=fraction, published="0.9")
    weight_decay: float = followed(
        1e-4, "pull of the weights towards 0", type=fraction, published="1e-4"
    )
    nesterov: bool = followed(False, "Nesterov momentum", short=("-n",), published="yes")
    lr_schedule: str = fixed(
        "plateau",
        "divide by 10 where the validation MAE stalls; fall as a cosine, by epochs; or by steps, "
        "after a warm-up",
        choices=SCHEDULES,
        published="plateau",
    )
    num_epoch: int = followed(40, "epochs in all", type=whole, published="40")
    max_steps: int | None = of_call(
        None, "stop after this many steps in all", type=whole, unset="no limit"
    )
    batch_size_train: int = fixed(
        8, "images per batch of training, over all processes", type=count, published="8"
    )
    accumulate: int = fixed(
        1, "batches whose gradients make one optimiser step", type=count, published="1"
    )
    clip_grad: float | None = followed(
        None,
        "largest norm of all gradients together",
        type=positive,
        unset="no limit",
        published="no limit",
    )
    crop: str = fixed(
        "centre", "part of a training image that is cut out", choices=CROPS, published="centre"
    )
    holdout: float = fixed(
        0.0,
        "fraction of the training scenes that chooses the best epoch instead of the val split, "
        "which on NYU is the test set",
        type=fraction,
        published="0",
    )
    bad_frames: str = followed(
        "stop",
        "a training frame that cannot be read: stop, or skip to the next one and name it, "
        "up to 1 % of an epoch",
        choices=BAD_FRAMES,
    )
    pretrain: bool = fixed(False, "start from ImageNet weights", short=("-p",), published="yes")

    def optimizer_options(self) -> dict:
        """Return the keyword arguments of `engine.schedule.build_optimizer`."""
        names = ("lr", "momentum", "weight_decay", "nesterov")
        return {"name": self.optimizer} | {name: getattr(self, name) for name in names}


@dataclass
class SpeedConfig(Settings):
    """How fast, in how much memory."""

    TITLE: ClassVar[str] = "speed"

    amp: str = followed(
        "off",
        "mixed precision; heads and propagation stay in float32",
        choices=tuple(AMP),
        published="off",
    )
    channels_last: bool = followed(False, "memory format NHWC")
    compile: bool = followed(False, "torch.compile the network")
    give_back_memory: bool = of_call(
        False,
        "on a CPU hand freed memory back to the system at once: a lower peak, slower steps",
        action="store_true",
    )


@dataclass
class SavingConfig(Settings):
    """Checkpoints, and the processes of torchrun."""

    TITLE: ClassVar[str] = "saving and several processes"

    save_minutes: float = followed(
        10.0, "time between checkpoints within an epoch", unit="minutes", type=positive
    )
    sync_batchnorm: bool = followed(
        False, "batch statistics over all processes of torchrun, not over each one's part"
    )


@dataclass
class RunConfig(Settings):
    """This call: where it reads, writes and runs."""

    TITLE: ClassVar[str] = "run"

    save_dir: str | None = of_call(
        None, "folder for results", unset="output/<data>_<arch>_<model>, eval_result in it"
    )
    best_model_dir: str | None = of_call(
        None, "run folder looked in by a --resume that names no file"
    )
    resume: str | None = of_call(
        None,
        "checkpoint file or run folder; without a value the run folder's own",
        short=("-r",),
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
    )
    seed: int = fixed(0, "of every random draw", type=seed)
    device: str = of_call("auto", "auto, cpu, cuda or cuda:N")
    dist_timeout: float = of_call(
        30.0,
        "how long a process of torchrun waits for the others before it fails",
        unit="minutes",
        type=positive,
    )
    debug: bool = of_call(False, "full traceback on errors", action="store_true")

    def resume_path(self, default: Path) -> Path:
        """Return where `--resume` points: its own value, or `--best_model_dir`, or `default`."""
        if self.resume not in ("auto", None):
            return Path(self.resume)
        return Path(self.best_model_dir) if self.best_model_dir else default


@dataclass
class TrainConfig(NetworkConfig, OptimisationConfig, SpeedConfig, SavingConfig, RunConfig):
    """Every flag of train.py."""

    @classmethod
    def of(cls, *values: dict) -> Self:
        """Return the settings as `Settings.of` does; AdamW, where chosen, has its own defaults."""
        chosen = {name: value for part in values for name, value in part.items()}
        defaults = ADAMW if chosen.get("optimizer") == "adamw" else {}
        return super().of(defaults, *values)


def saved_settings(saved: dict) -> dict:
    """Return a checkpoint's settings in today's words: "no refinement" was `model` "unet" too."""
    if saved.get("model") == "unet":
        saved = saved | {"refine": "none"}
    return {name: value for name, value in saved.items() if name != "model"}


def evaluation_settings(saved: dict) -> dict:
    """Return the settings of a checkpoint that eval.py and predict.py take over."""
    known = NetworkConfig.fields()
    return {name: v for name, v in saved_settings(saved).items() if name in known}


def resolve_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is the first GPU where there is one. Raise OptionError
    for one that this project does not run on, or that this machine does not have."""
    if name in ("auto", "cpu"):
        return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cuda(:(0|[1-9]\d?))?", name):
        raise OptionError(f"--device must be auto, cpu, cuda or cuda:N, got {name}")
    device, found = torch.device(name), torch.cuda.device_count()
    if (device.index or 0) >= found:
        raise OptionError(f"--device {name}: PyTorch sees {found} GPU{'s' * (found != 1)} here")
    return device
