"""What a Kinect makes of a perfect picture: colours, noise, borders and missing depth."""

import cv2
import numpy as np
from numpy.random import Generator

from sample_data.camera import develop

# Colour and depth of NYU Depth v2 share a pinhole model with about these values at 640 x 480.
WIDTH, HEIGHT = 640, 480
FOCAL = 518.86  # [pixels]
CX, CY = 325.58, 253.74
NEAREST, FARTHEST = 0.5, 10.0  # [m]

# depth = 351.3 / (1092.5 - raw), the calibration of the NYU toolbox: raw values are whole numbers.
_RAW_SCALE = 351.3
_BASELINE = 0.075  # [m] from the infrared camera to the pattern projector


def expose(rgb: np.ndarray, rng: Generator) -> np.ndarray:
    """Return the (H, W, 3) uint8 sRGB camera picture of linear radiance (H, W, 3), overwritten.

    Exposure and white balance are random; it has the white border of a few pixels of NYU frames.
    """
    # Mean of the picture after exposure, in linear light: 0.05 is dim, 0.25 bright.
    target = np.exp(rng.uniform(np.log(0.05), np.log(0.22)))
    middle = float(np.mean(np.minimum(rgb[::4, ::4], 4 * np.median(rgb[::4, ::4]))))
    tint = np.array([rng.uniform(0.88, 1.14), 1.0, rng.uniform(0.82, 1.12)])
    out = develop(rgb, target / max(middle, 1e-4) * tint, rng)
    edge = rng.integers(3, 8, 4)
    out[: edge[0]] = out[len(out) - edge[1] :] = 255
    out[:, : edge[2]] = out[:, out.shape[1] - edge[3] :] = 255
    return out


def millimetres(depth: np.ndarray) -> np.ndarray:
    """Return depth [m] rounded to whole millimetres and kept within the limits; 0 stays 0."""
    rounded = np.round(depth.astype(np.float64) * 1000) / 1000
    limited = np.clip(rounded, NEAREST, FARTHEST)
    return np.where(depth > 0, limited, 0).astype(np.float32)


def _blotches(rng: Generator, shape: tuple[int, int], cell: int) -> np.ndarray:
    """Return (H, W) float32 smooth noise of deviation 1 or so with blobs of `cell` pixels."""
    size = (shape[0] // cell + 2, shape[1] // cell + 2)
    coarse = rng.standard_normal(size, dtype=np.float32)
    return 1.5 * cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def kinect(
    depth: np.ndarray, facing: np.ndarray, infrared: np.ndarray, gloss: np.ndarray, rng: Generator
) -> np.ndarray:
    """Return depth [m] as the sensor measures it, quantised like disparity, 0 where it cannot.

    Args, all (H, W) float32 as the result:
        depth: true z-depth [m]. facing: cosine between surface normal and view.
        infrared: reflectance at the projector's wavelength. gloss: mirror highlight, 0 to 1.
    """
    shape = depth.shape
    raw = _RAW_SCALE / depth
    raw += 0.35 * _blotches(rng, shape, 5) + 0.25 * _blotches(rng, shape, 2)
    seen = _RAW_SCALE / np.round(raw)
    fine, broad = _blotches(rng, shape, 6), _blotches(rng, shape, 24)

    # Pattern light that comes back, relative to a white wall at 1 m, against a noisy threshold.
    signal = np.log(infrared * (0.15 + 0.85 * facing) / (depth * depth))
    hole = signal + 0.4 * fine + 0.6 * broad < np.log(rng.uniform(0.004, 0.010))
    hole |= facing < 0.13 + 0.05 * fine
    hole |= gloss > 0.55 + 0.15 * fine
    hole |= depth > rng.uniform(7.5, 9.5) + 0.6 * broad
    hole |= (broad > 2.9) & (fine > 0.4)
    # Matching works on windows of pixels, so holes are blots and not single grains.
    hole = cv2.medianBlur(hole.astype(np.uint8), 5) > 0
    hole |= _occluded(depth) | _edges(depth, rng) | _outside(shape, rng)
    return np.where(hole | (seen < NEAREST) | (seen > FARTHEST), np.float32(0), seen)


def _occluded(depth: np.ndarray) -> np.ndarray:
    """Mark pixels the projector cannot reach, since something nearer stands in between.

    The projector is to the right, so a point at column x lies at x - f b / z in its picture; a
    point is in shadow if one further right lands on or left of the same column.
    """
    column = np.arange(depth.shape[1], dtype=np.float32) - np.float32(FOCAL * _BASELINE) / depth
    reached = np.minimum.accumulate(column[:, ::-1], axis=1)[:, ::-1]
    hidden = np.zeros(depth.shape, np.uint8)
    hidden[:, :-1] = column[:, :-1] > reached[:, 1:] + np.float32(0.3)
    return cv2.morphologyEx(hidden, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0


def _edges(depth: np.ndarray, rng: Generator) -> np.ndarray:
    """Mark a band of ragged width along depth discontinuities, where the matching windows fail."""
    square = np.ones((3, 3), np.uint8)
    jump = cv2.dilate(depth, square) - cv2.erode(depth, square) > 0.06 * depth
    # Steep surfaces also differ between neighbours; only a change of slope is an edge.
    bend = np.abs(cv2.Laplacian(depth, cv2.CV_32F)) > 0.03 * depth
    edge = (jump & bend).astype(np.uint8)
    patches = _blotches(rng, depth.shape, 12)
    wide = cv2.dilate(edge, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))) > 0
    return ((edge > 0) & (patches > -0.7)) | (wide & (patches > 1.1))


def _outside(shape: tuple[int, int], rng: Generator) -> np.ndarray:
    """Mark the rim the depth camera does not cover after alignment with the colour camera."""
    top, bottom = 42 + rng.integers(-3, 4, 2), 472 + rng.integers(-3, 4, 2)
    left, right = 30 + rng.integers(-4, 5, 2), 608 + rng.integers(-4, 5, 2)
    x, y = (left[0], right[0], right[1], left[1]), (top[0], top[1], bottom[1], bottom[0])
    inside = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(inside, np.stack([x, y], axis=1).astype(np.int32), 1)
    return inside == 0
