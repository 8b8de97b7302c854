"""Write the list files of a data set: CSV with the header `Name`, one path per line.

    python -m tools.make_lists data/kitti_hdf5 --cameras left --out data/lists

writes `<out>/<folder name>_train.csv` and `_val.csv`, paths relative to the folder, for
`--train_list` and `--eval_list`. Hidden files are left out: they are unfinished copies.
"""

from pathlib import Path

import pandas as pd

from dataloaders.datasets import DATA_SETS, KITTIDepthDataset, data_set_of, published_size
from dataloaders.errors import DataError, counted
from dataloaders.splits import SPLITS, list_frames
from engine.cli import run_script
from engine.files import whole_file
from engine.flags import command_parser

CAMERAS = dict(KITTIDepthDataset.cameras)


def frame_names(root: str | Path, split: str, cameras: str = "both") -> list[str]:
    """Return the paths of a split's frames relative to the root, sorted, with forward slashes.

    `cameras` "left" and "right" keep files that end in -L or -R; "both" keeps all. Raise DataError
    where there is no folder `root/split`, or no frame that qualifies.
    """
    root = Path(root)
    frames = list_frames(root, split)
    if cameras != "both":
        end = CAMERAS[cameras]
        frames = [path for path in frames if path.stem.endswith(end)]
        if not frames:
            raise DataError(f"{root / split} holds no file of the {cameras} camera (*{end}.h5)")
    return sorted(path.relative_to(root).as_posix() for path in frames)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = command_parser("tools.make_lists", __doc__)
    add = parser.add_argument
    add("root", metavar="ROOT", help="folder of the data set, with train/ and val/")
    splits, cameras = (*SPLITS, "both"), ("both", *CAMERAS)
    add("--split", choices=splits, default="both", help="which lists (default both)")
    help_text = "KITTI: files ending in -L (left), -R (right), or both (default both)"
    add("--cameras", choices=cameras, default="both", help=help_text)
    help_text = "whose published counts to print (default: by the folder's name)"
    add("--data_set", choices=tuple(DATA_SETS), help=help_text)
    add("--out", metavar="DIR", required=True, help="folder of the lists, made if missing")
    args = parser.parse_args(argv)
    root, out = Path(args.root), Path(args.out)
    name = root.resolve().name
    data_set = args.data_set or data_set_of(root)
    splits = SPLITS if args.split == "both" else (args.split,)
    # Both splits are read before anything is written: no list of half a data set.
    found = {split: frame_names(root, split, args.cameras) for split in splits}
    out.mkdir(parents=True, exist_ok=True)
    for split, names in found.items():
        path = out / f"{name}_{split}.csv"
        with whole_file(path) as part:
            pd.DataFrame({"Name": names}).to_csv(part, index=False)
        folders = counted(len({entry.rpartition("/")[0] for entry in names}), "folder")
        line = f"{path}: {len(names):,} {split} frames in {folders}"
        if data_set:
            line += f" (a complete {data_set}: {published_size(data_set, split)})"
        print(line)


if __name__ == "__main__":
    run_script(main)
