"""A film, or a folder of images, with one sparse map for each frame."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from dataloaders.errors import DataError
from inference.image_files import DEPTH_SUFFIXES, read_depth, read_rgb
from inference.pairs import match_pairs
from inference.sources.calibration import read_camera
from inference.sources.frames import Frame, Pending, Source
from inference.sources.projection import map_frame


class Film:
    """The pictures of a video file, decoded one after another and only where they are wanted.

    Iterating yields a function for each picture that returns it, (H, W, 3) uint8; it must be called
    before the next one is taken.
    """

    def __init__(self, path: Path):
        self.path = path
        if not path.is_file():
            raise DataError(f"{path} does not exist")

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise DataError(f"{self.path} is not a video this reads")
        return capture

    def __len__(self) -> int:
        """How many pictures its header claims."""
        capture = self._open()
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        return max(count, 0)

    def __iter__(self) -> Iterator[Callable[[], np.ndarray]]:
        capture = self._open()
        try:
            while capture.grab():
                yield partial(_retrieve, capture)
        finally:
            capture.release()


def _retrieve(capture: cv2.VideoCapture) -> np.ndarray:
    good, image = capture.retrieve()
    if not good:
        raise DataError("its picture cannot be decoded")
    return np.ascontiguousarray(image[..., ::-1])


def open_video(
    path: Path,
    *,
    sparse: str | None = None,
    depth_scale: float | None = None,
    intrinsics: str | None = None,
    distortion: str = "undo",
) -> Source:
    """Open a film and a folder of maps in the order of their numbers, or two folders of files that
    are matched by name (`inference.pairs`).

    Args:
        sparse: folder of the maps; None is `path` itself, where that is a folder.
    """
    camera = read_camera(intrinsics) if intrinsics is not None else None
    notes = camera.lens_notes(distortion) if camera is not None else []

    def load(name: str, picture: Callable[[], np.ndarray], sparse: Path) -> Frame:
        rgb = picture()
        depth = read_depth(sparse, rgb.shape[:2], scale=depth_scale)[0]
        return map_frame(rgb, depth, camera, name, distortion=distortion)

    folder = Path(sparse) if sparse is not None else path
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: name that of the sparse maps with --sparse")
    if path.is_dir():
        pairs, left_out = match_pairs(path, folder)
        pending = [
            Pending(
                image.stem,
                partial(load, image.stem, lambda image=image: read_rgb(image)[0], sparse),
            )
            for image, sparse in pairs
        ]
        notes += [f"left out, without a partner: {', '.join(left_out[:8])}"] if left_out else []
        return Source(path, pending, len(pending), notes)
    film = Film(path)
    maps = sorted((p for p in folder.glob("[!.]*") if p.suffix in DEPTH_SUFFIXES), key=_numbers)
    if abs(len(film) - len(maps)) > 1:  # headers are one off at times
        raise DataError(f"{path} has {len(film)} frames and {folder} {len(maps)} sparse maps")

    def walk() -> Iterator[Pending]:
        for picture, file in zip(film, maps, strict=False):
            yield Pending(file.stem, partial(load, file.stem, picture, file))

    return Source(path, walk, len(maps), notes)


def _numbers(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts 2.png before 10.png."""
    parts = re.split(r"(\d+)", path.stem)
    return [(int(part) if part.isdecimal() else -1, part) for part in parts]
