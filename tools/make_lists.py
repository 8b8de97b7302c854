"""Writes the list files of a data set: CSV with the header `Name`, one path a row.

    python -m tools.make_lists data/kitti_hdf5 --cameras left --out data/lists

writes `<out>/<folder name>_train.csv` and `_val.csv`, paths relative to the folder, for
`--train_list` and `--eval_list`. Hidden files are left out: they are unfinished copies.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

from dataloaders.errors import DataError
from dataloaders.splits import list_frames
from engine.cli import run_script

SPLITS = ("train", "val")
CAMERAS = {"left": "-L", "right": "-R"}

# Frames of a complete copy, and what the data set is recognised by in a folder's name.
PUBLISHED = {
    "nyudepth": {"train": "47,584 in 280 folders", "val": "654"},
    "kitti": {"train": "46,402", "val": "40,702"},
}
_NAMES = {"nyu": "nyudepth", "kitti": "kitti"}


def data_set_of(root: Path) -> str | None:
    """The data set that the folder's name tells of, None where it does not."""
    name = root.resolve().name.lower()
    return next((data_set for part, data_set in _NAMES.items() if part in name), None)


def frame_names(root: str | Path, split: str, cameras: str = "both") -> list[str]:
    """Paths of a split's frames relative to the root, sorted, with forward slashes.

    Args:
        root: folder with `<split>/<scene>/*.h5`.
        split: "train" or "val".
        cameras: "left" and "right" keep files that end in -L or -R; "both" keeps all.

    Raises:
        DataError: no such folder, or no frame that qualifies.
    """
    root = Path(root)
    frames = [path.relative_to(root) for path in list_frames(root, split)]
    if cameras != "both":
        frames = [path for path in frames if path.stem.endswith(CAMERAS[cameras])]
        if not frames:
            raise DataError(
                f"{root / split} holds no file of the {cameras} camera (*{CAMERAS[cameras]}.h5)"
            )
    return sorted(path.as_posix() for path in frames)


def write_list(path: str | Path, names: list[str]) -> None:
    """Writes a list file; it appears under its name only when it is complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["Name"])
            writer.writerows([name] for name in names)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of `python -m tools.make_lists`."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.make_lists",
        description="Writes CSV lists of the frames of a data set.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("root", metavar="ROOT", help="folder of the data set, with train/ and val/")
    add(
        "--split",
        choices=(*SPLITS, "both"),
        default="both",
        help="which lists (default %(default)s)",
    )
    add(
        "--cameras",
        choices=("both", *CAMERAS),
        default="both",
        help="KITTI: files ending in -L (left), -R (right), or both (default %(default)s)",
    )
    add(
        "--data_set",
        choices=tuple(PUBLISHED),
        default=None,
        help="whose published counts to print (default: by the folder's name)",
    )
    add("--out", metavar="DIR", required=True, help="folder of the lists, made if missing")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    args = parse_args(argv)
    root, out = Path(args.root), Path(args.out)
    name = root.resolve().name
    data_set = args.data_set or data_set_of(root)
    splits = SPLITS if args.split == "both" else (args.split,)
    # Both splits are read before anything is written: no list of half a data set.
    found = {split: frame_names(root, split, args.cameras) for split in splits}
    for split, names in found.items():
        path = out / f"{name}_{split}.csv"
        write_list(path, names)
        folders = len({entry.rpartition("/")[0] for entry in names})
        line = f"{path}: {len(names):,} {split} frames in {folders} folders"
        if data_set:
            line += f" (a complete {data_set}: {PUBLISHED[data_set][split]})"
        print(line)


if __name__ == "__main__":
    run_script(main)
