"""Ray casting of a scene: what camera rays hit first, the surfaces seen, and shadows on them.

H, W is the size of a picture and N = H W the number of its pixels, in row order.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from sample_data.camera import Camera
from sample_data.scene import Scene
from sample_data.shapes import BOX, ELLIPSOID, FACES, Shape, column, corners, dot, intersect, turned
from sample_data.textures import SIZE

# For each box face: normal axis, then the local axes of the texture's u and v.
_FACE_AXES = np.array([[0, 1, 2], [0, 1, 2], [1, 0, 2], [1, 0, 2], [2, 0, 1], [2, 0, 1]])
_EDGES = np.array([[a, b] for a in range(8) for b in range(a + 1, 8) if (a ^ b) in (1, 2, 4)])
_NEAR = 0.05  # [m] before the camera, where bounding boxes are clipped


@dataclass
class Hits:
    """What every ray meets first; solid 0 is the hull, solid k is `scene.shapes[k - 1]`."""

    depth: np.ndarray  # (H, W) float32 z-depth [m]
    surface: np.ndarray  # (H, W) int32, 6 x solid + face


def cast(scene: Scene, camera: Camera) -> Hits:
    """Find the nearest surface along every camera ray."""
    depth, surface = _cast_hull(scene, camera)
    windows = zip(scene.shapes, *_windows(scene.shapes, camera), strict=True)
    for number, (shape, (top, bottom, left, right), nearest) in enumerate(windows, start=1):
        if top >= bottom or left >= right:
            continue
        window = slice(top, bottom), slice(left, right)
        part = depth[window]
        if nearest > part.max():
            continue
        direction = camera.rays(shape.axes, window)
        origin = (shape.axes @ (camera.position - shape.centre)).astype(np.float32)
        t, face = intersect(shape, origin[:, None, None], direction)
        closer = t < part
        np.copyto(part, t, where=closer)
        np.copyto(surface[window], number * FACES + face.astype(np.int32), where=closer)
    return Hits(depth, surface)


def _cast_hull(scene: Scene, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Find where rays leave the hull: at the nearest plane ahead on the three axes."""
    direction = camera.rays()
    ahead = direction > 0
    here = camera.position[:, None, None]
    size = scene.size[:, None, None]
    wall = np.where(ahead, (size - here).astype(np.float32), here.astype(np.float32))
    t = wall / np.maximum(np.abs(direction), np.float32(1e-9))
    axis = t.argmin(0)[None]
    depth = np.take_along_axis(t, axis, 0)[0]
    return depth, (2 * axis + np.take_along_axis(ahead, axis, 0))[0].astype(np.int32)


def _windows(shapes: list[Shape], camera: Camera) -> tuple[list, list]:
    """Find which part of the picture each of P solids can cover.

    The bounding box is clipped at a plane just before the camera, for solids beside it.

    Returns:
        P lists [top, bottom, left, right] of pixels, empty if out of sight;
        P least depths [m].
    """
    if not shapes:
        return [], []
    points = (corners(shapes) - camera.position) @ camera.axes
    start, end = points[:, _EDGES[:, 0]], points[:, _EDGES[:, 1]]  # (P, 12, 3)
    crosses = (start[..., 2] < _NEAR) != (end[..., 2] < _NEAR)
    rise = np.where(crosses, end[..., 2] - start[..., 2], 1)
    cuts = start + ((_NEAR - start[..., 2]) / rise)[..., None] * (end - start)
    points = np.concatenate([points, cuts], axis=1)  # (P, 20, 3)
    seen = np.concatenate([points[:, :8, 2] >= _NEAR, crosses], axis=1)
    slopes = points[..., :2] / np.where(seen, points[..., 2], 1.0)[..., None]
    low = np.where(seen[..., None], slopes, np.inf).min(1)
    high = np.where(seen[..., None], slopes, -np.inf).max(1)
    nearest = np.where(seen, points[..., 2], np.inf).min(1) - 1e-3
    return camera.spans(low, high).tolist(), nearest.tolist()


@dataclass
class Surfaces:
    """What the pixels of one picture show, every array float32 unless noted."""

    point: np.ndarray  # (3, N) world position [m]
    ray: np.ndarray  # (3, N) direction, along the optical axis 1
    normal: np.ndarray  # (3, N) unit normal towards the inside of the scene
    facing: np.ndarray  # (N,) cosine between the normal and the direction to the camera
    material: np.ndarray  # (N,) int32
    uv: np.ndarray  # (2, N) texture coordinates in tiles
    texels: np.ndarray  # (N,) footprint of a pixel in texels of the finest level
    shape: tuple[int, int]  # of the picture, H and W


