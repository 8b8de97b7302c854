"""Daylight on a street: sun with cast shadows, sky, reflections and haze.

N is the number of pixels of one picture, in row order. Light is linear, 1 is a white wall that
faces the sun.
"""

from dataclasses import dataclass
from functools import lru_cache, partial

import cv2
import numpy as np

from sample_data.render import Hits, Surfaces, visibility
from sample_data.scene import Scene
from sample_data.shapes import FACES, Shape, column, corners, dot, entry, turned


@dataclass(frozen=True)
class Daylight:
    """Weather of a scene; colours are (3,) linear RGB."""

    sun: np.ndarray  # (3,) unit vector towards it
    sunlight: np.ndarray
    zenith: np.ndarray  # of the sky above
    horizon: np.ndarray
    ambient: np.ndarray  # what the whole sky sends onto level ground
    clouds: float  # covered fraction of the sky, 0 to 1
    seed: int  # of the clouds' shapes
    visibility: float  # distance at which haze leaves 1 / e of the contrast [m]


def sample_daylight(rng: np.random.Generator) -> Daylight:
    """Draw the weather: mostly sun with some clouds, at times an overcast sky."""
    overcast = rng.random() < 0.25
    height, around = np.radians(rng.uniform(18, 58)), rng.uniform(0, 2 * np.pi)
    level = np.cos(height)
    sun = np.array([level * np.cos(around), level * np.sin(around), np.sin(height)])
    if overcast:
        grey = np.array([0.95, 1.0, 1.06]) * rng.uniform(0.75, 1.0)
        sunlight, ambient, clouds = grey * rng.uniform(0.0, 0.2), grey * 0.6, 1.0
        visibility = rng.uniform(400, 1500)
        return Daylight(sun, sunlight, grey, grey * 1.15, ambient, clouds, 0, visibility)
    warm = np.array([1.0, 0.93, 0.82]) ** rng.uniform(0.5, 1.5)
    zenith = np.array([0.4, 0.62, 1.0]) * rng.uniform(0.8, 1.4)
    horizon = np.array([0.97, 1.03, 1.08]) * rng.uniform(1.2, 1.8)
    ambient = np.array([0.10, 0.12, 0.155]) * rng.uniform(0.7, 1.2)
    clouds, seed = rng.uniform(0.1, 0.7), int(rng.integers(1 << 30))
    return Daylight(sun, 1.4 * warm, zenith, horizon, ambient, clouds, seed, rng.uniform(500, 2500))


def is_sky(hits: Hits) -> np.ndarray:
    """Return (N,) bool, pixels of the hull of a street other than its floor, face 4."""
    surface = hits.surface.ravel()
    return (surface < FACES) & (surface != 4)


def sky(light: Daylight, ray: np.ndarray) -> np.ndarray:
    """Return (3, n) float32 linear RGB of the sky in directions `ray` (3, n) of any length."""
    length = np.sqrt(dot(ray, ray))
    up = np.clip(ray[2] / length, 0, 1)
    cover = light.clouds
    if 0 < light.clouds < 1:
        # Clouds lie on a plane far above; near the horizon they crowd together.
        scale = 90 / (up + np.float32(0.12)) / length
        x, y = (ray[:2] * scale).astype(np.int32) & 1023
        chart = _cloud_chart(light.seed)[y, x]
        cover = np.clip((chart - (0.85 - 0.5 * light.clouds)) * 5, 0, 1) * 0.8
    toward = dot(ray, light.sun.astype(np.float32)) / length
    glare = np.clip(toward, 0, 1) ** 24 * np.float32(0.8 * light.sunlight.mean())
    clear = column(light.horizon) + column(light.zenith - light.horizon) * np.sqrt(up)
    return clear + (np.float32(1.15 * light.horizon.mean()) - clear) * cover + glare


@lru_cache(maxsize=2)
def _cloud_chart(seed: int) -> np.ndarray:
    """Return (1024, 1024) float32 thickness of the clouds, in [0, 1]."""
    rng = np.random.default_rng(seed)
    chart = np.zeros((1024, 1024), np.float32)
    for cells, weight in ((64, 0.7), (256, 0.3)):
        coarse = rng.random((cells, cells), dtype=np.float32)
        chart += weight * cv2.resize(coarse, chart.shape, interpolation=cv2.INTER_CUBIC)
    return chart


