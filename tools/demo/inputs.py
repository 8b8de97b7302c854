"""Frames for the page: examples of a data set, and the files that visitors upload."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from dataloaders import DATA_SETS, DataError
from dataloaders.sampling import resize_points
from dataloaders.transforms import resized_size
from inference.image_files import read_depth, read_rgb
from inference.predictor import Predictor
from models.network import MIN_SIZE
from tools.demo.session import Frame

# What the network is given at most: a KITTI image is 0.47, NYU at its training scale 0.08 million.
MAX_FRAME_PIXELS = 600_000
SAMPLE_ROOTS = {"nyudepth": "data/sample_rooms", "kitti": "data/sample_streets"}
# Integers of an uploaded PNG are millimetres.
PNG_SCALE = 1000


def example_frames(predictor: Predictor, root: str | Path, count: int) -> list[Frame]:
    """Return at most `count` validation frames of a data set, evenly spread, as evaluated.

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


def open_image(path: Path, short_side: int | None) -> Frame:
    """Return an uploaded photograph at the network's training scale, without ground truth.

    Args:
        path: see `inference.image_files.read_rgb`.
        short_side: pixels of the short side at the training scale; None leaves the image as it
            is up to 0.6 million pixels and makes it smaller beyond.

    Raises:
        DataError: not a photograph, too many pixels, or a side that would be too short.
    """
    try:
        rgb, _ = read_rgb(path)
    except DataError as error:
        raise _for_the_page(error, path) from error
    uploaded_size = rgb.shape[1::-1]
    size = frame_size(uploaded_size, short_side)
    if min(size) < MIN_SIZE:
        raise DataError(
            f"{path.name} has {rgb.shape[1]}x{rgb.shape[0]} pixels, {size[0]}x{size[1]} at the "
            f"network's scale, which needs {MIN_SIZE} on each side."
        )
    if size != uploaded_size:
        image = Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR)
        rgb = np.asarray(image)
    return Frame(path.name, rgb, uploaded_size=uploaded_size)


def open_depth(path: Path, frame: Frame) -> np.ndarray:
    """Return an uploaded depth map of the frame's image, at the frame's size.

    Args:
        path: see `inference.image_files.read_depth`; a PNG's integers are millimetres.
        frame: whose depth it is; the map has the size of the image as uploaded.

    Returns:
        (H, W) float32 metres, 0 = no measurement; its points moved, never averaged.

    Raises:
        DataError: no depth map, of another size, or without any measurement.
    """
    size = frame.rgb.shape[:2]
    expected = frame.uploaded_size[::-1] if frame.uploaded_size else size
    scale = PNG_SCALE if path.suffix.lower() == ".png" else None
    try:
        depth, _ = read_depth(path, expected, scale=scale)
    except DataError as error:
        raise _for_the_page(error, path) from error
    if not depth.any():
        raise DataError(f"{path.name} holds no measurement: every value is 0.")
    return depth if depth.shape == size else resize_points(depth, size)


def frame_size(size: tuple[int, int], short_side: int | None) -> tuple[int, int]:
    """Return (width, height) of the network's input for an image of `size` (width, height)."""
    if short_side is not None:
        size = resized_size(size, short_side)
    shrink = (MAX_FRAME_PIXELS / (size[0] * size[1])) ** 0.5
    return size if shrink >= 1 else (int(size[0] * shrink), int(size[1] * shrink))


def _for_the_page(error: DataError, path: Path) -> DataError:
    """Return the error without the server's folders and the command line's flags."""
    text = re.sub(r" \(--.*?\)", "", str(error).replace(str(path), path.name))
    return DataError(f"{text}.")
