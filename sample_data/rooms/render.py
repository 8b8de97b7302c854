"""Ray casting of a room on a pinhole camera.

Camera rays are not normalised: their component along the optical axis is 1, so that the ray
parameter t of a hit IS its z-depth in metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sample_data.rooms.scene import Scene
from sample_data.rooms.shapes import FACES, Shape, corners_of, intersect


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Args:
        position: (3,) world position [m].
        axes: (3, 3) columns are the right, down and forward directions in the world.
        u: (W,) float32 ray slope to the right of each pixel column, (column - cx) / fx.
        v: (H,) float32 ray slope downwards of each pixel row.
    """

    position: np.ndarray
    axes: np.ndarray
    u: np.ndarray
    v: np.ndarray

    def rays(self, frame: np.ndarray) -> np.ndarray:
        """(3, 3) float32: ray direction in a frame (rows: its axes) = matrix @ (u, v, 1)."""
        return (frame @ self.axes).astype(np.float32)

    def directions(
        self, matrix: np.ndarray, rows: slice = slice(None), columns: slice = slice(None)
    ) -> list[np.ndarray]:
        """Three (h, w) arrays matrix @ (u, v, 1) for a window of the picture."""
        return grid(matrix, self.u[columns], self.v[rows])

    def slopes(self) -> tuple[np.ndarray, np.ndarray]:
        """u and v of every ray, each (H W,) float32 in row order."""
        return np.tile(self.u, len(self.v)), np.repeat(self.v, len(self.u))

    def spans(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Windows that hold all rays with slopes between low and high, each (P, 2) of (u, v).

        Returns:
            (P, 4) int: top, bottom, left, right, as for slices.
        """
        found = []
        for axis, slopes in ((1, self.v), (0, self.u)):
            start = np.searchsorted(slopes, low[:, axis].astype(np.float32))
            end = np.searchsorted(slopes, high[:, axis].astype(np.float32))
            found += [np.maximum(start - 1, 0), np.minimum(end + 1, len(slopes))]
        return np.stack(found, axis=1)


@dataclass
class Hits:
    """What every ray sees first.

    Args:
        depth: (H, W) float32 z-depth [m].
        surface: (H, W) int32, 6 x solid + face; solid 0 is the room itself, solid k is
            `scene.shapes[k - 1]`.
    """

    depth: np.ndarray
    surface: np.ndarray


def grid(matrix: np.ndarray, u: np.ndarray, v: np.ndarray) -> list[np.ndarray]:
    """Three (H, W) arrays matrix @ (u, v, 1)."""
    return [row[0] * u[None] + (row[1] * v + row[2])[:, None] for row in matrix]


def cast(scene: Scene, camera: Camera) -> Hits:
    """Finds the nearest surface along every camera ray."""
    depth, surface = _cast_hull(scene, camera)
    for number, (shape, window) in enumerate(
        zip(scene.shapes, _windows(scene.shapes, camera), strict=True), start=1
    ):
        if window is None:
            continue
        rows, columns, nearest = window
        part = depth[rows, columns]
        if nearest > part.max():
            continue
        direction = camera.directions(camera.rays(shape.axes), rows, columns)
        origin = list((shape.axes @ (camera.position - shape.centre)).astype(np.float32))
        t, face = intersect(shape, origin, direction)
        closer = t < part
        np.copyto(part, t, where=closer)
        label = number * FACES + (0 if face is None else face.astype(np.int32))
        np.copyto(surface[rows, columns], label, where=closer)
    return Hits(depth, surface)


def _cast_hull(scene: Scene, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Leaving points of the rays from the room itself: the nearest plane ahead on each axis."""
    direction = camera.directions(camera.rays(np.eye(3)))
    depth = surface = None
    for axis, d in enumerate(direction):
        ahead = d > 0
        here = camera.position[axis]
        wall = np.where(ahead, np.float32(scene.size[axis] - here), np.float32(here))
        t = wall / np.maximum(np.abs(d), np.float32(1e-9))
        label = 2 * axis + ahead
        if depth is None:
            depth, surface = t, label
        else:
            surface = np.where(t < depth, label, surface)
            depth = np.minimum(t, depth)
    return depth, surface.astype(np.int32)


_EDGES = np.array([[a, b] for a in range(8) for b in range(a + 1, 8) if (a ^ b) in (1, 2, 4)])


def _windows(shapes: list[Shape], camera: Camera) -> list[tuple[slice, slice, float] | None]:
    """Rows and columns each solid can cover and its least depth [m]; None: out of sight.

    The bounding box is clipped at a plane just before the camera, for solids beside it.
    """
    if not shapes:
        return []
    near = 0.05
    points = (corners_of(shapes) - camera.position) @ camera.axes
    start, end = points[:, _EDGES[:, 0]], points[:, _EDGES[:, 1]]  # (P, 12, 3)
    rise = end[..., 2] - start[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (near - start[..., 2]) / rise
    crosses = (start[..., 2] < near) != (end[..., 2] < near)
    share = np.where(crosses, share, 0)
    cuts = start + share[..., None] * (end - start)
    points = np.concatenate([points, cuts], axis=1)  # (P, 20, 3)
    seen = np.concatenate([points[:, :8, 2] >= near, crosses], axis=1)
    slopes = points[..., :2] / np.where(seen, points[..., 2], 1.0)[..., None]
    low = np.where(seen[..., None], slopes, np.inf).min(1)
    high = np.where(seen[..., None], slopes, -np.inf).max(1)
    low[~seen.any(1)] = high[~seen.any(1)] = 0  # behind the camera: skipped below
    nearest = np.where(seen, points[..., 2], np.inf).min(1)
    windows: list[tuple[slice, slice, float] | None] = []
    for k, (top, bottom, left, right) in enumerate(camera.spans(low, high).tolist()):
        if not seen[k].any() or top >= bottom or left >= right:
            windows.append(None)
        else:
            area = slice(top, bottom), slice(left, right)
            windows.append((*area, float(nearest[k]) - 1e-3))
    return windows
