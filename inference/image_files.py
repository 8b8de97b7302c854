"""Photographs and depth in people's own files.

Depth is metres = value / scale, 0 = no measurement (`dataloaders.units`):

    .png         16-bit, one channel or three equal ones; the scale must be given (1000 for
                 millimetres, 256 for KITTI)
    .npy, .npz   (H, W) numbers; integers need a scale, floats are metres without one
    .exr         one channel of floats, metres; needs the package OpenEXR
    .csv         lines of u,v,depth: column and row of the image's pixels, (0, 0) the top left
                 one's centre, and metres; a header may name the columns in another order

Files are untrusted: their size is known and bounded before they are decoded, nothing in them is
executed, and every failure is a `DataError` of one sentence that names the file. Where a file is
read otherwise than it may have been meant, a note says so.
"""

import math
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import cv2
import imageio.v3 as iio
import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from dataloaders.errors import DataError
from dataloaders.units import to_metres

RGB_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".ppm")
DEPTH_SUFFIXES = (".png", ".npy", ".npz", ".exr", ".csv")
MAX_PIXELS = 2**27  # phones take 108 million

# What Pillow may try: without this it would hand PostScript to another program.
_PIL_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM")
# What damaged images and archives raise inside Pillow, OpenCV, pandas and zipfile.
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, TypeError)
DAMAGE += (RuntimeError, NotImplementedError, OverflowError, MemoryError, zlib.error)
DAMAGE += (struct.error, zipfile.BadZipFile, Image.DecompressionBombError, cv2.error)

# Bits that cameras write into 16-bit files, the highest bits empty.
_SENSOR_BITS = (8, 10, 12, 14)
_GRAY_MODES = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L")


def read_rgb(path: Path) -> tuple[np.ndarray, list[str]]:
    """Read a photograph, turned upright as its EXIF orientation says.

    Gray becomes three equal channels, 16 bits become 8, transparency is dropped.

    Returns:
        (H, W, 3) uint8, and what was decided and the user should know, a clause each.

    Raises:
        DataError: missing, unreadable, too large, or an image of floats.
    """
    with _open_image(path) as image:
        if image.mode in ("F", "I"):
            raise DataError(
                f"{path} holds {image.mode} values, expected a photograph of 8 or 16 bits"
            )
        try:
            notes, has_16_bits = _mode_notes(image), _has_16_bits(image)
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            if has_16_bits:
                pixels, bits = _to_bytes(_pixels_of_16_bits(image, path))
                if bits < 16:
                    notes.append(f"its 16 bits are read as {bits}, since the others are empty")
            else:
                pixels = np.asarray(image.convert("RGB"))
        except DAMAGE as error:
            raise DataError(f"{path} is a damaged image: {error}") from error
    if orientation in range(2, 9):
        stored = Image.fromarray(pixels)
        stored.getexif()[ExifTags.Base.Orientation] = orientation
        pixels = np.asarray(ImageOps.exif_transpose(stored))
        notes.append(
            f"the photograph is turned as its EXIF orientation {orientation} says; depth and "
            "intrinsics are taken as the turned one's"
        )
    return np.ascontiguousarray(pixels), notes


def read_depth(
    path: Path, size: tuple[int, int], *, scale: float | None = None
) -> tuple[np.ndarray, list[str]]:
    """Read depth of an image of `size` (H, W), sparse or dense, by the file's suffix; see above.

    Args:
        scale: units per metre, see `dataloaders.units.to_metres`.

    Returns:
        (H, W) float32 metres, finite, 0 = no measurement, and notes as from `read_rgb`.

    Raises:
        DataError: missing, unreadable, of another size, or not depth in metres.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} is not a depth file this reads: {', '.join(DEPTH_SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    try:
        values, notes = reader(path, size)
    except DataError:
        raise
    except DAMAGE as error:
        raise DataError(f"{path} is not a readable {path.suffix} file: {error}") from error
    depth, unit_notes = to_metres(values, path, scale)
    return depth, notes + unit_notes


def _open_image(path: Path) -> Image.Image:
    """Return an opened, not yet decoded image of no more than `MAX_PIXELS`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
            image = Image.open(path, formats=_PIL_FORMATS)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is not an image this reads: {', '.join(_PIL_FORMATS)}") from error
    except DAMAGE as error:
        raise DataError(f"{path} cannot be opened as an image: {error}") from error
    pixels = math.prod(image.size)
    if pixels > MAX_PIXELS:
        raise DataError(f"{path} claims {pixels} pixels, more than {MAX_PIXELS}")
    return image