def surfaces(scene: Scene, camera: Camera, hits: Hits) -> Surfaces:
    """Return positions, normals and texture coordinates of the visible surfaces."""
    table, tiles, material, normals = _surface_table(scene, camera)
    surface, t = hits.surface.ravel(), hits.depth.ravel()
    ray = camera.rays().reshape(3, -1)
    point = column(camera.position) + t * ray
    normal = normals.take(surface, axis=1)
    u, v = (slopes.ravel() for slopes in np.broadcast_arrays(camera.u, camera.v))
    a, b, c, shift = (part.take(surface, axis=1) for part in table)
    uv = t * (a * u + b * v + c) + shift
    scale = tiles.take(surface)
    # Sides of round solids, face 0 of theirs, grouped by solid in one sort.
    is_side = np.zeros((len(scene.shapes) + 1) * FACES, bool)
    is_side[FACES::FACES] = [shape.kind != BOX for shape in scene.shapes]
    index = np.flatnonzero(is_side.take(surface))
    index = index[np.argsort(surface[index], kind="stable")]
    starts = np.flatnonzero(np.diff(surface[index], prepend=-1))
    for side in np.split(index, starts[1:]) if index.size else []:
        shape = scene.shapes[surface[side[0]] // FACES - 1]
        tile = scene.materials.tile[shape.materials[0]]
        normal[:, side], uv[:, side] = _curved(shape, tile, point.take(side, axis=1))
        scale[side] = 1 / tile
    facing = np.clip(-dot(normal, ray) / np.sqrt(dot(ray, ray)), 0.02, 1)
    texels = t * scale * (camera.pitch * SIZE) / np.sqrt(facing)
    material = material.take(surface)
    return Surfaces(point, ray, normal, facing, material, uv, texels, hits.depth.shape)


def _surface_table(scene: Scene, camera: Camera) -> tuple[np.ndarray, ...]:
    """Describe the S = 6 faces x (1 + solids) faces of a scene; the hull is solid 0.

    Returns:
        (4, 2, S) float32 a, b, c, shift of the texture coordinates t (a u + b v + c) + shift on
        flat faces; (S,) float32 tiles a metre; (S,) materials; (3, S) float32 normals.
    """
    centres = np.stack([scene.size / 2] + [s.centre for s in scene.shapes])
    halves = np.stack([scene.size / 2] + [s.half for s in scene.shapes])
    axes = np.stack([np.eye(3)] + [s.axes for s in scene.shapes])
    materials = np.array([scene.hull] + [s.materials for s in scene.shapes], np.int32)  # (P, 6)
    fit = np.array([False] + [s.fit for s in scene.shapes])[:, None]
    rows = np.arange(len(centres))[:, None]
    # The hull is seen from inside: its normals point the other way.
    sign = np.array([-1, 1] * 3) * np.where(rows == 0, -1, 1)
    normals = axes[:, _FACE_AXES[:, 0]] * sign[..., None]  # (P, 6, 3)
    u_axis, v_axis = _FACE_AXES[:, 1:].T
    # Wood grain and stripes follow the longer edge of a board, but bricks and wall paper stay
    # upright on inner walls too.
    pinned = np.isin(materials, scene.pinned)
    turn = (halves[:, v_axis] > halves[:, u_axis]) & ~fit & ~np.isin(materials, scene.hull)
    axis = np.where(turn & ~pinned, [[v_axis], [u_axis]], [[u_axis], [v_axis]])  # (2, P, 6)
    matrix = axes @ camera.axes  # (P, 3, 3)
    origin = np.einsum("pij,pj->pi", axes, camera.position - centres)
    tile = scene.materials.tile[materials]
    # Boards of one material must not all show the same piece of it.
    jitter = (rows * 0.37 + np.arange(FACES) * 0.21) * ~fit + 0.5 * fit
    half = halves[rows, axis]
    scale = np.where(fit, 0.5 / half, 1 / tile)
    # Picture rows count downwards, walls upwards.
    up = np.where(axis == 2, -scale, scale)
    shift = origin[rows, axis] * up + np.where(pinned, half / tile, jitter)
    slopes = np.moveaxis(matrix[rows, axis] * up[..., None], -1, 0)
    table = np.stack([*slopes, shift]).astype(np.float32).reshape(4, 2, -1)
    normals = np.ascontiguousarray(normals.reshape(-1, 3).T, np.float32)
    return table, scale[0].astype(np.float32).ravel(), materials.ravel(), normals


def _curved(shape: Shape, tile: np.float32, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return normals (3, n) and texture coordinates (2, n) of points on a round surface."""
    axes, half = shape.axes.astype(np.float32), shape.half.astype(np.float32)
    x, y, z = turned(axes, point - column(shape.centre))
    if shape.kind == ELLIPSOID:
        local = np.stack([x / half[0] ** 2, y / half[1] ** 2, z / half[2] ** 2])
    else:
        slope = np.float32((shape.radii[1] - shape.radii[0]) / (2 * half[2]))
        local = np.stack([x, y, -slope * np.sqrt(x * x + y * y)])
    inverse = 1 / np.sqrt(dot(local, local) + np.float32(1e-20))
    normal = turned(axes.T, local) * inverse
    return normal, np.stack([np.arctan2(y, x) * half[0] / tile, -z / tile])


def visibility(
    seen: Surfaces, where: np.ndarray, pick: slice, lift: float, is_lit: Callable[..., np.ndarray]
) -> np.ndarray:
    """Return (N,) float32, the fraction of a light that reaches each pixel, smoothed.

    Shadow rays of the rows and columns `pick` of the picture are traced where the light may reach a
    pixel, `where` (N,) bool. They start `lift` [m] off the surface, or rounding would make it
    shadow itself. `is_lit` takes their starting points (3, n) and returns (n,) bool, True where
    nothing is in the way.
    """
    picked = where.reshape(seen.shape)[pick, pick]
    index = np.flatnonzero(picked)
    point, normal = (
        a.reshape(3, *seen.shape)[:, pick, pick].reshape(3, -1).take(index, axis=1)
        for a in (seen.point, seen.normal)
    )
    small = np.ones(picked.shape, np.float32)
    small.ravel()[index] = is_lit(point + np.float32(lift) * normal)
    small = cv2.blur(small, (3, 3))
    return cv2.resize(small, seen.shape[::-1], interpolation=cv2.INTER_LINEAR).ravel()
