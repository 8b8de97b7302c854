"""Daylight on a street: sun with cast shadows, sky, reflections and haze.

N is the number of pixels of one picture, in row order. Light is linear, 1 is a white wall that
faces the sun.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from sample_data.rooms.render import Hits
from sample_data.rooms.scene import Scene
from sample_data.rooms.shade import Geometry
from sample_data.rooms.shapes import FACES, Shape, corners_of, intersect


@dataclass(frozen=True)
class Daylight:
    """Weather of a scene.

    Args:
        sun: (3,) unit vector towards the sun; sunlight: (3,) linear RGB.
        zenith, horizon: (3,) linear RGB of the sky above and at the horizon.
        ambient: (3,) linear RGB that the whole sky sends onto level ground.
        clouds: share of the sky that is covered, 0 to 1; seed: of their shapes.
        visibility: distance at which haze leaves 1 / e of the contrast [m].
    """

    sun: np.ndarray
    sunlight: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    ambient: np.ndarray
    clouds: float
    seed: int
    visibility: float


def sample_daylight(rng: np.random.Generator) -> Daylight:
    """Draws the weather: mostly sun with some clouds, at times an overcast sky."""
    overcast = rng.random() < 0.25
    height, around = np.radians(rng.uniform(18, 58)), rng.uniform(0, 2 * np.pi)
    sun = np.array(
        [np.cos(height) * np.cos(around), np.cos(height) * np.sin(around), np.sin(height)]
    )
    if overcast:
        grey = np.array([0.95, 1.0, 1.06]) * rng.uniform(0.75, 1.0)
        sunlight, ambient, clouds = grey * rng.uniform(0.0, 0.2), grey * 0.6, 1.0
        return Daylight(
            sun, sunlight, grey, grey * 1.15, ambient, clouds, 0, rng.uniform(400, 1500)
        )
    warm = np.array([1.0, 0.93, 0.82]) ** rng.uniform(0.5, 1.5)
    zenith = np.array([0.4, 0.62, 1.0]) * rng.uniform(0.8, 1.4)
    horizon = np.array([0.97, 1.03, 1.08]) * rng.uniform(1.2, 1.8)
    ambient = np.array([0.10, 0.12, 0.155]) * rng.uniform(0.7, 1.2)
    clouds, seed = rng.uniform(0.1, 0.7), int(rng.integers(1 << 30))
    return Daylight(sun, 1.4 * warm, zenith, horizon, ambient, clouds, seed, rng.uniform(500, 2500))


def sky(light: Daylight, ray: list[np.ndarray]) -> list[np.ndarray]:
    """Three arrays, linear RGB of the sky in directions `ray` (three arrays of any length)."""
    length = np.sqrt(ray[0] ** 2 + ray[1] ** 2 + ray[2] ** 2)
    up = np.clip(ray[2] / length, 0, 1)
    blend = np.sqrt(up)
    cover = light.clouds
    if 0 < light.clouds < 1:
        chart = _cloud_chart(light.seed)
        # Clouds lie on a plane far above; near the horizon they crowd together.
        scale = 90 / (up + np.float32(0.12)) / length
        column = (ray[0] * scale).astype(np.int32) & 1023
        row = (ray[1] * scale).astype(np.int32) & 1023
        cover = np.clip((chart[row, column] - (0.85 - 0.5 * light.clouds)) * 5, 0, 1) * 0.8
    toward = sum(r * np.float32(s) for r, s in zip(ray, light.sun, strict=True)) / length
    glare = np.clip(toward, 0, 1) ** 24 * np.float32(0.8 * light.sunlight.mean())
    out = []
    for low, high in zip(light.horizon, light.zenith, strict=True):
        clear = np.float32(low) + np.float32(high - low) * blend
        out.append(clear + (np.float32(1.15 * light.horizon.mean()) - clear) * cover + glare)
    return out


@lru_cache(maxsize=2)
def _cloud_chart(seed: int) -> np.ndarray:
    """(1024, 1024) float32 thickness of the clouds, in [0, 1]."""
    rng = np.random.default_rng(seed)
    chart = np.zeros((1024, 1024), np.float32)
    for cells, share in ((64, 0.7), (256, 0.3)):
        coarse = rng.random((cells, cells), dtype=np.float32)
        chart += share * cv2.resize(coarse, chart.shape, interpolation=cv2.INTER_CUBIC)
    return chart


def shade_street(
    scene: Scene, light: Daylight, geo: Geometry, hits: Hits, green: np.ndarray
) -> np.ndarray:
    """Light arriving at the camera.

    Args:
        scene: the street; light: its weather.
        geo, hits: visible surfaces.
        green: (M,) bool, materials through which some light passes.

    Returns:
        (H, W, 3) float32 linear radiance.
    """
    shape = hits.depth.shape
    table = scene.materials
    surface = hits.surface.ravel()
    is_sky = (surface < FACES) & (surface != 4)
    near = hits.depth.ravel() < 150
    albedo = table.atlas.lookup(geo.material, geo.u, geo.v, geo.texels)
    cosine = sum(n * np.float32(s) for n, s in zip(geo.normal, light.sun, strict=True))
    soft = green.take(geo.material)
    cosine[soft] = 0.25 + 0.75 * cosine[soft]
    visible = _lit(scene, geo, light.sun, (cosine > 0) & ~is_sky & near, shape, 2)
    up = np.array([0.0, 0.0, 1.0])
    # What has something right above it, as the road under a car, sees little of the sky.
    open_above = _lit(scene, geo, up, (geo.normal[2] > 0.3) & ~is_sky & near, shape, 4)
    direct = np.maximum(cosine, 0) * visible
    facing_sky = (0.5 + 0.5 * geo.normal[2]) * (0.35 + 0.65 * open_above)
    # Light from the ground below, which is brighter under a high sun.
    bounce = (0.5 - 0.5 * geo.normal[2]) * np.float32(0.12 + 0.1 * light.sun[2])
    emission = table.emission.take(geo.material)
    sky_light = sky(light, geo.ray)
    mirror, index = _mirrored(scene, light, geo, ~is_sky)
    clear = np.exp(hits.depth.ravel() * np.float32(-1 / light.visibility))
    rgb = np.empty((*shape, 3), np.float32)
    for k in range(3):
        value = direct * np.float32(light.sunlight[k]) + facing_sky * np.float32(light.ambient[k])
        value += bounce * np.float32(light.sunlight[k] + light.ambient[k]) + emission
        value *= albedo[k]
        value[index] += mirror[k]
        haze = np.float32(0.6 * light.horizon[k])
        value = haze + (value - haze) * clear
        rgb[..., k] = np.where(is_sky, sky_light[k], value).reshape(shape)
    return rgb


def _mirrored(scene: Scene, light: Daylight, geo: Geometry, where: np.ndarray):
    """Sky or ground seen in glossy surfaces: three arrays of light and the pixels they are for."""
    glossy = scene.materials.shininess.take(geo.material)
    index = np.flatnonzero((glossy > 0.05) & where)
    normal = [n[index] for n in geo.normal]
    ray = [r[index] for r in geo.ray]
    along = 2 * sum(r * n for r, n in zip(ray, normal, strict=True))
    bounced = [r - along * n for r, n in zip(ray, normal, strict=True)]
    share = glossy[index] * (0.06 + 0.94 * (1 - geo.facing[index]) ** 5)
    length = np.sqrt(sum(b * b for b in bounced))
    # Trees and houses stand around: only the part above them mirrors the sky.
    height = np.clip(bounced[2] / length * 6 - 0.8, 0, 1)
    above = sky(light, bounced)
    dark = 0.25 * light.ambient
    return [
        share * (np.float32(d) + (a - np.float32(d)) * height)
        for a, d in zip(above, dark, strict=True)
    ], index


def _lit(
    scene: Scene,
    geo: Geometry,
    toward: np.ndarray,
    where: np.ndarray,
    shape: tuple[int, int],
    step: int,
) -> np.ndarray:
    """(N,) float32 share of parallel light from `toward` (3,) that reaches each pixel.

    Traced on every `step`-th row and column of the pixels `where`, then smoothed.
    """
    pick = np.s_[step // 2 :: step, step // 2 :: step]
    index = np.flatnonzero(where.reshape(shape)[pick])
    # Start a little off the surface, or rounding makes it shadow itself.
    start = []
    for p, n in zip(geo.point, geo.normal, strict=True):
        p, n = (array.reshape(shape)[pick].ravel()[index] for array in (p, n))
        start.append(p + np.float32(0.02) * n)
    hidden = np.zeros(len(index), bool)
    if index.size:
        _trace(scene.shapes, start, toward, hidden)
    small = np.ones(where.reshape(shape)[pick].shape, np.float32)
    small.ravel()[index] = ~hidden
    small = cv2.blur(small, (3, 3))
    return cv2.resize(small, shape[::-1], interpolation=cv2.INTER_LINEAR).ravel()


def _trace(
    shapes: list[Shape], start: list[np.ndarray], toward: np.ndarray, hidden: np.ndarray
) -> None:
    """Marks the starting points (three (n,) arrays) from which a solid hides `toward`."""
    # Two directions across the light: a solid hides nothing outside its outline along them.
    side = np.cross(toward, [1.0, 0.0, 0.0] if abs(toward[0]) < 0.8 else [0.0, 1.0, 0.0])
    side /= np.linalg.norm(side)
    frame = np.stack([side, np.cross(toward, side), toward])
    points = [sum(np.float32(c) * p for c, p in zip(axis, start, strict=True)) for axis in frame]
    order = np.argsort(points[0])
    first, second, along = (p[order] for p in points)
    reach = second.min(), second.max(), along.min()
    casters = [shape for shape in shapes if shape.casts_shadow]
    if not casters:
        return
    corners = corners_of(casters) @ frame.T
    low, high = corners.min(1), corners.max(1)
    begin, end = np.searchsorted(first, low[:, 0]), np.searchsorted(first, high[:, 0])
    for k, shape in enumerate(casters):
        if begin[k] == end[k] or low[k, 1] > reach[1] or high[k, 1] < reach[0]:
            continue
        if high[k, 2] < reach[2]:
            continue
        part = slice(begin[k], end[k])
        inside = (second[part] > low[k, 1]) & (second[part] < high[k, 1])
        inside &= along[part] < high[k, 2]
        rays = order[part][inside]
        rays = rays[~hidden[rays]]
        if not rays.size:
            continue
        axes = shape.axes.astype(np.float32)
        offset = [p[rays] - np.float32(c) for p, c in zip(start, shape.centre, strict=True)]
        origin = [a[0] * offset[0] + a[1] * offset[1] + a[2] * offset[2] for a in axes]
        direction = [np.full(len(rays), value, np.float32) for value in shape.axes @ toward]
        t, _ = intersect(shape, origin, direction)
        hidden[rays[np.isfinite(t)]] = True
