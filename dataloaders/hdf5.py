"""One frame on disk: an HDF5 file with `rgb` (3, H, W) uint8 and `depth` (H, W) float metres.

0 = no measurement. Every failure to read is a `DataError` of one sentence that names the file.
"""

import contextlib
import io
import itertools
import math
import os
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from dataloaders.errors import DataError, printable
from dataloaders.shards import ShardMember
from dataloaders.units import check_metres

MAX_VALUES = 3 * 4096 * 8192
# Bytes that a compressor adds to a chunk that it cannot make smaller, beside a thousandth of it.
CHUNK_OVERHEAD = 16
# Compressors of HDF5's register that come with the package hdf5plugin.
PLUGIN_FILTERS = {
    307: "bzip2",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32026: "Blosc2",
}
_KEEP_THE_SIZE = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
_STORED_IN_THE_FILE = (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED, h5py.h5d.COMPACT)


def read_frame(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read rgb (3, H, W) uint8 and depth (H, W) float32 metres, finite, 0 = no measurement.

    Raises:
        DataError: an unreadable file, a missing key, or a wrong shape, type or value.
    """
    rgb, depth = read_stored(path)
    return rgb, checked_depth(depth, path)


def checked_depth(depth: np.ndarray, path: Path) -> np.ndarray:
    """Return depth (H, W) of any float type, stored in `path`, as float32 metres, 0 = none; raise
    DataError for values that cannot be metres."""
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is refused
        metres = depth.astype(np.float32, copy=False)
    high = depth.max()
    if high == np.finfo(depth.dtype).max:
        count = np.count_nonzero(depth == high)
        raise DataError(
            f"{path}: depth is {high:.6g}, the largest {depth.dtype.name}, in {count} pixels; "
            "write 0 where nothing was measured"
        )
    return check_metres(metres, path)


def write_frame(path: Path, rgb: np.ndarray, depth: np.ndarray, *, compressed: bool = True) -> None:
    """Write rgb (3, H, W) uint8 and depth (H, W) float32 metres, 0 = no measurement, as one file.

    The file appears under its name only when it is complete; where that raises OSError nothing is
    left of it. Uncompressed, each array is stored in one piece, which reads fastest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    # Sensor noise hardly compresses: the lowest level loses nothing against the others.
    gzip = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    try:
        with h5py.File(part, "w") as file:
            for name, data in (("rgb", rgb), ("depth", depth)):
                chunks = (1, *data.shape[1:]) if data.ndim == 3 else data.shape
                options = {"chunks": chunks, **gzip} if compressed else {}
                file.create_dataset(name, data=data, **options)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def is_complete(path: Path) -> bool:
    """Return whether `write_frame` has finished the file."""
    return path.is_file() and h5py.is_hdf5(path)


def read_stored(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read rgb (3, H, W) uint8 and depth (H, W) of any float type, its values unchecked.

    Raises:
        DataError: an unreadable file, a missing key, or a wrong shape or type.
    """
    try:
        # h5py's low-level calls: its objects for files and data sets cost more than the reading.
        file = _open_file(path)
        with contextlib.closing(file):
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
        if "open for write" in str(error):
            raise DataError(
                f"{path} is still being written, or its writer was killed; in that case "
                f"`h5clear -s {path}` makes it readable"
            ) from error
        raise DataError(f"{path} is not a readable HDF5 file") from error


# How a frame is opened, one way after another. It is only read, so it needs no lock, which some
# network file systems do not have; a writer may append to it (SWMR); and a file that this process
# has open already must be opened in the same way again.
_READ, _APPENDED = h5py.h5f.ACC_RDONLY, h5py.h5f.ACC_RDONLY | h5py.h5f.ACC_SWMR_READ
_UNLOCKED = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
_UNLOCKED.set_file_locking(False, True)
_UNLOCKED.set_fclose_degree(h5py.h5f.CLOSE_STRONG)  # with all that was opened in it


def _open_file(path: Path) -> h5py.h5f.FileID:
    """Open a frame's file, or raise what the first way to open it raised."""
    if isinstance(path, ShardMember):  # which HDF5 reads as it reads a file, without a copy of all
        access = _UNLOCKED.copy()
        access.set_fileobj_driver(h5py.h5fd.fileobj_driver, io.BytesIO(path.read_bytes()))
        return h5py.h5f.open(os.fsencode(path), _READ, fapl=access)
    errors: list[OSError] = []
    for flags, access in ((_READ, _UNLOCKED), (_APPENDED, _UNLOCKED), (_READ, None)):
        try:
            return h5py.h5f.open(os.fsencode(path), flags, fapl=access)
        except OSError as error:
            errors.append(error)
            if error.errno:  # the system's own refusal stays whatever the way
                break
    raise errors[0]


class _Array(NamedTuple):
    """An open data set; to look up its shape and type takes time, so that is done once."""

    data: h5py.h5d.DatasetID
    shape: tuple[int, ...] | None
    dtype: np.dtype

    def read(self) -> np.ndarray:
        array = np.empty(self.shape, self.dtype)
        self.data.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
        return array


def _open_array(file: h5py.h5f.FileID, key: str, path: Path) -> _Array:
    """Open a data set of a file; refuse it before it is read where it is not plainly stored."""
    name = key.encode()
    if not file.links.exists(name):
        members = [printable(name.decode(errors="replace")) for name in itertools.islice(file, 6)]
        members = ", ".join([*sorted(members[:5]), *("..." for _ in members[5:])]) or "none"
        raise DataError(f"{path} has no dataset {key}, only: {members}")
    # A link could read any file of this machine as image data.
    if file.links.get_info(name).type != h5py.h5l.TYPE_HARD:
        raise DataError(f"{path}: {key} is a link to another place, which is refused")
    data = h5py.h5o.open(file, name)
    creation = data.get_create_plist() if isinstance(data, h5py.h5d.DatasetID) else None
    layout = creation and creation.get_layout()
    # So could storage in external files, and a virtual data set, which is put together from them.
    if layout not in _STORED_IN_THE_FILE or creation.get_external_count():
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
    for code in compressors:
        if not h5py.h5z.filter_avail(code):
            with contextlib.suppress(ImportError):
                import hdf5plugin  # noqa: F401  (its import registers the filters)
        if not h5py.h5z.filter_avail(code):
            raise DataError(
                f"{path}: {key} is compressed with {PLUGIN_FILTERS.get(code, 'an unknown filter')} "
                f"(HDF5 filter {code}), which is not here; pip install hdf5plugin, or write the "
                "frame with gzip"
            )
    pieces = math.prod(math.ceil(n / c) for n, c in zip(array.shape, chunk, strict=True))
    overhead = CHUNK_OVERHEAD + math.prod(chunk) * array.dtype.itemsize // 1000
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
