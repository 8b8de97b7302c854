"""Frames inside tar shards, read where they lie: 35 GB need not become 48,000 small files.

A data root may hold shards called `train-*.tar` and `val-*.tar`, in itself or in `data/`, as the
Hugging Face copy of NYU Depth v2 has them. The shard's name gives the split, the last two parts of
a member's path give scene and frame, whatever folders stand above, so that a frame has the name it
has in an unpacked set (`train/<scene>/<frame>.h5`) and items, draws and order are the same.

Where the members lie is looked up once and kept in the root as a NumPy array, which is mapped into
memory: millions of frames take no time to open, and all processes of a machine share them.
"""

import contextlib
import hashlib
import os
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from dataloaders.errors import DataError

# The digest is of the shards' names, sizes and times: with another one the index is made anew.
INDEX = "shards-{split}-{digest}.npy"
FOLDERS = ("", "data")  # of a root, in which shards are looked for
THREADS = 8  # that list shards at once, since a slow disk answers several requests together
_FIELDS = ("name", "shard", "offset", "size")


def _dtype(width: int) -> np.dtype:
    """Return that of a row of the index; `width` is of the longest name, in bytes."""
    return np.dtype(list(zip(_FIELDS, (f"S{width}", "<i4", "<i8", "<i8"), strict=True)))


def _is_index(table: np.ndarray) -> bool:
    """Return whether a file holds what `_kept` writes."""
    of_frames = table.ndim == 1 and table.dtype.names == _FIELDS and len(table) > 0
    return of_frames and table.dtype == _dtype(table.dtype["name"].itemsize)


def _encoded(name: str) -> bytes:
    """Return a name as the index holds it: with 0 for "/", so that sorting goes by folders."""
    return os.fsencode(name).replace(b"/", b"\0")


def _decoded(name: bytes) -> str:
    return os.fsdecode(name.replace(b"\0", b"/"))


class ShardMember(type(Path())):
    """A frame inside a shard: the path it has when unpacked, and where its bytes are."""

    shard: Path  # the tar file
    offset: int
    size: int

    @classmethod
    def at(cls, path: Path, shard: Path, offset: int, size: int) -> "ShardMember":
        """Return the frame that would be unpacked to `path`."""
        member = cls(path)
        member.shard, member.offset, member.size = shard, offset, size
        return member

    def __reduce__(self) -> tuple:
        return ShardMember.at, (Path(self), self.shard, self.offset, self.size)

    def exists(self, **_) -> bool:
        """Return whether the shard is still there."""
        return self.shard.exists()

    def read_bytes(self) -> bytes:
        """Return the frame's file; raise DataError where the shard has become shorter, OSError
        where it cannot be read."""
        with self.shard.open("rb", buffering=0) as stream:  # one call, of just these bytes
            stream.seek(self.offset)
            data = stream.read(self.size)
        if len(data) != self.size:
            raise DataError(f"{self.shard} is shorter than its index; download it again")
        return data


class ShardFrames(Sequence):
    """The frames of a split's shards: a sequence of `ShardMember`, each made when it is asked for,
    since the paths of millions of frames would take gigabytes in every process.

    Args:
        table: one row per frame, sorted: name below the root (`_encoded`), number of the shard,
            offset and size of the frame's bytes in it. Of a path the array in that file, mapped,
            in every process that this is handed to.
    """

    def __init__(self, root: Path, shards: list[Path], table: np.ndarray | Path):
        self.root, self.shards, self.source = root, shards, table
        self.table = np.load(table, mmap_mode="r") if isinstance(table, Path) else table

    def __reduce__(self) -> tuple:
        return ShardFrames, (self.root, self.shards, self.source)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int | slice | np.ndarray) -> "ShardMember | ShardFrames":
        row = self.table[index]
        if isinstance(row, np.ndarray):
            return ShardFrames(self.root, self.shards, row)
        name, shard, offset, size = row.item()
        return ShardMember.at(self.root / _decoded(name), self.shards[shard], offset, size)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def names(self) -> Iterator[str]:
        """Yield every frame's path below the root, with slashes."""
        return map(_decoded, self.table["name"])

    def find(self, name: str) -> "ShardMember | None":
        """Return the frame of that path below the root, None where there is none."""
        key = _encoded(name)
        index = np.searchsorted(self.table["name"], key)
        found = index < len(self) and self.table["name"][index] == key
        return self[index] if found else None


