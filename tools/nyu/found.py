"""Describe in one line what a data root holds of NYU Depth v2; the shell scripts print it."""

from pathlib import Path

from dataloaders import NYUDepthDataset
from dataloaders.errors import DataError
from dataloaders.shards import ShardMember
from dataloaders.splits import SPLITS, has_split, list_frames
from engine.data import DATA_ROOTS

ROOT = DATA_ROOTS["nyudepth"]
COMPLETE = dict(zip(SPLITS, NYUDepthDataset.published_frames, strict=True))
LABELED = 795  # training images of the official labelled file


def describe_root(root: Path) -> str:
    """Return which part of the set `root` holds: complete, labelled or other, files or shards.
    Raises DataError: it holds nothing, or a split that cannot be listed."""
    frames = {s: list_frames(root, s) if has_split(root, s) else [] for s in COMPLETE}
    if not any(frames.values()):
        raise DataError(
            f"{root} holds nothing of NYU Depth v2; python -m tools.nyu download fetches it "
            "(35 GB), python -m sample_data.rooms --root data/sample_rooms renders sample rooms"
        )
    counts = {split: len(of_split) for split, of_split in frames.items()}
    if counts == COMPLETE:
        kind = "the complete set"
    elif counts["train"] == LABELED:
        kind = f"the labelled part ({LABELED} of {COMPLETE['train']:,} training frames)"
    else:
        kind = "a part of the set, or another one"
    sharded = sum(isinstance(f, ShardMember) for of_split in frames.values() for f in of_split)
    form = "files" if not sharded else "tar shards" if sharded == sum(counts.values()) else "both"
    shown = ", ".join(f"{count:,} {split} frames" for split, count in counts.items())
    return f"{root}: {kind}; {shown}, in {form}"
