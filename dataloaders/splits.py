"""Which frames belong to a split: a walk through its folders, shards, a list, held-out scenes."""

import csv
import os
from collections.abc import Iterator, Sequence
from itertools import compress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from dataloaders.errors import DataError, printable
from dataloaders.shards import ShardFrames, find_shards, shard_frames

SPLITS = ("train", "val")
FRAME_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")


def list_frames(root: Path, split: str, file_list: Path | None = None) -> Sequence[Path]:
    """Return the frames of a split, in a fixed order: a list, or the `ShardFrames` of its shards.

    The root, and `train/` and `val/` in it, may be links; what lies below them may not lead out
    of them, and a walk follows no linked folder, so that nothing is left out or read unseen.

    Args:
        root: data root, holding `<split>/` with one folder per scene, or tar shards of the split
            (`dataloaders.shards`), which are read where that folder is not.
        split: "train" or "val".
        file_list: CSV with the header `Name` and one path per line, relative to `root` (leading
            folders up to and including the root's own may be written out). None walks the folder.

    Raises:
        DataError: no such root or list, an empty list, a listed file that is not under root or is
            listed twice, a linked folder, or a link that leads out of the root.
    """
    _check_folder(root)
    if file_list is not None:
        return _read_list(root, file_list)
    if not has_split(root, split):
        raise DataError(f"data root {root} has no folder {split}/, nor shards {split}-*.tar")
    if not (root / split).is_dir():
        return shard_frames(root, split)
    frames = []
    for path, problem in walk_frames(root, split):
        if problem is None:
            frames.append(path)
        elif problem.what != "stray":
            raise DataError(f"{path} {problem.got}{problem.remedy}")
    if not frames:
        raise DataError(f"{root / split} holds no {FRAME_SUFFIXES[0]} file")
    return sorted(frames)


def has_split(root: Path, split: str) -> bool:
    """Return whether a data root holds a split, as a folder or as shards."""
    return (root / split).is_dir() or bool(find_shards(root, split))


def present_splits(root: Path) -> list[str]:
    """Return those of `SPLITS` that a data root has; raise DataError where it has none."""
    _check_folder(root)
    splits = [split for split in SPLITS if has_split(root, split)]
    if not splits:
        raise DataError(f"data root {root} has neither a folder train/ nor val/")
    return splits


def _check_folder(root: Path) -> None:
    if not root.is_dir():
        raise DataError(f"data root {root} is not a folder")


class Problem(NamedTuple):
    """Why a file or folder of a data set is no frame; `got` is the predicate of a sentence."""

    what: str  # link, stray or unreadable
    expected: str
    got: str
    remedy: str = ""


