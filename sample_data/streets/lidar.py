"""A rotating 64-beam LiDAR like the Velodyne HDL-64E, and its projection into a camera.

L lasers, A azimuth steps of one scan; only the sector in front of the cameras is scanned.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from sample_data.camera import ALL, Camera, Window, columns
from sample_data.render import cast, surfaces
from sample_data.scene import Scene
from sample_data.shapes import dot
from sample_data.streets.daylight import is_sky

# Two blocks of 32 lasers [degrees]: a third of a degree apart above, half a degree below.
ELEVATIONS = np.concatenate([np.linspace(2.0, -8.33, 32), np.linspace(-8.83, -24.9, 32)])
# About 2,250 firings a turn: the density of projected scans in KITTI, 5 % of the pixels near the
# lower border and 8 % further up. The 0.09 degrees often quoted would give twice as many points.
AZIMUTH_STEP = 0.16
SECTOR = 46.0  # [degrees] to either side
NEAREST, FARTHEST = 1.0, 80.0  # [m]
RANGE_NOISE = 0.02  # [m]
FOLIAGE_NOISE = 0.1  # [m], a pulse that is split among leaves

# Light that comes back half of the time: albedo x cosine / distance^2 [1 / m^2].
_HALF_SIGNAL = 3e-7


@dataclass(frozen=True)
class Scanner(Camera):
    """A camera whose picture has a row for each laser, which bends away from the horizon.

    The slopes u, v are (L, A).
    """

    def rays(self, frame: np.ndarray | None = None, window: Window = ALL) -> np.ndarray:
        """Return (3, l, a) float32 ray directions of a window of the scan; see `Camera`."""
        right, down, forward = columns(self.axes if frame is None else frame @ self.axes)
        return right * self.u[window] + down * self.v[window] + forward


def scanner(position: np.ndarray, axes: np.ndarray, rng: Generator) -> Scanner:
    """Return the scanner of one turn at `position` (3,) [m] with camera-like `axes` (3, 3).

    Where the turn begins and each laser's lag are random.
    """
    step, count = np.radians(AZIMUTH_STEP), int(SECTOR / AZIMUTH_STEP)
    nominal = (np.arange(-count, count + 1) + rng.uniform(-0.5, 0.5)) * step
    azimuth = nominal + rng.uniform(-0.5, 0.5, (len(ELEVATIONS), 1)) * step
    tangent = -np.tan(np.radians(ELEVATIONS))
    u = np.tan(azimuth).astype(np.float32)
    v = (tangent[:, None] / np.cos(azimuth)).astype(np.float32)
    first, second = np.tan(nominal[:2]).astype(np.float32)
    return Scanner(position, axes, u, v, second - first)


def scan(scene: Scene, position: np.ndarray, axes: np.ndarray, rng: Generator) -> np.ndarray:
    """Measure the points of one turn; the pose is that of `scanner`.

    Returns (N, 3) float64 world coordinates [m], with noise, only of pulses that came back.
    """
    device = scanner(position, axes, rng)
    hits = cast(scene, device)
    seen, table = surfaces(scene, device, hits), scene.materials
    ray = seen.ray.astype(np.float64)
    length = np.sqrt(dot(ray, ray))
    distance = hits.depth.ravel() * length
    grey = sum(table.atlas.lookup(seen.material, seen.uv, seen.texels)) / 3
    signal = grey * seen.facing / np.maximum(distance, NEAREST) ** 2
    # Panes and black paint mirror the pulse away whatever the distance.
    chance = table.infrared.take(seen.material) * signal / (signal + _HALF_SIGNAL)
    chance *= np.clip(0.75 + 15 * grey, 0, 1)
    leaves = table.foliage.take(seen.material)  # let pulses through and blur them
    chance[leaves] *= 0.96
    sigma = np.where(leaves, FOLIAGE_NOISE, RANGE_NOISE)
    draw = rng.random(len(distance))
    measured = distance + rng.standard_normal(len(distance)) * sigma
    kept = (draw < chance) & ~is_sky(hits) & (distance > NEAREST) & (distance < FARTHEST)
    return position + ((measured / length) * ray)[:, kept].T


def project(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Return (H, W) float32 z-depth [m] of points (N, 3) [m] in a camera, 0 where none falls.

    The nearest of several points in a pixel stays. Points that the camera cannot see, since LiDAR
    and camera are apart, stay as in real data.
    """
    local = (points - camera.position) @ camera.axes
    local = local[(local[:, 2] > NEAREST) & (local[:, 2] < FARTHEST)]
    local = local[np.argsort(-local[:, 2])]  # of those in one pixel the last written stays
    depth = np.zeros((len(camera.v), camera.u.size), np.float32)
    cells, inside = [], np.ones(len(local), bool)
    for axis, slopes in ((1, camera.v.ravel()), (0, camera.u.ravel())):
        pitch = float(slopes[-1] - slopes[0]) / (len(slopes) - 1)
        slope = local[:, axis] / local[:, 2]
        cells.append(np.rint((slope - float(slopes[0])) / pitch).astype(np.int64))
        inside &= (cells[-1] >= 0) & (cells[-1] < len(slopes))
    row, column = cells
    depth[row[inside], column[inside]] = local[inside, 2]
    return depth
