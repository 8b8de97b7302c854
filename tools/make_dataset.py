"""Make a data set to train with of your own recordings.

    python -m tools.make_dataset --from tum rgbd_dataset_freiburg1_desk --out data/mine
    python train.py --data_root data/mine

Every frame of a recording becomes `<split>/<recording>/<frame>.h5` with rgb (3, H, W) uint8 and
depth (H, W) float32 metres, 0 = no measurement. Several recordings are made one after another into
the same folder; the last frames of each are its val split. What was
interrupted goes on when it is run again. The census of `tools.check_data` ends it.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from dataloaders.datasets import DATA_SETS
from dataloaders.errors import DataError, counted
from dataloaders.hdf5 import is_complete, write_frame
from dataloaders.splits import split_scenes
from engine import flags
from engine.cli import run_script
from engine.errors import OptionError
from engine.flags import fraction, given_flags, of_call
from engine.progress import progress
from inference.options import SourceConfig
from inference.sources import open_source
from inference.sources.frames import Source
from tools.check_data.__main__ import main as check_data


@dataclass
class DatasetConfig(SourceConfig):
    """Every flag of this command."""

    TITLE: ClassVar[str] = "output"

    out: str | None = of_call(None, "data root to write", required=True)
    scene: str | None = of_call(None, "folder of the frames in it", unset="the recording's name")
    holdout: float = of_call(
        0.1, "fraction of the recording for the val split, its last frames", type=fraction
    )
    data_set: str = of_call(
        "nyudepth", "whose crops and sizes training will use", choices=tuple(DATA_SETS)
    )
    debug: bool = of_call(False, "full traceback on errors", action="store_true")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; words of a flag are joined by underscores or dashes."""
    return flags.build_parser(__doc__, DatasetConfig, prog="python -m tools.make_dataset")


def convert(source: Source, root: Path, scene: str, holdout: float) -> tuple[int, int, list[str]]:
    """Write the frames of a recording that are not there, and hold the last ones out.

    Args:
        holdout: fraction of the frames, see `dataloaders.splits.split_scenes`.

    Returns:
        How many frames train and val have now, and sentences on frames that were left out.
    """
    train, val = (root / split / scene for split in ("train", "val"))
    # An interrupted run, or one with another fraction, may have put a frame into either split.
    for path in val.glob("[!.]*.h5"):
        train.mkdir(parents=True, exist_ok=True)
        path.replace(train / path.name)
    bad = []
    frames = source.frames(
        skip=lambda name: is_complete(train / f"{name}.h5"),
        report=lambda name, error: bad.append(str(error)),
    )
    for frame in progress(frames, label=scene, unit="frame", total=source.length):
        rgb = np.ascontiguousarray(frame.rgb.transpose(2, 0, 1))
        write_frame(train / f"{frame.name}.h5", rgb, frame.sparse_depth)
    written = sorted(train.glob("[!.]*.h5"))
    if not written:
        raise DataError(
            f"{source.path} holds no frame that can be used{f': {bad[0]}' if bad else ''}"
        )
    _, held = split_scenes(written, holdout)
    for path in held:
        val.mkdir(parents=True, exist_ok=True)
        path.replace(val / path.name)
    return len(written) - len(held), len(held), bad


def main(argv: list[str] | None = None) -> int:
    """Run the command; return 0, or 1 where the census has findings."""
    args = DatasetConfig.of(given_flags(build_parser(), argv))
    if args.source is None:
        raise OptionError("name a recording: --from KIND PATH")
    source, root = open_source(*args.source, **args.options()), Path(args.out)
    scene = args.scene or Path(args.source[1]).resolve().stem
    for note in source.notes:
        print(f"note: {note}")
    train, val, bad = convert(source, root, scene, args.holdout)
    for sentence in bad:
        print(f"left out: {sentence}")
    print(f"{root}: {scene} has {train} train and {counted(val, 'val frame')}")
    return check_data([str(root), "--data_set", args.data_set])


if __name__ == "__main__":
    run_script(main, interrupted="stopped; run it again to go on")