def walk_frames(root: Path, split: str) -> Iterator[tuple[Path, Problem | None]]:
    """Yield every file below a split that is not hidden, None beside those that are frames; where
    the split has no folder, its shards' frames."""
    folder, bounds = root / split, RootBounds(root)
    if not folder.is_dir():
        yield from ((member, None) for member in shard_frames(root, split))
        return
    failed: list[OSError] = []  # folders that cannot be listed, which os.walk would leave out
    for parent, folders, files in os.walk(folder, onerror=failed.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in filter(Path.is_symlink, (Path(parent, name) for name in folders)):
            remedy = f", which is not followed; link {folder} as a whole, or list its frames"
            yield path, Problem("link", "a folder", "is a link to a folder", remedy)
        for path in (Path(parent, name) for name in files if not name.startswith(".")):
            if path.suffix.lower() not in FRAME_SUFFIXES:
                yield path, Problem("stray", "frames (*.h5)", f"is called {path.name}")
            elif path.is_symlink() and not bounds.contain(path):
                got = f"is a link that leads out of {root}"
                yield path, Problem("link", "a file below the data root", got, ", which is refused")
            elif not path.is_file():  # reading a pipe would wait for ever
                yield path, Problem("unreadable", "a file", "is not a file")
            else:
                yield path, None
    for error in failed:
        got = f"is a folder that cannot be read: {error.strerror}"
        yield Path(error.filename), Problem("unreadable", "a folder", got)


class RootBounds:
    """Where frames of a root may lie: in it, and where its own train/ and val/ lead."""

    def __init__(self, root: Path):
        self.allowed = {(root / name).resolve() for name in ("", *SPLITS)}
        self.parents: dict[Path, Path] = {}

    def contain(self, path: Path) -> bool:
        """Return whether a file lies inside once every link is followed."""
        # Resolving looks at each folder of a path: once per folder is enough for its files.
        if path.parent not in self.parents:
            self.parents[path.parent] = path.parent.resolve()
        real = path.resolve() if path.is_symlink() else self.parents[path.parent] / path.name
        return any(real.is_relative_to(folder) for folder in self.allowed)


def split_roots(
    frames: Sequence[Path], roots: Sequence[Path], fraction: float
) -> tuple[Sequence[Path], Sequence[Path]]:
    """Set scenes aside as `split_scenes` does, of each of the roots that `frames` lie in by itself;
    a frame is held out once, however often its root is named."""
    if isinstance(frames, ShardFrames):
        return split_scenes(frames, fraction)
    stay: list[Path] = []
    held_out: list[Path] = []
    for root in dict.fromkeys(roots):
        parts = split_scenes([f for f in frames if f.is_relative_to(root)], fraction)
        stay += parts[0]
        held_out += dict.fromkeys(parts[1])
    return stay, held_out


def split_scenes(frames: Sequence[Path], fraction: float) -> tuple[Sequence[Path], Sequence[Path]]:
    """Set whole scenes (folders) of a split aside, so that none is in both parts: return the frames
    that stay and those held out, each in the given order; raise DataError if nothing would stay.

    A single scene, such as NYU's labelled set, is cut in two: its last frames are held out, since
    neighbours in their sorted names show nearly the same.

    Args:
        fraction: of the scenes to hold out, 0..1; at least one where it is not 0. They are spread
            evenly over the sorted names, the same every time. Of a single scene, of its frames.
    """
    sharded = isinstance(frames, ShardFrames)
    names = list(frames.names()) if sharded else frames
    scene_of = [name.rpartition("/")[0] for name in names] if sharded else [f.parent for f in names]
    scenes = sorted(set(scene_of))
    units, unit_of = (scenes, scene_of) if len(scenes) > 1 else (sorted(names), names)
    count = max(1, round(fraction * len(units))) if fraction > 0 else 0
    if count >= len(units):
        raise DataError(
            f"cannot hold out {count} of {len(scenes)} scenes ({len(frames)} frames) and train on "
            "the rest"
        )
    evenly = (units[i * len(units) // count] for i in range(count))
    aside = set(evenly if units is scenes else units[len(units) - count :])
    held_out = np.array([unit in aside for unit in unit_of], bool)
    if sharded:
        return frames[~held_out], frames[held_out]
    return list(compress(frames, ~held_out)), list(compress(frames, held_out))


def _read_list(root: Path, file_list: Path) -> list[Path]:
    try:
        # Spreadsheets write a mark before the first letter, which utf-8-sig drops.
        with file_list.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            if "Name" not in (reader.fieldnames or []):
                raise DataError(f"list {file_list} has no column Name")
            names = [row["Name"] for row in reader if row["Name"]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"list {file_list} cannot be read: {error}") from error
    if not names:
        raise DataError(f"list {file_list} is empty")
    bounds = RootBounds(root)
    members = [shard_frames(root, split) for split in SPLITS if find_shards(root, split)]
    frames: dict[Path, None] = {}
    for name in names:
        path = _resolve(root, name, file_list, bounds, members)
        # A frame that stands twice would count twice in a mean over the list.
        if path in frames:
            raise DataError(f"{file_list} names {printable(name)} twice")
        frames[path] = None
    return list(frames)


def _resolve(
    root: Path, name: str, file_list: Path, bounds: RootBounds, members: list[ShardFrames]
) -> Path:
    """Return the file, or the member of a shard, that a list names by `name`, below `root`.

    Published lists begin with folders of their authors' machines, which are dropped one by one
    until the rest exists. Nothing outside the root is ever opened.
    """
    text = name.strip().replace("\\", "/")
    # No path of any system is longer; looking for it would fail with the system's own error.
    parts = PurePosixPath(text).parts if len(text) < 4096 and "\0" not in text else ()
    for start in range(len(parts)):
        rest = parts[start:]
        if ".." in rest or rest[0].startswith("/"):
            continue
        path = root.joinpath(*rest)
        try:
            found = path.is_file()
        except (OSError, ValueError):  # a part too long for the file system
            continue
        if found and not bounds.contain(path):
            raise DataError(f"{file_list} names {printable(name)}, a link that leads out of {root}")
        if found:
            return path
        for member in filter(None, (frames.find("/".join(rest)) for frames in members)):
            return member
    raise DataError(f"{file_list} names {printable(name)}, which is not under {root}")