def find_shards(root: Path, split: str) -> list[Path]:
    """Return the shards of a split in `root`, sorted by name; empty where there are none."""
    return sorted(path for part in FOLDERS for path in (root / part).glob(f"{split}-*.tar"))


def shard_frames(root: Path, split: str) -> ShardFrames:
    """Return the frames of a split's shards, sorted by the name that they have when unpacked.

    Raises:
        DataError: a shard that is damaged, cut off, compressed or without frames, or two members
            of one name.
    """
    shards = find_shards(root, split)
    states = [(s.relative_to(root).as_posix(), s.stat()) for s in shards]
    states = [(name, state.st_size, state.st_mtime_ns) for name, state in states]
    digest = hashlib.sha256(repr(states).encode()).hexdigest()[:16]
    index = root / INDEX.format(split=split, digest=digest)
    with contextlib.suppress(OSError, ValueError, EOFError):  # made anew
        frames = ShardFrames(root, shards, index)
        if _is_index(frames.table):
            return frames
    table = _list_shards(root, split, shards) if shards else np.empty(0, _dtype(1))
    return ShardFrames(root, shards, _kept(table, index, split))


def _list_shards(root: Path, split: str, shards: list[Path]) -> np.ndarray:
    """Return the table of `ShardFrames`."""
    with ThreadPoolExecutor(min(THREADS, len(shards))) as pool:
        parts = list(pool.map(partial(_list_members, split=split), shards))
    for number, part in enumerate(parts):
        part["shard"] = number
    table = np.concatenate(parts)
    table = table[table["name"].argsort(kind="stable")]
    twice = np.flatnonzero(table["name"][1:] == table["name"][:-1])
    if len(twice):
        raise DataError(f"the shards of {root} hold {_decoded(table['name'][twice[0]])} twice")
    return table


def _kept(table: np.ndarray, index: Path, split: str) -> np.ndarray | Path:
    """Write the index beside the shards, in place of older ones, and return its path; `table`
    itself where the root cannot be written, which is then indexed at each start."""
    part = index.with_name(f".{index.name}.{os.getpid()}.part")
    try:
        older = set(index.parent.glob(INDEX.format(split=split, digest="*"))) - {index}
        with part.open("wb") as stream:
            np.save(stream, table)
        part.replace(index)
        for path in older:
            path.unlink(missing_ok=True)
        return index
    except OSError:
        part.unlink(missing_ok=True)
        return table


def _list_members(shard: Path, split: str) -> np.ndarray:
    """Return the rows of a shard's frames, `shard` not yet set. Hidden and other files, links,
    which lead elsewhere, pipes and devices are none."""
    members = []
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if member.isreg() and path.suffix == ".h5" and not path.name.startswith("."):
                    scene = path.parent.name or shard.stem
                    name = _encoded(f"{split}/{scene}/{path.name}")
                    members.append((name, 0, member.offset_data, member.size))
            archive.members.clear()  # which it would keep, all of them
            end = archive.offset
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise DataError(
            f"{shard} is damaged, cut off or compressed ({error}); download it again, or unpack it"
        ) from error
    size = shard.stat().st_size
    if any(offset + length > size for *_, offset, length in members) or end > size:
        raise DataError(f"{shard} is cut off after {size} bytes; download it again")
    if not members:
        raise DataError(f"{shard} holds no .h5 file")
    return np.array(members, _dtype(max(len(name) for name, *_ in members)))
