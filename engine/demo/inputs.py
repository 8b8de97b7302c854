"""Frames for the page: examples of a data set, and the files that visitors upload.

An upload is somebody else's file: its size is read before its pixels, and every failure is a
`DataError` of one sentence.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dataloaders import DATA_SETS, DataError
from dataloaders.transforms import resized_size
from engine.demo.session import Frame
from engine.predictor import Predictor, resize_points
from models.network import MIN_SIZE

MAX_UPLOAD_PIXELS = 4096 * 8192
# What the network is given at most: a KITTI image is 0.47, NYU at its training scale 0.08 million.
MAX_FRAME_PIXELS = 600_000
SAMPLE_ROOTS = {"nyudepth": "data/sample_rooms", "kitti": "data/sample_streets"}
_IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")


def example_frames(predictor: Predictor, root: str | Path, count: int) -> list[Frame]:
    """At most `count` validation frames of a data set, evenly spread, as its evaluation has them.

    Raises:
        DataError: no such folder, or a frame that cannot be read.
    """
    settings = predictor.settings
    dataset = DATA_SETS[settings.data_set](
        root, "val", n_sample=0, depth_resize=settings.depth_resize
    )
    count = min(count, len(dataset))
    items = (dataset[i * len(dataset) // count] for i in range(count))
    return [
        Frame(
            f"{dataset.root.name}/{item['name']}",
            np.rint(item["rgb"].numpy().transpose(1, 2, 0) * 255).astype(np.uint8),
            item["depth"].numpy()[0],
        )
        for item in items
    ]


def read_image(path: Path, short_side: int | None) -> Frame:
    """An uploaded photograph at the network's training scale, without ground truth.

    Args:
        path: PNG, JPEG, WebP, BMP or TIFF; turned as its EXIF orientation says.
        short_side: pixels of the short side at the training scale; None leaves the image as it
            is up to 0.6 million pixels and makes it smaller beyond.

    Raises:
        DataError: not such an image, too many pixels, or a side that would be too short.
    """
    try:
        with Image.open(path, formats=_IMAGE_FORMATS) as image:
            _check_pixels(path.name, image.size)
            rgb = ImageOps.exif_transpose(image).convert("RGB")
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path.name} is not a readable PNG, JPEG, WebP, BMP or TIFF.") from error
    uploaded_size = rgb.size
    size = frame_size(uploaded_size, short_side)
    if min(size) < MIN_SIZE:
        raise DataError(
            f"{path.name} is {rgb.width}x{rgb.height} pixels; the network needs {MIN_SIZE} on each "
            "side."
        )
    if size != rgb.size:
        rgb = rgb.resize(size, Image.Resampling.BILINEAR)
    return Frame(path.name, np.asarray(rgb), uploaded_size=uploaded_size)


def read_depth(path: Path, frame: Frame) -> np.ndarray:
    """An uploaded depth map of the frame's image, at the frame's size.

    Args:
        path: a 16-bit PNG in millimetres, or a .npy of float metres; 0 = no measurement.
        frame: whose depth it is; the map has its size, or that of the image as uploaded.

    Returns:
        (H, W) float32 metres, 0 = no measurement; its points moved, never averaged.

    Raises:
        DataError: neither, of another size, without any measurement, or impossible values.
    """
    depth = _read_npy(path) if path.suffix.lower() == ".npy" else _read_depth_png(path)
    height, width = frame.rgb.shape[:2]
    expected = frame.uploaded_size or (width, height)
    if depth.shape not in (expected[::-1], (height, width)):
        raise DataError(
            f"{path.name} has {depth.shape[1]}x{depth.shape[0]} pixels; a depth map of this image "
            f"has {expected[0]}x{expected[1]}."
        )
    if not np.isfinite(depth).all() or depth.min() < 0:
        raise DataError(f"{path.name} holds values that are negative or not finite.")
    if not depth.any():
        raise DataError(f"{path.name} holds no measurement: every value is 0.")
    return depth if depth.shape == (height, width) else resize_points(depth, (height, width))


def frame_size(size: tuple[int, int], short_side: int | None) -> tuple[int, int]:
    """(width, height) that the network is given for an image of `size` (width, height)."""
    if short_side is not None:
        size = resized_size(size, short_side)
    shrink = (MAX_FRAME_PIXELS / (size[0] * size[1])) ** 0.5
    return size if shrink >= 1 else (int(size[0] * shrink), int(size[1] * shrink))


def _check_pixels(name: str, size: tuple[int, int]) -> None:
    if size[0] * size[1] > MAX_UPLOAD_PIXELS:
        raise DataError(
            f"{name} is {size[0]}x{size[1]}, more than {MAX_UPLOAD_PIXELS // 10**6} million pixels."
        )


def _read_depth_png(path: Path) -> np.ndarray:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            _check_pixels(path.name, image.size)
            if image.mode not in ("I;16", "I"):
                raise DataError(
                    f"{path.name} is a PNG of mode {image.mode}; depth is a 16-bit grey PNG in "
                    "millimetres, or a .npy in metres."
                )
            return np.asarray(image).astype(np.float32) / 1000
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path.name} is neither a 16-bit PNG nor a .npy file.") from error


def _read_npy(path: Path) -> np.ndarray:
    try:
        # Mapped, so that the header's size is known before anything is read.
        depth = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path.name} is not a .npy file of numbers.") from error
    if not isinstance(depth, np.ndarray) or depth.ndim != 2 or depth.dtype.kind not in "fiu":
        raise DataError(f"{path.name} must hold an (H, W) array of metres.")
    _check_pixels(path.name, depth.shape[::-1])
    return np.array(depth, np.float32)
