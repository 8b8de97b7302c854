"""Frames for the page: examples of a data set, and the files that visitors upload."""

import contextlib
import itertools
import re
import tempfile
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from dataloaders import DATA_SETS, DataError
from dataloaders.sampling import resize_points
from dataloaders.transforms import resized_size
from engine.errors import OptionError
from inference.image_files import read_depth, read_rgb
from inference.predictor import Predictor
from inference.sources import open_source
from inference.sources.frames import damage
from models.network import MIN_SIZE
from tools.demo.session import Frame

# What the network is given at most: a KITTI image is 0.47, NYU at its training scale 0.08 million.
MAX_FRAME_PIXELS = 600_000
SAMPLE_ROOTS = {"nyudepth": "data/sample_rooms", "kitti": "data/sample_streets"}
# Integers of an uploaded PNG are millimetres.
PNG_SCALE = 1000
MAX_UNPACKED = 4 * 1024**3  # bytes of an uploaded recording


def example_frames(predictor: Predictor, root: str | Path, count: int) -> list[Frame]:
    """Return at most `count` validation frames of a data set, evenly spread, as evaluated; raise
    DataError where there is no such folder, or a frame cannot be read."""
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

    `short_side` are the pixels of the short side at that scale; None leaves the image as it is up
    to `MAX_FRAME_PIXELS` and makes it smaller beyond. Raise DataError where it is no photograph
    (`image_files.read_rgb`), has too many pixels, or a side would be too short.
    """
    with _for_the_page(path):
        rgb, _ = read_rgb(path)
    return _scaled(path.name, rgb, None, short_side)


def _scaled(name: str, rgb: np.ndarray, depth: np.ndarray | None, short_side: int | None) -> Frame:
    """Return the frame of an image and its depth, if any, at the network's scale."""
    own_size = rgb.shape[1::-1]
    size = frame_size(own_size, short_side)
    if min(size) < MIN_SIZE:
        raise DataError(
            f"{name} has {own_size[0]}x{own_size[1]} pixels, {size[0]}x{size[1]} at the "
            f"network's scale, which needs {MIN_SIZE} on each side."
        )
    if size != own_size:
        rgb = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))
        depth = depth if depth is None else resize_points(depth, size[::-1])
    return Frame(name, rgb, depth, uploaded_size=own_size)


def recording_frames(
    kind: str,
    path: Path,
    numbers: Collection[int] | None,
    short_side: int | None,
    *,
    count: int = 1,
    intrinsics: str | None = None,
) -> list[Frame]:
    """Return frames of a recording at the network's training scale, their measurements as depth.

    Args:
        kind, path, intrinsics: see `inference.sources.open_source`.
        numbers: of the frames, from 0; None is `count` of them, evenly spread.
        short_side: see `open_image`.

    Raises:
        DataError: not a recording of that kind, no such frame, or one that cannot be used.
        OptionError: no such kind, or intrinsics for one that has its own.
    """
    source = open_source(kind, path, intrinsics=intrinsics)
    if numbers is None:
        length = source.length or count
        numbers = {i * length // count for i in range(min(count, length))}
    walked = itertools.count()
    frames = source.frames(skip=lambda name: next(walked) not in numbers)
    found = [
        _scaled(f"{path.name}, frame {frame.name}", frame.rgb, frame.sparse_depth, short_side)
        for frame in frames
    ]
    if not found:
        raise DataError(f"{path} has no frame {min(numbers)}, it has {next(walked)}")
    return found


def open_recording(
    kind: str, path: Path, number: int, short_side: int | None, intrinsics: str = ""
) -> Frame:
    """Return a frame of an uploaded recording, a file or a .zip of its folder; see
    `recording_frames`. What was unpacked is removed."""
    if not re.fullmatch(r"[-+.,\deE\s]*", intrinsics):
        raise DataError(f"intrinsics must be fx,fy,cx,cy in pixels, got {intrinsics!r}.")
    with _for_the_page(path), tempfile.TemporaryDirectory() as folder:
        read = _unpacked(path, Path(folder) / path.stem) if path.suffix == ".zip" else path
        given = intrinsics.strip() or None
        return recording_frames(kind, read, {number}, short_side, intrinsics=given)[0]


def _unpacked(path: Path, folder: Path) -> Path:
    """Unpack an archive and return its folder: the only one that it holds, if there is no more."""
    with damage(path.name, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        size = sum(file.file_size for file in archive.infolist())
        if size > MAX_UNPACKED:
            raise DataError(f"{path.name} unpacks to {size} bytes, more than {MAX_UNPACKED}")
        archive.extractall(folder)  # which keeps names within the folder
    inside = [file for file in folder.glob("[!._]*") if file.name != "__MACOSX"]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def open_depth(path: Path, frame: Frame) -> np.ndarray:
    """Return an uploaded depth map (`image_files.read_depth`) of a frame's image, at the frame's
    size: (H, W) float32 metres, 0 = no measurement, its points moved, never averaged.

    The map has the size of the image as uploaded; a PNG's integers are millimetres. Raise DataError
    where it is no depth map, of another size, or without any measurement.
    """
    size = frame.rgb.shape[:2]
    expected = frame.uploaded_size[::-1] if frame.uploaded_size else size
    scale = PNG_SCALE if path.suffix.lower() == ".png" else None
    with _for_the_page(path):
        depth, _ = read_depth(path, expected, scale=scale)
    if not depth.any():
        raise DataError(f"{path.name} holds no measurement: every value is 0.")
    return depth if depth.shape == size else resize_points(depth, size)


def frame_size(size: tuple[int, int], short_side: int | None) -> tuple[int, int]:
    """Return (width, height) of the network's input for an image of `size` (width, height)."""
    if short_side is not None:
        size = resized_size(size, short_side)
    shrink = (MAX_FRAME_PIXELS / (size[0] * size[1])) ** 0.5
    return size if shrink >= 1 else (int(size[0] * shrink), int(size[1] * shrink))


@contextlib.contextmanager
def _for_the_page(path: Path) -> Iterator[None]:
    """Raise what is wrong with an upload without the server's folders and the command's flags."""
    try:
        yield
    except (DataError, OptionError) as error:
        text = str(error).replace(str(path), path.name)
        text = re.sub(r"/\S*/(?=[^/\s])| \(--.*?\)", "", text)
        raise DataError(f"{text}.") from error
