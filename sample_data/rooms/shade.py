"""Surfaces of a room seen by a camera, and the light they send back.

N is the number of pixels of one picture; the buffers hold them in row order.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sample_data.rooms.render import Camera, Hits
from sample_data.rooms.scene import Materials, Scene
from sample_data.rooms.shapes import BOX, ELLIPSOID, FACES, Shape, intersect
from sample_data.rooms.textures import SIZE

# For each box face: normal axis, then the local axes of the texture's u and v.
_FACE_AXES = np.array([[0, 1, 2], [0, 1, 2], [1, 0, 2], [1, 0, 2], [2, 0, 1], [2, 0, 1]])


@dataclass
class Geometry:
    """Per-pixel buffers, every array (N,) float32 unless noted, in row order.

    Args:
        point: three arrays, world position [m]; ray: three arrays, ray direction.
        normal: three arrays, unit normal towards the room.
        facing: cosine between the normal and the direction to the camera.
        material: (N,) int32; u, v: texture coordinates in tiles; texels: pixel footprint.
    """

    point: list[np.ndarray]
    ray: list[np.ndarray]
    normal: list[np.ndarray]
    facing: np.ndarray
    material: np.ndarray
    u: np.ndarray
    v: np.ndarray
    texels: np.ndarray


def geometry(scene: Scene, camera: Camera, hits: Hits) -> Geometry:
    """Positions, normals and texture coordinates of the visible surfaces."""
    table, material, normals = _surface_table(scene, camera)
    surface, t = hits.surface.ravel(), hits.depth.ravel()
    ray = [d.ravel() for d in camera.directions(camera.rays(np.eye(3)))]
    here = camera.position.astype(np.float32)
    point = [o + t * d for o, d in zip(here, ray, strict=True)]
    normal = [column.take(surface) for column in normals]
    columns, rows = camera.slopes()
    uv = []
    for a, b, c, shift in table[:, :4]:
        slope = a.take(surface) * columns + b.take(surface) * rows + c.take(surface)
        uv.append(t * slope + shift.take(surface))
    scale = table[0, 4].take(surface)
    # Sides of round solids, face 0 of theirs, grouped by solid in one sort.
    is_side = np.zeros((len(scene.shapes) + 1) * FACES, bool)
    is_side[FACES::FACES] = [shape.kind != BOX for shape in scene.shapes]
    index = np.flatnonzero(is_side.take(surface))
    index = index[np.argsort(surface[index], kind="stable")]
    starts = np.flatnonzero(np.diff(surface[index], prepend=-1))
    for side in np.split(index, starts[1:]) if index.size else []:
        shape = scene.shapes[surface[side[0]] // FACES - 1]
        _curved(shape, scene.materials, point, normal, uv, side)
        scale[side] = 1 / scene.materials.tile[shape.materials[0]]
    length = np.sqrt(ray[0] ** 2 + ray[1] ** 2 + ray[2] ** 2)
    facing = -(normal[0] * ray[0] + normal[1] * ray[1] + normal[2] * ray[2]) / length
    np.clip(facing, 0.02, 1, out=facing)
    pixel = camera.u[1] - camera.u[0]
    texels = t * scale * (pixel * SIZE) / np.sqrt(facing)
    return Geometry(point, ray, normal, facing, material.take(surface), *uv, texels)


def _surface_table(scene: Scene, camera: Camera):
    """Texture coordinates of flat faces are t * (a u + b v + c) + shift.

    Returns (2, 5, S) float32 rows a, b, c, shift, tiles a metre for u and v, then the (S,)
    materials and three (S,) normal components, S = 6 faces x (1 + solids).
    """
    centres = np.stack([scene.size / 2] + [s.centre for s in scene.shapes])
    halves = np.stack([scene.size / 2] + [s.half for s in scene.shapes])
    axes = np.stack([np.eye(3)] + [s.axes for s in scene.shapes])
    materials = np.array([scene.hull] + [s.materials for s in scene.shapes], np.int32)  # (P, 6)
    fit = np.array([False] + [s.fit for s in scene.shapes])
    count = len(centres)
    # A room is seen from inside: its normals point the other way.
    sign = np.array([-1, 1] * 3) * np.where(np.arange(count) == 0, -1, 1)[:, None]
    normals = axes[:, _FACE_AXES[:, 0]] * sign[..., None]  # (P, 6, 3)
    u_axis, v_axis = (np.tile(_FACE_AXES[:, k], (count, 1)) for k in (1, 2))
    rows = np.arange(count)[:, None]
    # Wood grain and stripes follow the longer edge of a board, but bricks and wall paper stay
    # upright on inner walls too.
    turn = (halves[rows, v_axis] > halves[rows, u_axis]) & ~fit[:, None]
    pinned = np.isin(materials, scene.pinned)
    turn &= ~np.isin(materials, scene.hull) & ~pinned
    u_axis, v_axis = np.where(turn, v_axis, u_axis), np.where(turn, u_axis, v_axis)
    matrix = axes @ camera.axes  # (P, 3, 3)
    origin = np.einsum("pij,pj->pi", axes, camera.position - centres)
    tile = scene.materials.tile[materials]
    # Boards of one material must not all show the same piece of it.
    jitter = (rows * 0.37 + np.arange(FACES) * 0.21) * ~fit[:, None] + 0.5 * fit[:, None]
    table = np.empty((2, 5, count, FACES))
    for k, axis in enumerate((u_axis, v_axis)):
        scale = np.where(fit[:, None], 0.5 / halves[rows, axis], 1 / tile)
        # Picture rows count downwards, walls upwards.
        up = np.where(axis == 2, -scale, scale)
        table[k, :3] = np.moveaxis(matrix[rows, axis] * up[..., None], -1, 0)
        table[k, 3] = origin[rows, axis] * up + np.where(pinned, halves[rows, axis] / tile, jitter)
        table[k, 4] = scale
    flat = table.reshape(2, 5, -1).astype(np.float32)
    columns = [np.ascontiguousarray(n) for n in normals.reshape(-1, 3).T.astype(np.float32)]
    return flat, materials.ravel(), columns


def _curved(shape: Shape, materials: Materials, point, normal, uv, index: np.ndarray) -> None:
    """Overwrites normal and texture coordinates of pixels on a round surface."""
    offset = [p[index] - np.float32(c) for p, c in zip(point, shape.centre, strict=True)]
    axes = shape.axes.astype(np.float32)
    x, y, z = (a[0] * offset[0] + a[1] * offset[1] + a[2] * offset[2] for a in axes)
    half = shape.half.astype(np.float32)
    if shape.kind == ELLIPSOID:
        local = [x / half[0] ** 2, y / half[1] ** 2, z / half[2] ** 2]
    else:
        slope = np.float32((shape.radii[1] - shape.radii[0]) / (2 * half[2]))
        local = [x, y, -slope * np.sqrt(x * x + y * y)]
    inverse = 1 / np.sqrt(local[0] ** 2 + local[1] ** 2 + local[2] ** 2 + np.float32(1e-20))
    for k in range(3):
        world = local[0] * axes[0, k] + local[1] * axes[1, k] + local[2] * axes[2, k]
        normal[k][index] = world * inverse
    tile = materials.tile[shape.materials[0]]
    around = np.arctan2(y, x) * half[0]
    uv[0][index], uv[1][index] = around / tile, -z / tile


def shade(scene: Scene, geo: Geometry, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Light arriving at the camera.

    Args:
        scene, geo: the room and its visible surfaces.
        shape: (H, W) of the picture.

    Returns:
        rgb: (H, W, 3) float32 linear radiance; gloss: (H, W) float32 mirror highlight in [0, 1].
    """
    table = scene.materials
    albedo = table.atlas.lookup(geo.material, geo.u, geo.v, geo.texels)
    hollow = _corner_darkening(scene, geo)
    light = [a * hollow * (0.8 + 0.2 * geo.normal[2]) for a in scene.ambient.astype(np.float32)]
    glossy = table.shininess.take(geo.material)
    highlight = np.zeros_like(glossy)
    for lamp in scene.lights:
        beam = [np.float32(c) - p for c, p in zip(lamp.position, geo.point, strict=True)]
        square = beam[0] ** 2 + beam[1] ** 2 + beam[2] ** 2
        inverse = 1 / np.sqrt(square + np.float32(1e-6))
        cosine = sum(b * n for b, n in zip(beam, geo.normal, strict=True)) * inverse
        visible = _shadow(scene, lamp.position, geo, cosine, shape).ravel()
        # The 0.6 stands for the size of the lamp: a point would burn out its surroundings.
        strength = np.maximum(cosine, 0) * visible / (square + np.float32(0.6))
        for k in range(3):
            light[k] += strength * np.float32(lamp.power[k])
        # Mirror direction of the view against the beam.
        mirror = (
            sum(
                b * (r + 2 * n * geo.facing)
                for b, r, n in zip(beam, geo.ray, geo.normal, strict=True)
            )
            * inverse
        )
        spark = np.clip(mirror, 0, 1) ** 24
        highlight += spark * visible * glossy
    emission = table.emission.take(geo.material)
    rgb = np.empty((*shape, 3), np.float32)
    for k in range(3):
        value = albedo[k] * (light[k] + emission) + 0.25 * highlight
        rgb[..., k] = value.reshape(shape)
    return rgb, np.minimum(highlight, 1).reshape(shape)


