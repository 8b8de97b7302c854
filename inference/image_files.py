"""People's own files: photographs, sparse or dense depth in the usual formats, folders of pairs.

Depth is metres = value / scale, 0 = no measurement:

    .png         16-bit, one channel; the scale must be given (1000 for millimetres, 256 for KITTI)
    .npy, .npz   (H, W) numbers; integers need a scale, floats are metres without one
    .exr         one channel of floats, metres; needs the package OpenEXR
    .csv         lines of u,v,depth: column and row of the image's pixels, (0, 0) the top left
                 one's centre, and metres; a header may name the columns in another order

Files are untrusted: their size is known and bounded before they are decoded, nothing in them is
executed, and every failure is a `DataError` of one sentence that names the file.
"""

import csv
import math
import struct
import warnings
import zipfile
import zlib
from array import array
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dataloaders.hdf5 import MAX_VALUES, DataError

RGB_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".ppm")
DEPTH_SUFFIXES = (".png", ".npy", ".npz", ".exr", ".csv")
MAX_PIXELS = MAX_VALUES // 3
MAX_CSV_BYTES = 64 * 1024**2

# What Pillow may try: without this it would hand PostScript to another program.
_PIL_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM")
# What damaged images and archives raise inside Pillow and zipfile.
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, TypeError)
_DAMAGE += (RuntimeError, NotImplementedError, OverflowError, MemoryError, zlib.error)
_DAMAGE += (struct.error, zipfile.BadZipFile, Image.DecompressionBombError)


@dataclass
class DepthFile:
    """A file's depth.

    depth: (H, W) float32 metres, finite, 0 = no measurement.
    notes: what the reader decided and its user should know, a clause each.
    """

    depth: np.ndarray
    notes: list[str] = field(default_factory=list)


def read_rgb(path: Path) -> np.ndarray:
    """A photograph as (H, W, 3) uint8, turned as its EXIF orientation says.

    Greyscale becomes three equal channels, 16 bits become 8, transparency is dropped.

    Raises:
        DataError: missing, unreadable, too large, or an image of floats.
    """
    with _open_image(path) as image:
        if image.mode in ("F", "I"):
            raise DataError(
                f"{path} holds {image.mode} values, expected a photograph of 8 or 16 bits"
            )
        try:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):  # Pillow itself would clip these at 255
                grey = np.asarray(image).astype(np.float32) / 257
                return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)
            return np.array(image.convert("RGB"))
        except _DAMAGE as error:
            raise DataError(f"{path} is a damaged image: {error}") from error


