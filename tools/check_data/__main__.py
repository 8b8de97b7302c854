"""A census of a data set before training: counts, shapes, values, and every bad file by name.

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

from __future__ import annotations

import argparse
import csv
import statistics
from collections import Counter
from dataclasses import astuple, fields
from pathlib import Path

from dataloaders.datasets import DATA_SETS
from engine.cli import run_script
from tools.check_data.census import Census, Finding, Frame, take_census
from tools.make_lists import PUBLISHED, SPLITS, data_set_of

# Findings that the screen shows.
SHOWN = 20


def summary(census: Census) -> str:
    """The table of splits, the notes on counts, and the number of findings of each kind."""
    total = sum(map(len, census.frames.values()))
    lines = [
        f"{census.root} as {census.data_set}: {total:,} frames read in {census.seconds:.1f} s, "
        f"{total / census.seconds:.0f} a second",
        f"{'split':<6}{'frames':>8}{'folders':>9}{'unusable':>10}  {'pixels':<18}{'depth':<9}"
        f"{'metres':<17}holes, mean (least to most)",
    ]
    for split, frames in census.frames.items():
        lines += _split_rows(split, frames)
    for split, frames in census.frames.items():
        folders = len({frame.path.parent for frame in frames})
        published = PUBLISHED[census.data_set][split]
        count = f"{len(frames):,}" + (f" in {folders} folders" if "folder" in published else "")
        if count != published:
            lines.append(f"note: {split} has {count}; a complete {census.data_set} has {published}")
    missing = [split for split in SPLITS if split not in census.frames]
    lines += [f"note: there is no folder {split}/" for split in missing]
    kinds = Counter(finding.what for finding in census.findings)
    counts = ", ".join(f"{count:,} {what}" for what, count in sorted(kinds.items()))
    lines.append(f"findings: {counts or 'none'}")
    return "\n".join(lines)


def _split_rows(split: str, frames: list[Frame]) -> list[str]:
    """A row a split, with a further one for each further size and type of depth."""
    good = [frame for frame in frames if not frame.problem]
    groups = Counter((frame.size, frame.dtype) for frame in good).most_common(6)
    rows = []
    for i, ((size, dtype), count) in enumerate(groups or [(((0, 0), ""), 0)]):
        of_group = [frame for frame in good if (frame.size, frame.dtype) == (size, dtype)]
        start = f"{'':<33}"
        if i == 0:
            folders = len({frame.path.parent for frame in frames})
            start = f"{split:<6}{len(frames):>8,}{folders:>9,}{len(frames) - len(good):>10,}"
        measured = [frame for frame in of_group if frame.holes < 1]
        if not measured:
            rows.append(start)
            continue
        nearest, farthest = min(f.nearest for f in measured), max(f.farthest for f in measured)
        holes = [100 * frame.holes for frame in of_group]
        pixels = f"{size[0]}x{size[1]}" + (f" ({count:,})" if len(groups) > 1 else "")
        rows.append(
            f"{start}  {pixels:<18}{dtype:<9}{f'{nearest:.2f} to {farthest:.2f}':<17}"
            f"{statistics.fmean(holes):.1f} % ({min(holes):.1f} to {max(holes):.1f})"
        )
    return rows


def write_findings(path: Path, findings: list[Finding]) -> None:
    """A CSV row a finding; a header alone where there is none."""
    # Names that are no text in this system's encoding are written with escapes.
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        writer = csv.writer(stream)
        writer.writerow([column.name for column in fields(Finding)])
        writer.writerows(map(astuple, findings))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of `python -m tools.check_data`."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.check_data",
        description="Reads every frame of a data set and names what would hurt training.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("root", metavar="ROOT", help="folder of the data set, with train/ and val/")
    add(
        "--data_set",
        choices=tuple(DATA_SETS),
        help="(default: by the folder's name, nyudepth where that does not tell)",
    )
    add("--num_workers", type=int, help="processes (default: one a CPU core)")
    add("--out", metavar="FILE", help="CSV of the findings: path, split, what, expected, got")
    add("--debug", action="store_true", help="full traceback on errors (default off)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0 clean, 1 findings."""
    args = parse_args(argv)
    data_set = args.data_set or data_set_of(Path(args.root)) or "nyudepth"
    if args.out:
        write_findings(Path(args.out), [])  # a folder that cannot be written to shows before
    census = take_census(args.root, data_set, workers=args.num_workers)
    if args.out:
        write_findings(Path(args.out), census.findings)
    print(summary(census))
    for finding in census.findings[:SHOWN]:
        print(f"  {finding.what}: {finding.path}: {finding.got}, expected {finding.expected}")
    if len(census.findings) > SHOWN:
        more = len(census.findings) - SHOWN
        print(f"  and {more:,} more" + ("" if args.out else "; --out FILE lists them all"))
    if args.out:
        print(f"written to {args.out}")
    return 1 if census.findings else 0


if __name__ == "__main__":
    run_script(main, interrupted="Interrupted.")
