"""What every kind of recording is read into: frames, one after another.

A reader opens a recording without reading its frames and hands a `Source` over, whose frames are
read, checked and forgotten one by one.
"""

import contextlib
import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import cv2
import numpy as np

from dataloaders.errors import DataError, printable
from dataloaders.units import check_metres
from engine.errors import system_sentence
from inference.image_files import DAMAGE
from inference.point_cloud import Rays

INSTALL = "pip install -r requirements-sensors.txt"


@dataclass(frozen=True)
class Frame:
    """One moment of a recording.

    rgb: (H, W, 3) uint8, of a pinhole camera where lens distortion is undone.
    sparse_depth: (H, W) float32 metres along the optical axis, 0 = no measurement.
    intrinsics: of these pixels, (0, 0) the centre of the first one; a `projection.Camera` where
        they have lens distortion; None where unknown.
    name: of the frame in its recording, good for a file's name.
    time_stamp: seconds of the recording's own clock, None without one.
    pose: (4, 4) camera to world, metres; None where unknown.
    """

    rgb: np.ndarray
    sparse_depth: np.ndarray
    intrinsics: Rays | None
    name: str
    time_stamp: float | None = None
    pose: np.ndarray | None = None


class Pending(NamedTuple):
    """A frame that is there and not yet read; `load` may raise what damaged files raise."""

    name: str
    load: Callable[[], Frame]


@dataclass
class Source:
    """A recording that is open.

    path: what was opened, for sentences.
    pending: the frames in their order, or what begins to walk them.
    length: how many there are at most, None where that is known only at the end.
    notes: what was assumed and a user should know, a clause each.
    one_size: whether all frames must have the size of the first.
    has_poses: whether frames have poses, though not each need have one.
    """

    path: Path
    pending: Iterable[Pending] | Callable[[], Iterator[Pending]]
    length: int | None = None
    notes: list[str] = field(default_factory=list)
    one_size: bool = True
    has_poses: bool = False

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(
        self,
        *,
        skip: Callable[[str], bool] = lambda name: False,
        report: Callable[[str, DataError], None] | None = None,
    ) -> Iterator[Frame]:
        """Read the frames one by one.

        Args:
            skip: names of frames that are passed over unread.
            report: takes the name and the error of a frame that cannot be used, and the next one
                follows; None raises the error.

        Raises:
            DataError: a frame that cannot be read, has no measurement, or changes the size; or
                the whole recording cannot be read any further.
        """
        first = None
        for name, load in self.pending() if callable(self.pending) else self.pending:
            if skip(name):
                continue
            try:
                with damage("it"):
                    frame = _checked(load())
                if self.one_size and first is not None and frame.rgb.shape != first:
                    raise DataError(f"it is {_size(frame.rgb.shape)}, those before {_size(first)}")
                first = first or frame.rgb.shape
            except DataError as error:
                named = DataError(f"{self.path}, frame {printable(name)}: {error}")
                if report is None:
                    raise named from error
                report(name, named)
                continue
            yield frame


def _checked(frame: Frame) -> Frame:
    if frame.sparse_depth.shape != frame.rgb.shape[:2]:
        own, other = (_size(m.shape) for m in (frame.sparse_depth, frame.rgb))
        raise DataError(f"its depth is {own}, its image {other} (width x height)")
    if not frame.sparse_depth.any():
        raise DataError("no measurement falls into its image")
    check_metres(frame.sparse_depth, "its depth")
    return frame


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def decoded(content: bytes | np.ndarray, name: str) -> np.ndarray:
    """Return (H, W, 3) uint8 of the bytes of a JPEG or PNG; `name` stands for it in sentences."""
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{name} is damaged")
    return np.ascontiguousarray(image[..., ::-1])


def require(module: str, what: str) -> ModuleType:
    """Return an optional package's module, or raise a `DataError` with the way to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(f"{what} needs the package {module.split('.')[0]}: {INSTALL}") from error


@contextlib.contextmanager
def damage(source: object, *errors: type[Exception]) -> Iterator[None]:
    """Make a `DataError` that names `source` of what the context raises on damaged files: `errors`
    of a library, beside those of `image_files.DAMAGE`."""
    try:
        yield
    except DataError:
        raise
    except (*DAMAGE, *errors) as error:
        if isinstance(error, OSError) and error.errno:
            raise DataError(system_sentence(error)) from error
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{source} cannot be read: {line[:200]}") from error


def nearest_in_time(stamps: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the index (N,) of the one of `others` (M,) [s] that is nearest to each of `stamps`
    (N,) [s], and how far it is [s]."""
    order = np.argsort(others)
    middles = (others[order][1:] + others[order][:-1]) / 2
    nearest = order[np.searchsorted(middles, stamps)]
    return nearest, np.abs(others[nearest] - stamps)


def match_times(
    path: Path, rgb: np.ndarray, depth: np.ndarray, max_dt: float
) -> tuple[list[tuple[int, int]], list[str]]:
    """Pair images with the measurements nearest in time, each of either at most once.

    Args:
        path: of the recording, for sentences. rgb, depth: (N,), (M,) seconds.
        max_dt: largest gap [s].

    Returns:
        Pairs of indices in the images' order, and notes on gaps and on images without a partner.

    Raises:
        DataError: no image has a measurement that near: two clocks.
    """
    if not len(rgb) or not len(depth):
        raise DataError(f"{path} holds {len(rgb)} images and {len(depth)} measurements of depth")
    nearest, gaps = nearest_in_time(rgb, depth)
    if not gaps.min() <= max_dt:
        raise DataError(never_meet(path, gaps.min(), max_dt))
    images = {}  # a measurement belongs to the nearest of its images
    for i in np.argsort(gaps, kind="stable").tolist():
        if gaps[i] <= max_dt:
            images.setdefault(int(nearest[i]), i)
    pairs = sorted((image, other) for other, image in images.items())
    return pairs, gap_notes(gaps[list(images.values())].tolist(), len(rgb), max_dt)


def gap_notes(gaps: Sequence[float], images: int, max_dt: float) -> list[str]:
    """Return notes on the `gaps` of pairs [s], and on images without a partner."""
    notes = [f"image and depth are {1000 * max(gaps):.0f} ms apart at most"] * (max(gaps) > 0.001)
    if missing := images - len(gaps):
        notes.append(
            f"{missing} of {images} images have no depth of their own within {max_dt:g} s and are "
            "left out (--max-dt)"
        )
    return notes


def never_meet(path: Path, gap: float, max_dt: float) -> str:
    """Return the sentence for images and measurements of two clocks, at least `gap` seconds
    apart."""
    return (
        f"{path}: the clocks of images and depth never meet, the nearest two are {gap:.6g} s "
        f"apart, expected at most {max_dt:g} (--max-dt)"
    )