def read_depth(path: Path, size: tuple[int, int], *, scale: float | None = None) -> DepthFile:
    """Depth of an image of `size` (H, W), sparse or dense, by the file's suffix; see the module.

    Raises:
        DataError: missing, unreadable, of another size, not finite, negative, or without the
            scale that its integers need.
    """
    if scale is not None and not 0 < scale < math.inf:
        raise DataError(f"the depth scale must be a positive number, got {scale}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} is not a depth file this reads: {', '.join(DEPTH_SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    values, notes = reader(path, size)
    if values.dtype.kind in "iu" and scale is None:
        raise DataError(
            f"{path} holds integers: give the depth scale, values / scale = metres "
            "(--depth-scale 1000 for millimetres, 256 for KITTI)"
        )
    with np.errstate(over="ignore"):
        depth = (values / np.float64(scale or 1)).astype(np.float32)
    bad = int(np.count_nonzero(~np.isfinite(depth)))
    if bad:
        raise DataError(
            f"{path} holds {bad} NaN or infinite values; write 0 where nothing was measured"
        )
    if depth.min() < 0:
        raise DataError(
            f"{path} holds negative depth, {depth.min():g} m; write 0 where nothing was measured"
        )
    return DepthFile(depth, notes)


def match_pairs(rgb: Path, depth: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """The pairs of an RGB and a depth file: the two files, or those of two folders by stem.

    Returns:
        Pairs sorted by name, and the names of what has no partner or is no such file.

    Raises:
        DataError: a file and a folder, two files of one stem in a folder, or no pair at all.
    """
    if rgb.is_dir() != depth.is_dir():
        kinds = {True: "a folder", False: "not one"}
        raise DataError(
            f"give two files or two folders: {rgb} is {kinds[rgb.is_dir()]}, "
            f"{depth} is {kinds[depth.is_dir()]}"
        )
    if not rgb.is_dir():
        return [(rgb, depth)], []
    images, left_out = _by_stem(rgb, RGB_SUFFIXES)
    maps, others = _by_stem(depth, DEPTH_SUFFIXES)
    left_out += others
    stems = sorted(images.keys() & maps.keys())
    if not stems:
        raise DataError(f"no file of {rgb} has the stem of one in {depth}, so there are no pairs")
    left_out += [str(f) for files in (images, maps) for s, f in files.items() if s not in stems]
    return [(images[stem], maps[stem]) for stem in stems], sorted(set(left_out))


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> tuple[dict[str, Path], list[str]]:
    found, others = {}, []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.is_dir():
            continue
        if path.suffix.lower() not in suffixes:
            others.append(str(path))
        elif path.stem in found:
            raise DataError(f"{found[path.stem]} and {path.name} have one stem; which is meant?")
        else:
            found[path.stem] = path
    return found, others


def _open_image(path: Path) -> Image.Image:
    """An opened, not yet decoded image of no more than `MAX_PIXELS`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
            image = Image.open(path, formats=_PIL_FORMATS)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is not an image this reads: {', '.join(_PIL_FORMATS)}") from error
    except _DAMAGE as error:
        raise DataError(f"{path} cannot be opened as an image: {error}") from error
    _check_pixels(path, image.size[::-1])
    return image


def _check_pixels(path: Path, size: tuple[int, ...]) -> None:
    if math.prod(size) > MAX_PIXELS:
        raise DataError(f"{path} claims {math.prod(size)} pixels, more than {MAX_PIXELS}")


def _check_size(path: Path, size: tuple[int, ...], expected: tuple[int, int]) -> None:
    if tuple(size) != tuple(expected):
        own = "x".join(str(length) for length in reversed(size)) or "a single number"
        raise DataError(
            f"{path} is {own}, its image {expected[1]}x{expected[0]} (width x height, turned as "
            "its EXIF orientation says); depth needs a pixel for each of the image's"
        )


def _read_png(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    with _open_image(path) as image:
        if image.mode != "I" and not image.mode.startswith("I;16"):
            raise DataError(
                f"{path} is an 8-bit picture (mode {image.mode}), which cannot hold depth in "
                "metres; save it as a 16-bit PNG of one channel, .npy or .csv"
            )
        _check_size(path, image.size[::-1], size)
        try:
            return np.array(image).astype(np.int32), []
        except _DAMAGE as error:
            raise DataError(f"{path} is a damaged image: {error}") from error


def _read_npy(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    try:
        with path.open("rb") as stream:
            return _read_array(stream, path, size), []
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(f"{path} is not a readable .npy file: {error}") from error


def _read_npz(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            wanted = [n for n in names if n in ("sparse_depth.npy", "depth.npy")] or names
            if len(wanted) != 1:
                held = ", ".join(name.removesuffix(".npy") for name in names[:8]) or "nothing"
                raise DataError(
                    f"{path} must hold one array, or one called sparse_depth or depth; it holds "
                    f"{held}"
                )
            with archive.open(wanted[0]) as stream:
                return _read_array(stream, path, size), []
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(f"{path} is not a readable .npz file: {error}") from error


def _read_array(stream, path: Path, size: tuple[int, int]) -> np.ndarray:
    """One array of numbers, whose header is looked at before anything is read or allocated."""
    form = np.lib.format
    version = form.read_magic(stream)
    read_header = {(1, 0): form.read_array_header_1_0, (2, 0): form.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"version {version} of the format")
    shape, _, dtype = read_header[version](stream)
    if dtype.kind not in "fiu":
        raise DataError(f"{path} holds {dtype}, expected numbers")
    lengths = tuple(length for length in shape if length != 1) if len(shape) == 3 else shape
    _check_size(path, lengths, size)
    _check_pixels(path, lengths)
    stream.seek(0)
    return form.read_array(stream, allow_pickle=False).reshape(size)


def _read_exr(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    try:
        import OpenEXR
    except ImportError as error:
        raise DataError(
            f"{path}: reading .exr needs the package OpenEXR (pip install OpenEXR)"
        ) from error
    try:
        with OpenEXR.File(str(path), header_only=True) as file:
            corners = file.header()["dataWindow"]
            (left, top), (right, bottom) = (corner.tolist() for corner in corners)
        _check_size(path, (bottom - top + 1, right - left + 1), size)
        _check_pixels(path, size)
        with OpenEXR.File(str(path), separate_channels=True) as file:
            channels = {name: channel.pixels for name, channel in file.channels().items()}
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(f"{path} is not a readable OpenEXR file: {error}") from error
    if len(channels) > 1:
        first = next(iter(channels.values()))
        if not all(np.array_equal(first, other) for other in channels.values()):
            raise DataError(
                f"{path} must hold one channel of depth, it holds {', '.join(channels)}"
            )
    values = np.asarray(next(iter(channels.values())))
    _check_size(path, values.shape, size)
    return values.astype(np.float32), []


def _read_csv(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    if path.stat().st_size > MAX_CSV_BYTES:
        raise DataError(f"{path} has {path.stat().st_size} bytes, more than {MAX_CSV_BYTES}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines, points = _csv_points(path, stream)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error
    columns, rows = (np.floor(points[:, i] + 0.5) for i in (0, 1))
    values = points[:, 2]
    # NaN coordinates are outside too.
    outside = ~((columns >= 0) & (columns < size[1]) & (rows >= 0) & (rows < size[0]))
    if outside.any():
        first = int(np.argmax(outside))
        u, v, _ = points[first]
        raise DataError(
            f"{path} line {lines[first]}: u={u:g}, v={v:g} lies outside the image of "
            f"{size[1]}x{size[0]} (width x height); so do {int(outside.sum()) - 1} other points"
        )
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise DataError(
            f"{path} line {lines[first]}: depth {values[first]:g} is not a distance in metres"
        )
    depth = np.zeros(size)
    # Of points in one pixel the nearest hides the others: written last, it stays.
    order = np.argsort(-np.where(values > 0, values, np.inf), kind="stable")
    depth[rows[order].astype(np.int64), columns[order].astype(np.int64)] = values[order]
    hidden = int(np.count_nonzero(values)) - int(np.count_nonzero(depth))
    notes = [f"{hidden} points share a pixel with a nearer one, which was kept"] if hidden else []
    return depth, notes


def _csv_points(path: Path, stream) -> tuple[array, np.ndarray]:
    """Line numbers and (N, 3) u, v, depth."""
    order, lines, points = (0, 1, 2), array("q"), array("d")
    reader = csv.reader(stream)
    for row in reader:
        if not row or not "".join(row).strip():
            continue
        names = [cell.strip().lower() for cell in row]
        if not lines and {"u", "v", "depth"} <= set(names):
            order = tuple(names.index(name) for name in ("u", "v", "depth"))
            continue
        try:
            points.extend([float(row[i]) for i in order])
        except (ValueError, IndexError) as error:
            raise DataError(
                f"{path} line {reader.line_num}: expected u,v,depth, got {','.join(row)[:60]!r}"
            ) from error
        lines.append(reader.line_num)
    if not points:
        raise DataError(f"{path} holds no point, expected lines of u,v,depth")
    return lines, np.array(points).reshape(-1, 3)


_READERS = {
    ".png": _read_png,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".exr": _read_exr,
    ".csv": _read_csv,
}
