"""Command-line flags of train.py and eval.py: the release's names, grouped, with units."""

import argparse
from pathlib import Path

import torch

from cspn import ANCHORS, NORM_TYPES
from dataloaders import BAD_FRAMES, DATA_SETS, DEPTH_RESIZES, RGB_ENCODINGS, SAMPLERS, DepthDataset
from dataloaders.hdf5 import split_scenes
from engine.precision import AMP
from engine.schedule import SCHEDULES
from models import ARCHITECTURES, REFINEMENTS, UNPOOLS

MODELS = ("cspn_unet", "unet")
DATA_ROOTS = {"nyudepth": "data/nyudepth_hdf5", "kitti": "data/kitti_hdf5"}


class OptionError(ValueError):
    """Flags that do not go together; the message is one sentence."""


def add_data_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data_set",
        choices=tuple(DATA_SETS),
        default="nyudepth",
        help="layout and protocol of the frames",
    )
    group.add_argument("--data_root", help="folder with train/ and val/ (default data/<set>_hdf5)")
    group.add_argument("--train_list", help="CSV of training frames, header Name (default: all)")
    group.add_argument("--eval_list", help="CSV of validation frames, header Name (default: all)")
    group.add_argument(
        "--n_sample", type=_whole, default=500, help="sparse measurements an image (published: 500)"
    )
    group.add_argument(
        "--sampler",
        choices=SAMPLERS,
        default="bernoulli",
        help="each pixel with one probability, or exactly n_sample valid ones "
        "(published: bernoulli)",
    )
    group.add_argument(
        "--rgb_encoding",
        choices=RGB_ENCODINGS,
        default="released",
        help="colours as the released weights need them, or plainly normalised "
        "(published: released)",
    )
    group.add_argument(
        "--depth_resize",
        choices=DEPTH_RESIZES,
        help="bilinear as released, or between valid pixels only "
        "(default: released on NYU, hole_aware on KITTI) (published: released)",
    )
    group.add_argument("--num_workers", type=_whole, default=2, help="loader processes")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        choices=MODELS,
        default="cspn_unet",
        help="unet is the UNet alone (published: cspn_unet)",
    )
    group.add_argument(
        "--arch",
        choices=ARCHITECTURES,
        default="resnet50",
        help="encoder (published: resnet50 on NYU, resnet18 on KITTI)",
    )
    group.add_argument(
        "--unpool", choices=UNPOOLS, default="fused", help="one result; fused is the fastest"
    )
    group = parser.add_argument_group("propagation")
    group.add_argument(
        "--refine",
        choices=REFINEMENTS,
        default="cspn",
        help="what refines the coarse depth; spn is the scan-line baseline (published: cspn)",
    )
    group.add_argument(
        "--cspn_step", type=_whole, default=24, help="propagation steps (published: 24)"
    )
    group.add_argument(
        "--cspn_kernel_size",
        type=int,
        choices=(3, 5, 7),
        default=3,
        help="width of the neighbourhood in pixels (published: 3)",
    )
    group.add_argument(
        "--cspn_norm_type",
        choices=NORM_TYPES,
        default="8sum",
        help="affinity with its sign, or its absolute value (published: both)",
    )
    group.add_argument(
        "--cspn_anchor",
        choices=ANCHORS,
        default="coarse",
        help="what measured pixels keep: the coarse depth, or the measurement "
        "(published: coarse in the code, sparse in the paper)",
    )


def add_optimisation_options(parser: argparse.ArgumentParser) -> None:
    flag = argparse.BooleanOptionalAction
    group = parser.add_argument_group("optimisation")
    group.add_argument("--lr", type=_positive, default=0.01, help="learning rate (published: 0.01)")
    group.add_argument("--momentum", type=_share, default=0.9, help="of SGD (published: 0.9)")
    group.add_argument("--weight_decay", type=_share, default=1e-4, help="of SGD (published: 1e-4)")
    group.add_argument(
        "--nesterov", "-n", action=flag, default=False, help="Nesterov momentum (published: yes)"
    )
    group.add_argument(
        "--lr_schedule",
        choices=SCHEDULES,
        default="plateau",
        help="divide by 10 where the validation MAE stalls, or fall as a cosine "
        "(published: plateau)",
    )
    group.add_argument("--num_epoch", type=_whole, default=40, help="epochs (published: 40)")
    group.add_argument(
        "--max_steps", type=_whole, help="stop after this many steps in all (default: no limit)"
    )
    group.add_argument(
        "--batch_size_train",
        type=_count,
        default=8,
        help="images a step, over all processes (published: 8)",
    )
    group.add_argument(
        "--accumulate",
        type=_count,
        default=1,
        help="batches whose gradients make one optimiser step (published: 1)",
    )
    group.add_argument(
        "--clip_grad",
        type=_positive,
        help="largest norm of all gradients together (published: no limit)",
    )
    group.add_argument(
        "--holdout",
        type=_share,
        default=0.0,
        help="share of the training scenes that chooses the best epoch instead of the val split, "
        "which on NYU is the test set (published: 0)",
    )
    group.add_argument(
        "--bad_frames",
        choices=BAD_FRAMES,
        default="stop",
        help="a training frame that cannot be read: stop, or skip to the next one and name it, "
        "up to 1 %% of an epoch (default stop)",
    )
    group.add_argument(
        "--pretrain",
        "-p",
        action=flag,
        default=False,
        help="start from ImageNet weights (published: yes)",
    )


