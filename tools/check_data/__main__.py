"""Take a census of a data set before training: counts, shapes, values, every bad file by name.

    python -m tools.check_data data/nyudepth_hdf5 --out findings.csv

reads every frame of `train/` and `val/` once, in all CPU cores. Depth is in metres, 0 = no
measurement. A finding is a file that would stop training or falsify it:

    unreadable       not a readable HDF5 file
    crash            reading it kills the process that reads
    contract         not rgb (3, H, W) uint8 and depth (H, W) float, finite, 0 or more
    too_small        smaller than the crop of the data set
    no_depth         not one measurement
    depth_range      depth beyond what the sensor measures: other units?
    duplicate        the same rgb and depth as an earlier frame of its split
    train_in_val     a training frame that is also in val
    link             a link that leads out of the folder, or to a folder
    stray            a file that is no frame

A set that lacks frames is none: counts beside those of a complete copy are a note.
"""

from pathlib import Path

import pandas as pd

from dataloaders.datasets import DATA_SETS, data_set_of, published_size
from dataloaders.errors import counted
from dataloaders.splits import SPLITS
from engine.cli import run_script
from engine.flags import command_parser
from tools.check_data.census import Census, take_census

SHOWN = 20  # findings on the screen
GROUPS = 6  # rows per split, of frames of one size and type


def summary(census: Census) -> str:
    """Return the table of splits, notes on counts, and the number of findings of each kind."""
    total = len(census.frames)
    present = census.frames.groupby("split", observed=True)
    rows = [row for split, frames in present for row in _split_rows(split, frames)]
    lines = [
        f"{census.root} as {census.data_set}: {counted(total, 'frame')} read in "
        f"{census.seconds:.1f} s, {total / census.seconds:.0f} a second",
        pd.DataFrame(rows).fillna("").to_string(index=False),
    ]
    for split, frames in present:
        complete = published_size(census.data_set, split)
        found = f"{len(frames):,}"
        if "folder" in complete:
            found += f" in {counted(_folders(frames), 'folder')}"
        if found != complete:
            lines.append(f"note: {split} has {found}; a complete {census.data_set} has {complete}")
    absent = [split for split in SPLITS if split not in present.groups]
    lines += [f"note: there is no frame in {split}/" for split in absent]
    kinds = census.findings["what"].value_counts().sort_index()
    counts = ", ".join(f"{count:,} {what}" for what, count in kinds.items())
    return "\n".join([*lines, f"findings: {counts or 'none'}"])


def _folders(frames: pd.DataFrame) -> int:
    return len({path.parent for path in frames["path"]})


def _split_rows(split: str, frames: pd.DataFrame) -> list[dict[str, str]]:
    """Return a row per split, with a further one for each further size and type of depth."""
    good = frames[frames["what"] == ""]
    rows = []
    for _, group in sorted(good.groupby(["height", "width", "dtype"]), key=lambda g: -len(g[1])):
        first, holes = group.iloc[0], 100 * group["holes"]
        count = f" ({len(group):,})" if len(group) < len(good) else ""
        row = {"pixels": f"{first.height}x{first.width}{count}", "depth": first["dtype"]}
        if group["nearest"].notna().any():
            row["metres"] = f"{group['nearest'].min():.2f} to {group['farthest'].max():.2f}"
        span = f"({holes.min():.1f} to {holes.max():.1f})"
        row["holes, mean (least to most)"] = f"{holes.mean():.1f} % {span}"
        rows.append(row)
    counts = {"split": split, "frames": f"{len(frames):,}", "folders": f"{_folders(frames):,}"}
    counts["unusable"] = f"{len(frames) - len(good):,}"
    return [counts | (rows[0] if rows else {}), *rows[1:GROUPS]]


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0 clean, 1 findings."""
    parser = command_parser("tools.check_data", __doc__)
    add = parser.add_argument
    add("root", metavar="ROOT", help="folder of the data set, with train/ and val/")
    help_text = "(default: by the folder's name, nyudepth where that does not tell)"
    add("--data_set", choices=tuple(DATA_SETS), help=help_text)
    add("--num_workers", type=int, help="processes (default: one per CPU core)")
    add("--out", metavar="FILE", help="CSV of the findings: path, split, what, expected, got")
    args = parser.parse_args(argv)
    data_set = args.data_set or data_set_of(Path(args.root)) or "nyudepth"
    if args.out:  # a folder that cannot be written to shows before
        Path(args.out).touch()
    census = take_census(args.root, data_set, workers=args.num_workers)
    if args.out:
        # Names that are no text in this system's encoding are written with escapes.
        census.findings.to_csv(args.out, index=False, errors="backslashreplace")
    print(summary(census))
    for finding in census.findings.head(SHOWN).itertuples():
        print(f"  {finding.what}: {finding.path}: {finding.got}, expected {finding.expected}")
    if len(census.findings) > SHOWN:
        more = len(census.findings) - SHOWN
        print(f"  and {more:,} more" + ("" if args.out else "; --out FILE lists them all"))
    if args.out:
        print(f"written to {args.out}")
    return 1 if len(census.findings) else 0


if __name__ == "__main__":
    run_script(main, interrupted="Interrupted.")
