"""Light in a room: lamps with cast shadows and highlights, and what has no direction."""

from functools import partial

import numpy as np

from sample_data.render import Surfaces, visibility
from sample_data.rooms.scene import Room
from sample_data.shapes import Shape, column, dot, entry, turned


def shade(room: Room, seen: Surfaces) -> tuple[np.ndarray, np.ndarray]:
    """Return the light that arrives at the camera from the surfaces that a picture (H, W) shows.

    Returns:
        rgb: (H, W, 3) float32 linear radiance; gloss: (H, W) float32 mirror highlight in [0, 1].
    """
    table = room.materials
    albedo = table.atlas.lookup(seen.material, seen.uv, seen.texels)
    hollow = _corner_darkening(room, seen)
    light = room.ambient[:, None] * hollow * (0.8 + 0.2 * seen.normal[2])
    glossy = table.shininess.take(seen.material)
    highlight = np.zeros_like(glossy)
    for lamp in room.lights:
        beam = column(lamp.position) - seen.point
        square = dot(beam, beam)
        inverse = 1 / np.sqrt(square + np.float32(1e-6))
        cosine = dot(beam, seen.normal) * inverse
        is_lit = partial(_is_lit, room.shapes, lamp.position)
        visible = visibility(seen, cosine > 0, slice(0, None, 2), 4e-3, is_lit)
        # The 0.6 stands for the size of the lamp: a point would burn out its surroundings.
        strength = np.maximum(cosine, 0) * visible / (square + np.float32(0.6))
        light += strength * lamp.power[:, None]
        # Mirror direction of the view against the beam.
        mirror = dot(beam, seen.ray + 2 * seen.normal * seen.facing) * inverse
        highlight += np.clip(mirror, 0, 1) ** 24 * visible * glossy
    rgb = albedo * (light + table.emission.take(seen.material)) + 0.25 * highlight
    rgb = np.ascontiguousarray(rgb.T).reshape(*seen.shape, 3)
    return rgb, np.minimum(highlight, 1).reshape(seen.shape)


def _corner_darkening(room: Room, seen: Surfaces) -> np.ndarray:
    """Return (N,) float32 gain of ambient light, weaker close to the edges of the room."""
    gain = np.ones_like(seen.point[0])
    for p, n, size in zip(seen.point, seen.normal, room.size, strict=True):
        gap = np.minimum(p, np.float32(size) - p)
        # A wall does not darken itself, only what meets it at an angle.
        gain *= 1 - 0.45 * (1 - n * n) / (1 + (gap / np.float32(0.22)) ** 2)
    return gain


def _is_lit(shapes: list[Shape], lamp: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return (n,) bool, the points `start` (3, n) that see the lamp at (3,) [m]."""
    beam = column(lamp) - start
    length = np.sqrt(dot(beam, beam))
    unit = -beam / length
    lit = np.ones(length.shape, bool)
    for body in (shape for shape in shapes if shape.casts_shadow):
        gap = (body.centre - lamp).astype(np.float32)
        distance, radius = float(np.linalg.norm(gap)), float(np.linalg.norm(body.half))
        # Only points inside the cone of the bounding sphere and behind its front can be hidden.
        near = lit & (length > distance - radius)
        if distance > radius:
            near &= dot(unit, gap) / distance > np.sqrt(1 - (radius / distance) ** 2) - 1e-4
        rays = np.flatnonzero(near)
        if not rays.size:
            continue
        direction = turned(body.axes.astype(np.float32), beam.take(rays, axis=1))
        lit[rays[entry(body, start.take(rays, axis=1), direction) < 1]] = False
    return lit
