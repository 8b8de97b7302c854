"""Get NYU Depth v2, convert its official file, or convert a folder of images and depth.

    python -m tools.nyu download                    # 35 GB from the Hugging Face hub, as tar shards
    python -m tools.nyu labeled nyu_depth_v2_labeled.mat splits.mat
    python -m tools.nyu folder nyu2_test --out data/mine
    python -m tools.nyu found                       # what a data root holds, in one line

The first three end with the census of `tools.check_data`. What was interrupted goes on when it is
run again.
"""

import argparse
from pathlib import Path

from dataloaders.splits import SPLITS
from engine.cli import run_script
from engine.flags import command_parser
from tools.check_data.__main__ import main as check_data
from tools.nyu.download import download
from tools.nyu.folder import LAYOUTS, convert_folder
from tools.nyu.found import ROOT, describe_root
from tools.nyu.labeled import convert_labeled


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all four commands."""
    parser = command_parser("tools.nyu", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, meaning: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=meaning, description=meaning, allow_abbrev=False)
        added.add_argument("--debug", action="store_true", help="full traceback on errors")
        return added

    sub = command("download", "fetch the shards of the public copy on the Hugging Face hub")
    sub.add_argument("--split", choices=(*SPLITS, "all"), default="all", help="(default all)")
    sub.add_argument("--out", default=ROOT, help=f"data root (default {ROOT})")

    sub = command("labeled", "convert the 1,449 frames of NYU's official labelled file")
    sub.add_argument("mat", metavar="LABELED.mat", help="nyu_depth_v2_labeled.mat (2.8 GB)")
    sub.add_argument("splits", metavar="SPLITS.mat", help="splits.mat: trainNdxs and testNdxs")
    sub.add_argument("--out", default=ROOT, help=f"data root (default {ROOT})")

    known = ", ".join(f"{rgb} + {depth}" for rgb, depth, _ in LAYOUTS)
    sub = command("folder", f"convert images and depth maps in one tree; known: {known}")
    sub.add_argument("source", metavar="FOLDER", help="tree of images and depth maps")
    sub.add_argument("--out", required=True, help="data root to write")
    meaning = "images, such as 'rgb_{}.jpg' (default: known)"
    sub.add_argument("--rgb", metavar="PATTERN", help=meaning)
    sub.add_argument("--depth", metavar="PATTERN", help="their depth, such as 'depth_{}.png'")
    meaning = "metres = value / scale (1000 for millimetres; default: that of a known layout)"
    sub.add_argument("--depth-scale", "--depth_scale", type=float, help=meaning)
    meaning = "fraction of the scenes (of one scene's last frames) for the val split (default 0.1)"
    sub.add_argument("--val", type=float, default=0.1, help=meaning)

    sub = command("found", "describe what a data root holds")
    sub.add_argument("root", nargs="?", default=ROOT, help=f"data root (default {ROOT})")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns 0, or 1 where the census has findings."""
    args = build_parser().parse_args(argv)
    if args.command == "found":
        print(describe_root(Path(args.root)))
        return 0
    out = Path(args.out)
    if args.command == "download":
        download(out, SPLITS if args.split == "all" else (args.split,))
    elif args.command == "labeled":
        convert_labeled(Path(args.mat), Path(args.splits), out)
    else:
        patterns = {"rgb": args.rgb, "depth": args.depth, "scale": args.depth_scale}
        convert_folder(Path(args.source), out, **patterns, val=args.val)
    return check_data([str(out), "--data_set", "nyudepth"])


if __name__ == "__main__":
    run_script(main, interrupted="stopped; run it again to go on")