def _corner_darkening(scene: Scene, geo: Geometry) -> np.ndarray:
    """Ambient light is weaker close to the edges of the room and near the floor."""
    gain = np.ones_like(geo.point[0])
    for p, n, size in zip(geo.point, geo.normal, scene.size, strict=True):
        gap = np.minimum(p, np.float32(size) - p)
        # A wall does not darken itself, only what meets it at an angle.
        gain *= 1 - 0.45 * (1 - n * n) / (1 + (gap / np.float32(0.22)) ** 2)
    return gain


def _shadow(
    scene: Scene, lamp: np.ndarray, geo: Geometry, cosine: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """(H, W) float32 share of the lamp that is visible, traced on every second row and column."""
    pick = np.s_[::2, ::2]
    half = cosine.reshape(shape)[pick]
    index = np.flatnonzero(half > 0)
    # Start a little off the surface, or rounding makes it shadow itself.
    start = []
    for p, n in zip(geo.point, geo.normal, strict=True):
        p, n = (array.reshape(shape)[pick].ravel()[index] for array in (p, n))
        start.append(p + np.float32(4e-3) * n)
    beam = [np.float32(c) - p for c, p in zip(lamp, start, strict=True)]
    length = np.sqrt(beam[0] ** 2 + beam[1] ** 2 + beam[2] ** 2)
    unit = [-b / length for b in beam]
    lit = np.ones(len(index), bool)
    for body in scene.shapes:
        if not body.casts_shadow:
            continue
        gap = (body.centre - lamp).astype(np.float32)
        distance = float(np.sqrt((gap**2).sum()))
        radius = float(np.sqrt((body.half**2).sum()))
        # Only points inside the cone of the bounding sphere and behind its front can be hidden.
        near = lit & (length > distance - radius)
        if distance > radius:
            toward = (unit[0] * gap[0] + unit[1] * gap[1] + unit[2] * gap[2]) / distance
            near &= toward > np.sqrt(1 - (radius / distance) ** 2) - 1e-4
        rays = np.flatnonzero(near)
        if not rays.size:
            continue
        frame = body.axes.astype(np.float32)
        origin = [p[rays] - np.float32(c) for p, c in zip(start, body.centre, strict=True)]
        along = [b[rays] for b in beam]
        local = [[a[0] * c[0] + a[1] * c[1] + a[2] * c[2] for a in frame] for c in (origin, along)]
        t, _ = intersect(body, *local)
        lit[rays[t < 1]] = False
    small = np.ones(half.size, np.float32)
    small[index] = lit
    small = cv2.blur(small.reshape(half.shape), (3, 3))
    return cv2.resize(small, shape[::-1], interpolation=cv2.INTER_LINEAR)
