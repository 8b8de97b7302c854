"""Pillow's arithmetic on frames, bit for bit, compiled by numba where it is installed.

The published numbers come from Pillow's resampling, so `transforms` is written with Pillow and
this file repeats its sums in an order that a CPU's vector units can follow: a resampled row is a
weighted sum of whole rows, and columns are made rows by transposing. Only what the final crop can
show is computed. Bytes are mixed with Pillow's 22-bit whole weights, depth in its double
precision; tests compare every step with Pillow.

Shapes: images (C, H, W), C = 3 bytes of RGB or 1 float32 of depth in metres, 0 = none.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from dataloaders.pillow_exact import kernels
from dataloaders.pillow_exact.jit import HAS_NUMBA
from dataloaders.pillow_exact.kernels import POSITION_BITS, WEIGHT_BITS

# Pairs of name and factor, see `transforms.Augmentation`.
Jitter = tuple[tuple[str, float], ...]
UPRIGHT = (1 << 16, 0, 1 << 15, 0, 1 << 16, 1 << 15)  # `View.steps` without a rotation


@dataclass(frozen=True)
class View:
    """Which pixel of the resized image each pixel of the final crop shows.

    Row i, column j of the rotated image shows column (s0 j + s1 i + s2) >> 16 and row
    (s3 j + s4 i + s5) >> 16 of the resized one (s: `steps`), black where that is outside.
    """

    size: tuple[int, int]  # (width, height) of the resized image
    steps: tuple[int, ...]
    corner: tuple[int, int]  # (top, left) of the crop of the rotated image
    crop_size: tuple[int, int]  # its (height, width)
    flip: bool  # the crop is then mirrored left and right

    @property
    def whole(self) -> tuple[int, int, int, int]:
        """Return (top, left, bottom, right) of the resized image."""
        return 0, 0, self.size[1], self.size[0]

    @property
    def window(self) -> tuple[int, int, int, int]:
        """Return (top, left, bottom, right) of the resized image's part that the crop can show."""
        (top, left), (height, width) = self.corner, self.crop_size
        corners = [(i, j) for i in (top, top + height - 1) for j in (left, left + width - 1)]
        s = self.steps
        columns = [(s[0] * j + s[1] * i + s[2]) >> POSITION_BITS for i, j in corners]
        rows = [(s[3] * j + s[4] * i + s[5]) >> POSITION_BITS for i, j in corners]
        # Straight lines: nothing between the corners reaches further than they do.
        return (
            min(max(min(rows), 0), self.size[1] - 1),
            min(max(min(columns), 0), self.size[0] - 1),
            max(min(max(rows) + 1, self.size[1]), 1),
            max(min(max(columns) + 1, self.size[0]), 1),
        )

    def take(self, part: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
        """Return the crop (C, h, w) out of the resized image's `window`, `part`."""
        top, left = window[:2]
        if self.steps == UPRIGHT:
            (row, column), (height, width) = self.corner, self.crop_size
            row, column = row - top, column - left
            crop = part[:, row : row + height, column : column + width]
            return (crop[..., ::-1] if self.flip else crop).copy()
        crop = np.empty((len(part), *self.crop_size), part.dtype)
        kernels.take(part, top, left, self.steps, *self.corner, self.flip, crop)
        return crop


def rotation(size: tuple[int, int], degrees: float) -> tuple[int, ...]:
    """Return `View.steps` of Pillow's anticlockwise rotation about the centre, in 1/65536 pixel."""
    if not degrees:
        return UPRIGHT
    angle = -math.radians(degrees % 360.0)
    x, y = size[0] / 2, size[1] / 2
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    # Written in Pillow's order of operations, which decides the last bit.
    shift_x = (cos * -x + sin * -y + 0.0) + x
    shift_y = (-sin * -x + cos * -y + 0.0) + y
    steps = (
        cos,
        sin,
        shift_x + cos * 0.5 + sin * 0.5,
        -sin,
        cos,
        shift_y + -sin * 0.5 + cos * 0.5,
    )
    return tuple(math.floor(step * (1 << POSITION_BITS) + 0.5) for step in steps)


def covers(source: tuple[int, int], size: tuple[int, int]) -> bool:
    """Return whether `resize` from `source` to `size`, both (width, height), is Pillow's.

    Columns are mixed before rows. Pillow 13 mixes rows first where it finds that cheaper, in tall
    images and in those that lose more of their height than of their width.
    """
    (width, height), (new_width, new_height) = source, size
    keeps_shape = height * new_width <= 1.02 * new_height * width
    return new_height >= height or (new_width <= width and height <= 1.5 * width and keeps_shape)


def resize(
    image: np.ndarray, size: tuple[int, int], window: tuple[int, int, int, int]
) -> np.ndarray:
    """Return Pillow's bilinear resizing, which averages where it makes an image smaller.

    Args:
        image: (C, H, W) uint8 or float32. size: (width, height) of the result, see `covers`.
        window: (top, left, bottom, right), the part of the result to compute.
    """
    top, left, bottom, right = window
    height, width = image.shape[1:]
    if (width, height) == size:
        return image[:, top:bottom, left:right].copy()
    mix = kernels.mix_bytes if image.dtype == np.uint8 else kernels.mix_floats
    rows = _needed(height, size[1], top, bottom, image.dtype)
    columns = _needed(width, size[0], left, right, image.dtype)
    (row, end_row), (column, end_column) = rows[0], columns[0]
    result = np.empty((len(image), bottom - top, right - left), image.dtype)
    narrowed = np.empty((right - left, end_row - row), image.dtype)
    for channel, out in zip(image, result, strict=True):
        mix(cv2.transpose(channel[row:end_row, column:end_column]), *columns[1:], narrowed)
        mix(cv2.transpose(narrowed), *rows[1:], out)
    return result


def change_colors(image: np.ndarray, name: str, factor: float, mean: int = 0) -> None:
    """Apply one of Pillow's colour changes, in place: (3, h, w) uint8.

    Args:
        name: brightness, contrast or saturation. mean: grey value that contrast spreads from.
    """
    factor = np.float32(factor)
    if name == "saturation":
        kernels.saturate(image.reshape(3, -1), factor)
    else:
        kernels.spread(image.reshape(-1), np.float32(mean if name == "contrast" else 0), factor)


def is_able(
    rgb: np.ndarray,
    depth: np.ndarray,
    box: tuple[int, int, int, int],
    size: tuple[int, int],
    degrees: float,
    jitter: Jitter,
) -> bool:
    """Return whether this file serves: numba is there, and box, size and draw are ordinary."""
    top, left, bottom, right = box
    return (
        HAS_NUMBA
        and rgb.dtype == np.uint8
        and depth.dtype == np.float32
        and bottom <= depth.shape[0]
        and right <= depth.shape[1]
        and covers((right - left, bottom - top), size)
        # Pillow turns by right angles in another way.
        and (degrees % 90 != 0 or degrees == 0)
        and [name for name, _ in jitter].count("contrast") <= 1
    )


def view_rgb(rgb: np.ndarray, view: View, jitter: Jitter) -> np.ndarray:
    """Resize, rotate, jitter and crop (3, H, W) bytes -> (3, h, w)."""
    names = [name for name, _ in jitter]
    if "contrast" not in names:
        crop = view.take(resize(rgb, view.size, view.window), view.window)
        after, mean = jitter, 0
    else:
        # Contrast spreads from the mean of the whole image, black corners included. What comes
        # before it changes pixels one by one and leaves black alone, so it can precede rotation.
        before, after = jitter[: names.index("contrast")], jitter[names.index("contrast") :]
        image = resize(rgb, view.size, view.whole)
        for name, factor in before:
            change_colors(image, name, factor)
        mean = int(kernels.grey_total(image, view.steps) / math.prod(view.size) + 0.5)
        crop = view.take(image, view.whole)
    for name, factor in after:
        change_colors(crop, name, factor, mean)
    return crop


def view_depth(depth: np.ndarray, view: View) -> np.ndarray:
    """Resize bilinearly, rotate and crop (H, W) metres -> (h, w)."""
    return view.take(resize(depth[None], view.size, view.window), view.window)[0]


def _needed(
    n_in: int, n_out: int, start: int, stop: int, dtype: np.dtype
) -> tuple[tuple[int, int], np.ndarray, np.ndarray, np.ndarray]:
    """Return the sources [first, end) of results [start, stop), and their weights from there on."""
    first, count, weights = kernels.weights(n_in, n_out, start, stop)
    if dtype == np.uint8:
        weights = (weights * (1 << WEIGHT_BITS) + 0.5).astype(np.int32)
    bounds = int(first[0]), int(first[-1] + count[-1])
    return bounds, first - first[0], count, weights