def _mode_notes(image: Image.Image) -> list[str]:
    """Return what a photograph's kind of pixels means, a clause each."""
    pages = getattr(image, "n_frames", 1)
    facts = {
        f"the first of its {pages} pictures is read": pages > 1,
        "the photograph is gray, the network was trained with colours": image.mode in _GRAY_MODES,
        "its transparency is dropped": image.has_transparency_data,
        f"its {image.mode} colours are converted without their profile": image.mode == "CMYK",
    }
    return [note for note, holds in facts.items() if holds]


def _has_16_bits(image: Image.Image) -> bool:
    # Pillow keeps the high bytes of colours alone; the arguments of its decoder, which are there
    # until the image is loaded, name the 16 bits.
    return image.mode.startswith("I;16") or any(";16" in str(tile) for tile in image.tile)


def _pixels_of_16_bits(image: Image.Image, path: Path) -> np.ndarray:
    """Return (H, W) or (H, W, C) uint16, as they are stored."""
    image.load()  # unlike OpenCV, Pillow refuses a file that ends too early
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    return iio.imread(path, plugin="opencv", index=0, flags=cv2.IMREAD_UNCHANGED)


def _to_bytes(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Return (H, W, 3) uint8 of uint16 colours or grays, and how many of their bits are used."""
    high = int(values.max())
    bits = next((bits for bits in _SENSOR_BITS if 0 < high < 2**bits), 16)
    values = (values >> (bits - 8)).astype(np.uint8)
    return np.repeat(values[..., None], 3, 2) if values.ndim == 2 else values[..., :3], bits


def _check_size(path: Path, size: tuple[int, ...], expected: tuple[int, int]) -> None:
    if tuple(size) == tuple(expected):
        return
    own = "x".join(str(length) for length in reversed(size)) or "a single number"
    way_out = "depth needs a pixel for each of the image's"
    if tuple(size) == tuple(reversed(expected)):
        way_out = "turn the depth likewise, or remove the orientation from the photograph"
    raise DataError(
        f"{path} is {own}, its image {expected[1]}x{expected[0]} (width x height, turned as its "
        f"EXIF orientation says); {way_out}"
    )


def _read_png(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    with _open_image(path) as image:
        if image.mode != "I" and not _has_16_bits(image):
            raise DataError(
                f"{path} is an 8-bit picture (mode {image.mode}), which cannot hold depth in "
                "metres; save it as a 16-bit PNG of one channel, .npy or .csv"
            )
        _check_size(path, image.size[::-1], size)
        values = np.array(image) if image.mode == "I" else _pixels_of_16_bits(image, path)
    if values.ndim == 3:
        if (values[..., 1:3] != values[..., :1]).any():
            raise DataError(
                f"{path} has three 16-bit channels that differ, which is a picture; expected depth "
                "in one channel, or in three equal ones"
            )
        values = values[..., 0]
    return values, []


def _read_npy(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    with path.open("rb") as stream:
        return _read_array(stream, path, size), []


def _read_npz(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        wanted = [n for n in names if n in ("sparse_depth.npy", "depth.npy")] or names
        if len(wanted) != 1:
            held = ", ".join(name.removesuffix(".npy") for name in names[:8]) or "nothing"
            raise DataError(
                f"{path} must hold one array, or one called sparse_depth or depth; it holds {held}"
            )
        with archive.open(wanted[0]) as stream:
            return _read_array(stream, path, size), []


def _read_array(stream, path: Path, size: tuple[int, int]) -> np.ndarray:
    """Return one array of numbers, its header checked before anything is read or allocated."""
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
    stream.seek(0)
    return form.read_array(stream, allow_pickle=False).reshape(size)


def _read_exr(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    try:
        import OpenEXR
    except ImportError as error:
        raise DataError(
            f"{path}: reading .exr needs the package OpenEXR (pip install OpenEXR)"
        ) from error
    with OpenEXR.File(str(path), header_only=True) as file:
        (left, top), (right, bottom) = (c.tolist() for c in file.header()["dataWindow"])
    _check_size(path, (bottom - top + 1, right - left + 1), size)
    with OpenEXR.File(str(path), separate_channels=True) as file:
        channels = {name: channel.pixels for name, channel in file.channels().items()}
    values, *others = channels.values()
    if not all(np.array_equal(values, other) for other in others):
        raise DataError(f"{path} must hold one channel of depth, it holds {', '.join(channels)}")
    _check_size(path, values.shape, size)
    return values.astype(np.float32), []


def _read_csv(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    from inference.csv_points import read_points  # with pandas, which other files do not need

    return read_points(path, size)


_READERS = {
    ".png": _read_png,
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".exr": _read_exr,
    ".csv": _read_csv,
}