def shade_street(scene: Scene, light: Daylight, seen: Surfaces, hits: Hits) -> np.ndarray:
    """Return (H, W, 3) float32 linear radiance at the camera."""
    depth, table = hits.depth.ravel(), scene.materials
    solid = ~is_sky(hits)
    albedo = table.atlas.lookup(seen.material, seen.uv, seen.texels)
    cosine = dot(seen.normal, light.sun.astype(np.float32))
    soft = table.foliage.take(seen.material)
    cosine[soft] = 0.25 + 0.75 * cosine[soft]
    near = solid & (depth < 150)

    def lit_from(toward: np.ndarray, where: np.ndarray, step: int) -> np.ndarray:
        pick, is_lit = slice(step // 2, None, step), partial(_is_lit, scene.shapes, toward)
        return visibility(seen, where & near, pick, 0.02, is_lit)

    visible = lit_from(light.sun, cosine > 0, 2)
    # What has something right above it, as the road under a car, sees little of the sky.
    open_above = lit_from(np.array([0.0, 0.0, 1.0]), seen.normal[2] > 0.3, 4)
    direct = np.maximum(cosine, 0) * visible
    facing_sky = (0.5 + 0.5 * seen.normal[2]) * (0.35 + 0.65 * open_above)
    # Light from the ground below, which is brighter under a high sun.
    bounce = (0.5 - 0.5 * seen.normal[2]) * np.float32(0.12 + 0.1 * light.sun[2])
    rgb = direct * column(light.sunlight) + facing_sky * column(light.ambient)
    rgb += bounce * column(light.sunlight + light.ambient) + table.emission.take(seen.material)
    rgb *= albedo
    mirror, index = _mirrored(scene, light, seen, solid)
    rgb[:, index] += mirror
    haze = column(0.6 * light.horizon)
    rgb = haze + (rgb - haze) * np.exp(depth * np.float32(-1 / light.visibility))
    rgb = np.where(solid, rgb, sky(light, seen.ray))
    return np.ascontiguousarray(rgb.T).reshape(*seen.shape, 3)


def _mirrored(
    scene: Scene, light: Daylight, seen: Surfaces, where: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return sky or ground seen in glossy surfaces, (3, n) light and the n pixels it is for."""
    glossy = scene.materials.shininess.take(seen.material)
    index = np.flatnonzero((glossy > 0.05) & where)
    normal, ray = seen.normal.take(index, axis=1), seen.ray.take(index, axis=1)
    bounced = ray - 2 * dot(ray, normal) * normal
    weight = glossy[index] * (0.06 + 0.94 * (1 - seen.facing[index]) ** 5)
    length = np.sqrt(dot(bounced, bounced))
    # Trees and houses stand around: only the part above them mirrors the sky.
    height = np.clip(bounced[2] / length * 6 - 0.8, 0, 1)
    dark = column(0.25 * light.ambient)
    return weight * (dark + (sky(light, bounced) - dark) * height), index


def _is_lit(shapes: list[Shape], toward: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return (n,) bool, the points `start` (3, n) [m] that parallel light from `toward` reaches."""
    lit = np.ones(start.shape[1], bool)
    casters = [shape for shape in shapes if shape.casts_shadow]
    if not casters or not lit.size:
        return lit
    # Two directions across the light: a solid hides nothing outside its outline along them.
    side = np.cross(toward, [1.0, 0.0, 0.0] if abs(toward[0]) < 0.8 else [0.0, 1.0, 0.0])
    side /= np.linalg.norm(side)
    frame = np.stack([side, np.cross(toward, side), toward])
    points = turned(frame.astype(np.float32), start)
    order = np.argsort(points[0])
    first, second, along = points.take(order, axis=1)
    outlines = corners(casters) @ frame.T
    low, high = outlines.min(1), outlines.max(1)
    begin, end = np.searchsorted(first, low[:, 0]), np.searchsorted(first, high[:, 0])
    hopeless = (begin == end) | (low[:, 1] > second.max()) | (high[:, 1] < second.min())
    hopeless |= high[:, 2] < along.min()
    for k in np.flatnonzero(~hopeless):
        part, shape = slice(begin[k], end[k]), casters[k]
        inside = (second[part] > low[k, 1]) & (second[part] < high[k, 1])
        inside &= along[part] < high[k, 2]
        rays = order[part][inside]
        rays = rays[lit[rays]]
        if not rays.size:
            continue
        direction = column(shape.axes @ toward)
        lit[rays[np.isfinite(entry(shape, start.take(rays, axis=1), direction))]] = False
    return lit
