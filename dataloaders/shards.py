"""Frames inside tar shards, read where they lie: 35 GB need not become 48,000 small files.

A data root may hold shards called `train-*.tar` and `val-*.tar`, in itself or in `data/`, as the
Hugging Face copy of NYU Depth v2 has them. The shard's name gives the split, the last two parts of
a member's path give scene and frame, whatever folders stand above, so that a frame has the name it
has in an unpacked set (`train/<scene>/<frame>.h5`) and items, draws and order are the same.

Where the members lie is looked up once and kept in `shards.csv` in the root.
"""

import os
import tarfile
from pathlib import Path, PurePosixPath

import pandas as pd

from dataloaders.errors import DataError

INDEX = "shards.csv"
FOLDERS = ("", "data")  # of a root, in which shards are looked for
_COLUMNS = ["shard", "bytes", "mtime_ns", "name", "offset", "size"]


class ShardMember(type(Path())):
    """A frame inside a shard: the path it has when unpacked, and where its bytes are.

    Attributes:
        shard: the tar file. offset, size: of the frame's bytes in it.
    """

    shard: Path
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
        """Return the frame's file, read by one call at its offset.

        Raises:
            DataError: the shard has become shorter. OSError: it cannot be read.
        """
        descriptor = os.open(self.shard, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            if hasattr(os, "pread"):
                data = os.pread(descriptor, self.size, self.offset)
            else:
                os.lseek(descriptor, self.offset, os.SEEK_SET)
                data = os.read(descriptor, self.size)
        finally:
            os.close(descriptor)
        if len(data) != self.size:
            raise DataError(f"{self.shard} is shorter than its index; download it again")
        return data


def find_shards(root: Path, split: str) -> list[Path]:
    """Return the shards of a split in `root`, sorted by name; empty where there are none."""
    return sorted(path for part in FOLDERS for path in (root / part).glob(f"{split}-*.tar"))


def shard_frames(root: Path, split: str) -> list[Path]:
    """Return the frames of a split's shards, sorted by the name that they have when unpacked.

    Raises:
        DataError: a shard that is damaged, cut off, compressed or without frames, or two members
            of one name.
    """
    shards = find_shards(root, split)
    known = _read_index(root)
    parts, changed = [], False
    for shard in shards:
        name, state = shard.relative_to(root).as_posix(), shard.stat()
        rows = known[known["shard"] == name]
        is_current = (rows["bytes"] == state.st_size) & (rows["mtime_ns"] == state.st_mtime_ns)
        if rows.empty or not is_current.all():
            members = _list_members(shard, split)
            rows = pd.DataFrame(members, columns=_COLUMNS[3:])
            rows.insert(0, "shard", name)
            rows.insert(1, "bytes", state.st_size)
            rows.insert(2, "mtime_ns", state.st_mtime_ns)
            known = pd.concat([known[known["shard"] != name], rows])
            changed = True
        parts.append(rows)
    if changed:
        _write_index(root, known)
    frames = pd.concat(parts)
    twice = frames["name"][frames["name"].duplicated()]
    if not twice.empty:
        raise DataError(f"the shards of {root} hold {twice.iloc[0]} twice")
    return [
        ShardMember.at(root / row.name_, root / row.shard, row.offset, row.size)
        for row in frames.rename(columns={"name": "name_"}).sort_values("name_").itertuples()
    ]


def _list_members(shard: Path, split: str) -> list[tuple[str, int, int]]:
    """Return (name, offset, size) of every frame in a shard; hidden and other files are no frames.

    Links, which lead elsewhere, and pipes and devices are no frames either.
    """
    members = []
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if member.isreg() and path.suffix == ".h5" and not path.name.startswith("."):
                    scene = path.parent.name or shard.stem
                    members.append(
                        (f"{split}/{scene}/{path.name}", member.offset_data, member.size)
                    )
            end = archive.offset
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise DataError(
            f"{shard} is damaged, cut off or compressed ({error}); download it again, or unpack it"
        ) from error
    size = shard.stat().st_size
    if any(offset + length > size for _, offset, length in members) or end > size:
        raise DataError(f"{shard} is cut off after {size} bytes; download it again")
    if not members:
        raise DataError(f"{shard} holds no .h5 file")
    return members


def _read_index(root: Path) -> pd.DataFrame:
    """Return the kept index; empty where there is none or it cannot be used."""
    try:
        index = pd.read_csv(root / INDEX)
        if list(index.columns) == _COLUMNS:
            return index
    except (OSError, ValueError):  # made anew
        pass
    return pd.DataFrame(columns=_COLUMNS)


def _write_index(root: Path, index: pd.DataFrame) -> None:
    """Keep the index beside the shards; a root that cannot be written is indexed at each start."""
    part = root / f".{INDEX}.{os.getpid()}.part"
    try:
        index.to_csv(part, index=False)
        part.replace(root / INDEX)
    except OSError:
        part.unlink(missing_ok=True)