def add_speed_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("speed")
    group.add_argument(
        "--amp",
        choices=tuple(AMP),
        default="off",
        help="mixed precision; heads and propagation stay in float32 (published: off)",
    )
    group.add_argument("--channels_last", action="store_true", help="memory format NHWC")
    group.add_argument("--compile", action="store_true", help="torch.compile the network")
    group.add_argument(
        "--give_back_memory",
        action="store_true",
        help="on a CPU hand freed memory back to the system at once: a lower peak, slower steps",
    )


def add_process_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("saving and several processes")
    group.add_argument(
        "--save_minutes",
        type=_positive,
        default=10.0,
        help="minutes between checkpoints within an epoch (default 10)",
    )
    group.add_argument(
        "--sync_batchnorm",
        action="store_true",
        help="batch statistics over all processes of torchrun, not over each one's share",
    )


def add_run_options(parser: argparse.ArgumentParser, save_dir_help: str) -> None:
    group = parser.add_argument_group("run")
    group.add_argument(
        "--batch_size_eval", type=_count, default=1, help="images a batch (published: 1)"
    )
    group.add_argument("--save_dir", help=save_dir_help)
    group.add_argument(
        "--best_model_dir", help="run folder looked in by a --resume that names no file"
    )
    group.add_argument(
        "--resume",
        "-r",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="checkpoint file or run folder; without a value the run folder's own",
    )
    group.add_argument("--seed", type=_whole, default=0, help="of every random draw")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    group.add_argument("--debug", action="store_true", help="full traceback on errors")


def parse_with_checkpoint(
    parser: argparse.ArgumentParser, argv: list[str] | None, saved: dict
) -> argparse.Namespace:
    """Parse again with a checkpoint's settings as defaults: the command line still wins."""
    known = {action.dest for action in parser._actions}
    # What belongs to the machine and this call rather than to the trained network.
    of_this_call = "save_dir best_model_dir resume device debug seed amp channels_last compile"
    of_this_call += " give_back_memory"
    parser.set_defaults(
        **{k: v for k, v in saved.items() if k in known - set(of_this_call.split())}
    )
    return parser.parse_args(argv)


def refinement(args: argparse.Namespace) -> str:
    """What refines the coarse depth: `--model unet` is `--refine none` by the release's name."""
    return "none" if args.model == "unet" else args.refine


def model_options(args: argparse.Namespace) -> dict:
    """Keyword arguments of `models.build_model`."""
    return {
        "arch": args.arch,
        "cspn_steps": args.cspn_step,
        "cspn_kernel_size": args.cspn_kernel_size,
        "cspn_norm_type": args.cspn_norm_type,
        "cspn_anchor": args.cspn_anchor,
        "refine": refinement(args),
        "unpool": args.unpool,
    }


def build_training_sets(args: argparse.Namespace) -> tuple[DepthDataset, DepthDataset]:
    """The frames to train on and those that choose the best epoch: the val split, as in the
    release, or with `--holdout` that share of the training scenes."""
    train_set = build_dataset(args, "train")
    if not args.holdout:
        return train_set, build_dataset(args, "val")
    held_out_set = build_dataset(args, "train", augment=False)
    train_set.frames, held_out_set.frames = split_scenes(train_set.frames, args.holdout)
    return train_set, held_out_set


def build_dataset(
    args: argparse.Namespace,
    split: str,
    *,
    seed: int | None = None,
    augment: bool | None = None,
) -> DepthDataset:
    """The data set that the flags describe; `seed` overrides `args.seed`.

    Training alone may skip bad frames: scores are over every frame or there are none.
    """
    trains = split == "train" and augment is not False
    return DATA_SETS[args.data_set](
        args.data_root or DATA_ROOTS[args.data_set],
        split,
        file_list=args.train_list if split == "train" else args.eval_list,
        n_sample=args.n_sample,
        sampler=args.sampler,
        rgb_encoding=args.rgb_encoding,
        depth_resize=args.depth_resize,
        augment=augment,
        bad_frames=args.bad_frames if trains else "stop",
        seed=args.seed if seed is None else seed,
    )


def resolve_device(name: str) -> torch.device:
    """ "auto" is the first GPU where there is one.

    Raises:
        OptionError: a device that PyTorch does not know or this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise OptionError(f"--device {name} is not a device; try auto, cpu or cuda") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise OptionError(f"--device {name}: PyTorch sees {torch.cuda.device_count()} GPUs here")
    return device


def resume_path(args: argparse.Namespace, default: Path) -> Path:
    """Where `--resume` points: its own value, or `--best_model_dir`, or `default`."""
    if args.resume != "auto":
        return Path(args.resume)
    return Path(args.best_model_dir) if args.best_model_dir else default


def _whole(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 up, got {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, got {text}")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text}")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must lie in 0..1, got {text}")
    return value
