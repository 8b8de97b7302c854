"""Frames on disk: which files belong to a split, and one checked frame out of a file.

A frame is one HDF5 file with `rgb` (3, H, W) uint8 and `depth` (H, W) float metres, 0 = no
measurement. Every failure is a `DataError` of one sentence that names the file.
"""

import contextlib
import csv
import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import h5py
import numpy as np

from dataloaders.errors import DataError
from dataloaders.units import check_metres


def list_frames(root: Path, split: str, file_list: Path | None = None) -> list[Path]:
    """The frames of a split, in a fixed order.

    The root, and `train/` and `val/` in it, may be links; what lies below them may not lead out
    of them, and a walk follows no linked folder, so that nothing is left out or read unseen.

    Args:
        root: data root, holding `<split>/` with one folder a scene.
        split: "train" or "val".
        file_list: CSV with the header `Name` and one path a row, relative to `root` (leading
            folders up to and including the root's own may be written out). None walks the folder.

    Raises:
        DataError: no such root or list, an empty list, a listed file that is not under root or is
            listed twice, a linked folder, or a link that leads out of the root.
    """
    if not root.is_dir():
        raise DataError(f"data root {root} is not a folder")
    if file_list is not None:
        return _read_list(root, file_list)
    folder = root / split
    if not folder.is_dir():
        raise DataError(f"data root {root} has no folder {split}/")
    frames, places = [], Places(root)
    for parent, folders, files in os.walk(folder, onerror=_refuse_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(parent, name) for name in folders):
            if path.is_symlink():
                raise DataError(
                    f"{path} is a link to a folder, which is not followed; link {folder} as a "
                    "whole, or name its frames in a list"
                )
        for name in files:
            if name.endswith(".h5") and not name.startswith("."):
                path = Path(parent, name)
                if path.is_symlink() and not places.hold(path):
                    raise DataError(f"{path} is a link that leads out of {root}, which is refused")
                if not path.is_file():  # reading a pipe would wait for ever
                    raise DataError(f"{path} is not a file")
                frames.append(path)
    if not frames:
        raise DataError(f"{folder} holds no .h5 file")
    return sorted(frames)


def _refuse_unreadable(error: OSError) -> None:
    # A folder that cannot be listed would otherwise be left out without a word.
    raise DataError(f"folder {error.filename} cannot be read: {error.strerror}") from error


class Places:
    """Where frames of a root may lie: in it, and where its own train/ and val/ lead."""

    def __init__(self, root: Path):
        self.allowed = {(root / name).resolve() for name in ("", "train", "val")}
        self.parents: dict[Path, Path] = {}

    def hold(self, path: Path) -> bool:
        """Whether a file lies in one of them once every link is followed."""
        # Resolving a path asks for each of its folders: once a folder is enough for its files.
        if path.parent not in self.parents:
            self.parents[path.parent] = path.parent.resolve()
        real = path.resolve() if path.is_symlink() else self.parents[path.parent] / path.name
        return any(real.is_relative_to(place) for place in self.allowed)


