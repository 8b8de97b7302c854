"""Pinhole cameras: their rays, and the picture they make of linear light.

Camera frames have x to the right, y down and z forward. Rays are not normalised: their component
along the optical axis is 1, so that the ray parameter t of a hit IS its z-depth in metres.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from sample_data.shapes import rotation

Window = tuple[slice, slice]  # rows and columns of a picture
ALL: Window = slice(None), slice(None)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera."""

    position: np.ndarray  # (3,) in the world [m]
    axes: np.ndarray  # (3, 3) columns are the right, down and forward directions in the world
    u: np.ndarray  # (1, W) float32 ray slopes to the right, x / z, growing along a row
    v: np.ndarray  # (H, 1) float32 ray slopes downwards, y / z, growing along a column
    pitch: np.float32  # slope from one column to the next

    def rays(self, frame: np.ndarray | None = None, window: Window = ALL) -> np.ndarray:
        """Return (3, h, w) float32 ray directions of a window of the picture.

        `frame` (3, 3) has the axes of a local frame as rows; None is the world.
        """
        right, down, forward = columns(self.axes if frame is None else frame @ self.axes)
        return right * self.u[:, window[1]] + (down * self.v[window[0]] + forward)

    def spans(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return windows with all rays of slopes u, v between low and high, each (P, 2).

        Windows are (P, 4) int rows top, bottom, left, right, as for slices.
        """
        found = []
        for axis, slopes in ((1, self.v), (0, self.u)):
            # The greatest and least slope of every row, then of every column.
            start = np.searchsorted(slopes.max(axis), low[:, axis].astype(np.float32))
            end = np.searchsorted(slopes.min(axis), high[:, axis].astype(np.float32))
            found += [np.maximum(start - 1, 0), np.minimum(end + 1, slopes.shape[1 - axis])]
        return np.stack(found, axis=1)


def pinhole(
    position: np.ndarray,
    axes: np.ndarray,
    size: tuple[int, int],
    focal: float,
    centre: tuple[float, float],
    step: int = 1,
) -> Camera:
    """Return the camera at `position` (3,) [m] with `axes` (3, 3) and a picture of `size` (W, H).

    Focal length and `centre` (cx, cy) are in pixels; every step-th row and column is kept.
    """
    u, v = (
        ((np.arange(0, n, step) - c) / focal).astype(np.float32)
        for n, c in zip(size, centre, strict=True)
    )
    position = np.asarray(position, dtype=np.float64)
    return Camera(position, axes, u[None], v[:, None], u[1] - u[0])


def columns(matrix: np.ndarray) -> np.ndarray:
    """Return the columns of a matrix (3, 3) as three float32 vectors (3, 1, 1)."""
    return matrix.T.astype(np.float32)[:, :, None, None]


def camera_axes(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Return the (3, 3) right, down and forward directions of a camera as columns.

    `yaw` [rad] is 0 along +x and positive to the left, `pitch` [rad] is positive upwards, `roll`
    [rad] turns about the optical axis.
    """
    # Columns of the camera frame before it is turned: right = -y, down = -z, forward = +x.
    frame = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], dtype=np.float64)
    return rotation(yaw) @ rotation(roll=-pitch) @ frame @ rotation(roll)


def develop(rgb: np.ndarray, gain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the (H, W, 3) uint8 sRGB picture of linear radiance times a gain (3,).

    Adds vignetting, soft optics and noise drawn from `rng`. `rgb` (H, W, 3) float32 is overwritten.
    """
    height, width = rgb.shape[:2]
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    shade = 1 - np.float32(rng.uniform(0.05, 0.2)) * (x * x + y * y) / 2
    rgb *= shade[..., None] * gain.astype(np.float32)
    rgb = cv2.GaussianBlur(rgb, (0, 0), float(rng.uniform(0.55, 0.8)))
    # Shot noise grows with the square root of the light, read noise does not depend on it.
    noise = rng.standard_normal(rgb.shape, dtype=np.float32)
    level = np.float32(rng.uniform(0.006, 0.02))
    rgb += noise * (level * np.sqrt(np.maximum(rgb, 0) + np.float32(0.01)))
    return _TONE.take(np.clip(rgb * 2048, 0, 8191).astype(np.uint16))


# The display values (8192,) uint8 of linear light 0..4, with a shoulder for highlights.
_LINEAR = np.arange(8192) / 2048
_BENT = np.where(_LINEAR < 0.6, _LINEAR, 0.6 + 0.4 * (1 - np.exp(-(_LINEAR - 0.6) / 0.4)))
_TONE = np.round(255 * np.clip(_BENT, 0, 1) ** (1 / 2.2)).astype(np.uint8)
