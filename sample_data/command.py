"""The command line of a sample set, `python -m dataloaders.<kind>`."""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path

from sample_data.files import SampleSetError, contact_sheet
from sample_data.generation import generate
from sample_data.kinds import SampleSet


def parse_args(kind: SampleSet, argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of the command."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {kind.package}",
        description=f"Makes a set of {kind.name} in the layout of {kind.layout}.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--root", required=True, metavar="DIR", help="folder of the set, new or made by this")
    add(
        "--n_train",
        type=int,
        default=None,
        help=f"train frames (default: as begun, {kind.n_train} in a new folder)",
    )
    add(
        "--n_val",
        type=int,
        default=None,
        help=f"val frames, {kind.val_frames_per_scene} a scene "
        f"(default: as begun, {kind.n_val} in a new folder)",
    )
    add(
        "--frames_per_scene",
        type=int,
        default=kind.frames_per_scene,
        help="train frames a scene (default %(default)s)",
    )
    add("--seed", type=int, default=0, help="seed of the whole set (default 0)")
    add("--workers", type=int, default=None, help="processes (default: one a CPU core)")
    add(
        "--contact_sheet", metavar="PATH", help="also write an overview picture, PNG (default none)"
    )
    add("--debug", action="store_true", help="full traceback on errors (default off)")
    return parser.parse_args(argv)


def run_command(kind: SampleSet, argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0 done, 2 refused, 130 interrupted."""
    args = parse_args(kind, argv)
    root = Path(args.root)
    try:
        made = generate(
            kind,
            root,
            n_train=args.n_train,
            n_val=args.n_val,
            frames_per_scene=args.frames_per_scene,
            seed=args.seed,
            workers=args.workers,
        )
        counts = [len(list(root.glob(f"{split}/*/*.h5"))) for split in ("train", "val")]
        print(f"{root}: {made} frames written, now {counts[0]} train and {counts[1]} val")
        if args.contact_sheet:
            contact_sheet(kind, root, args.contact_sheet)
            print(f"{args.contact_sheet}: contact sheet")
    except KeyboardInterrupt:
        if args.debug:
            traceback.print_exc()
        print("Interrupted; the same command goes on where this one stopped.", file=sys.stderr)
        return 130
    except (SampleSetError, OSError) as error:
        if args.debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