def split_scenes(frames: list[Path], share: float) -> tuple[list[Path], list[Path]]:
    """Set whole scenes (folders) aside, so that no room is in both parts.

    Args:
        frames: of one split. share: of the scenes to hold out, 0..1; at least one where it is
            not 0. The scenes are spread evenly over their sorted names, the same ones every time.

    Returns:
        The frames that stay and those held out, each in the given order.

    Raises:
        DataError: fewer than two scenes, or nothing would stay.
    """
    scenes = sorted({frame.parent for frame in frames})
    count = max(1, round(share * len(scenes))) if share > 0 else 0
    if count >= len(scenes):
        raise DataError(f"cannot hold out {count} of {len(scenes)} scenes and train on the rest")
    held_out = {scenes[i * len(scenes) // count] for i in range(count)}
    stay = [frame for frame in frames if frame.parent not in held_out]
    return stay, [frame for frame in frames if frame.parent in held_out]


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
    places = Places(root)
    frames: dict[Path, None] = {}
    for name in names:
        path = _resolve(root, name, file_list, places)
        # A frame that stands twice would count twice in a mean over the list.
        if path in frames:
            raise DataError(f"{file_list} names {_shown(name)} twice")
        frames[path] = None
    return list(frames)


def _resolve(root: Path, name: str, file_list: Path, places: Places) -> Path:
    """`name` below `root`; published lists write other people's leading folders out, so those
    are dropped one by one until the rest exists. Nothing outside the root is ever opened."""
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
        if found and not places.hold(path):
            raise DataError(f"{file_list} names {_shown(name)}, a link that leads out of {root}")
        if found:
            return path
    raise DataError(f"{file_list} names {_shown(name)}, which is not under {root}")


def _shown(name: str) -> str:
    """A name as it may stand in a sentence: without control characters, and of some length."""
    name = name if name.isprintable() else repr(name)
    return name if len(name) <= 160 else f"{name[:120]}... ({len(name)} characters)"


def read_frame(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read one frame.

    Returns:
        rgb (3, H, W) uint8 and depth (H, W) float32 metres, finite, 0 = no measurement.

    Raises:
        DataError: an unreadable file, a missing key, or a wrong shape, type or value.
    """
    rgb, depth = read_stored(path)
    return rgb, checked_depth(depth, path)


def checked_depth(depth: np.ndarray, path: Path) -> np.ndarray:
    """(H, W) of any float type as stored in `path` -> (H, W) float32 metres, finite, 0 = none.

    Raises:
        DataError: a value that cannot be metres.
    """
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is refused
        depth = depth.astype(np.float32, copy=False)
    return check_metres(depth, path)


def read_stored(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read rgb (3, H, W) uint8 and depth (H, W) of any float type, its values unchecked.

    Raises:
        DataError: an unreadable file, a missing key, or a wrong shape or type.
    """
    try:
        # h5py's low-level calls: its objects for files and data sets cost more than the reading.
        file = h5py.h5f.open(os.fsencode(path), h5py.h5f.ACC_RDONLY)
        with contextlib.closing(file), _closing_members(file):
            rgb, depth = (_open_array(file, key, path) for key in ("rgb", "depth"))
            _check_layout(rgb, depth, path)
            return rgb.read(), depth.read()
    except DataError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        if not path.exists():
            raise DataError(f"{path} does not exist") from error
        # Permissions, too many open files, a failing disk: not the file's fault.
        if isinstance(error, OSError) and error.errno:
            raise DataError(f"{path} cannot be read: {os.strerror(error.errno)}") from error
        raise DataError(f"{path} is not a readable HDF5 file") from error


@contextlib.contextmanager
def _closing_members(file: h5py.h5f.FileID) -> Iterator[None]:
    """On an error, close what was opened in the file: whoever keeps the error would keep it open
    otherwise, and with it the file."""
    try:
        yield
    except BaseException:
        kinds = h5py.h5f.OBJ_LOCAL | (h5py.h5f.OBJ_ALL & ~h5py.h5f.OBJ_FILE)
        for member in h5py.h5f.get_obj_ids(file, kinds):
            while member.valid:
                h5py.h5i.dec_ref(member)
        raise


class _Array(NamedTuple):
    """An open data set; asking HDF5 for its shape and type takes time, so that is done once."""

    data: h5py.h5d.DatasetID
    shape: tuple[int, ...] | None
    dtype: np.dtype

    def read(self) -> np.ndarray:
        array = np.empty(self.shape, self.dtype)
        self.data.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
        return array


def _open_array(file: h5py.h5f.FileID, key: str, path: Path) -> _Array:
    """A data set of a file, refused before it is read where it is not plainly stored in it."""
    name = key.encode()
    if not file.links.exists(name):
        raise DataError(f"{path} has no dataset {key}, only: {_member_names(file)}")
    # A link could read any file of this machine as image data.
    if file.links.get_info(name).type != h5py.h5l.TYPE_HARD:
        raise DataError(f"{path}: {key} is a link to another place, which is refused")
    data = h5py.h5o.open(file, name)
    if not isinstance(data, h5py.h5d.DatasetID):
        raise DataError(f"{path}: {key} is not a plain dataset")
    # So could storage in external files, and a virtual data set, which is put together from them.
    creation = data.get_create_plist()
    layout = creation.get_layout()
    if creation.get_external_count() or layout not in _STORED_IN_THE_FILE:
        raise DataError(f"{path}: {key} is not a plain dataset")
    try:
        array = _Array(data, data.shape, data.dtype)
    except TypeError as error:
        raise DataError(f"{path}: {key} is of a type that NumPy does not have") from error
    # A small compressed file can claim terabytes.
    size = 0 if array.shape is None else math.prod(array.shape)
    if size > MAX_VALUES:
        raise DataError(f"{path}: {key} has {size} values, more than {MAX_VALUES}")
    # Created but never written, as a writer that was killed leaves it, would read as zeros.
    if size and not data.get_storage_size():
        raise DataError(f"{path}: {key} was never written")
    if layout == h5py.h5d.CHUNKED:
        _check_chunks(array, creation, key, path)
    return array


def _member_names(file: h5py.h5f.FileID) -> str:
    names = [_shown(name.decode(errors="replace")) for name in itertools.islice(file, 6)]
    return ", ".join([*sorted(names[:5]), *(["..."] if len(names) > 5 else [])]) or "none"


def _check_chunks(array: _Array, creation: h5py.h5p.PropDCID, key: str, path: Path) -> None:
    """Refuse what would unpack to far more than the array: HDF5 sets no limit of its own.

    One compressor unpacks to a thousand times its input at most, so with no more input than the
    array has bytes a frame of 480x640 cannot take more than 1.3 GB, for the moment.
    """
    chunk = creation.get_chunk()
    if math.prod(chunk) > MAX_VALUES:
        raise DataError(f"{path}: {key} is stored in pieces of {chunk}, more than {MAX_VALUES}")
    filters = [creation.get_filter(i)[0] for i in range(creation.get_nfilters())]
    compressors = [code for code in filters if code not in _KEEP_THE_SIZE]
    if len(compressors) > 1 or len(filters) > 3:
        raise DataError(f"{path}: {key} is compressed more than once")
    pieces = math.prod(math.ceil(n / c) for n, c in zip(array.shape, chunk, strict=True))
    overhead = PIECE_OVERHEAD + math.prod(chunk) * array.dtype.itemsize // 1000
    expected = math.prod(array.shape) * array.dtype.itemsize + pieces * overhead
    stored = array.data.get_storage_size()
    if compressors and stored > expected:
        raise DataError(
            f"{path}: {key} takes {stored} bytes compressed, at most {expected} without"
        )


def _check_layout(rgb: _Array, depth: _Array, path: Path) -> None:
    if len(rgb.shape or ()) != 3 or rgb.shape[0] != 3 or rgb.dtype != np.uint8:
        raise DataError(f"{path}: rgb must be (3, H, W) uint8, got {rgb.shape} {rgb.dtype}")
    if depth.shape != rgb.shape[1:] or depth.dtype.kind != "f":
        raise DataError(
            f"{path}: depth must be {rgb.shape[1:]} float like rgb, got {depth.shape} {depth.dtype}"
        )
    if 0 in depth.shape:
        raise DataError(f"{path}: an image of {depth.shape} has no pixels")


MAX_VALUES = 3 * 4096 * 8192
# Bytes that a compressor adds to a piece that it cannot make smaller, beside a thousandth of it.
PIECE_OVERHEAD = 16

_KEEP_THE_SIZE = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
_STORED_IN_THE_FILE = (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED, h5py.h5d.COMPACT)
