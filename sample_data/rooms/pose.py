"""Choice of a camera pose: inside the room, clear of furniture, with something varied in view."""

from __future__ import annotations

import numpy as np

from sample_data.rooms.render import Camera, Hits, cast
from sample_data.rooms.scene import Scene
from sample_data.rooms.sensor import CX, CY, FARTHEST, FX, FY, HEIGHT, NEAREST, WIDTH
from sample_data.rooms.shapes import FACES, rotation

_TRIES = 300


def camera_axes(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """(3, 3) right, down and forward directions of a camera as columns; angles as below."""
    # Columns of the camera frame before it is turned: right = -y, down = -z, forward = +x.
    frame = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], dtype=np.float64)
    lift = np.array(
        [[np.cos(pitch), 0, -np.sin(pitch)], [0, 1, 0], [np.sin(pitch), 0, np.cos(pitch)]]
    )
    lean = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return rotation(yaw) @ lift @ frame @ lean


def camera_at(position: np.ndarray, yaw: float, pitch: float, roll: float, step: int = 1) -> Camera:
    """A Kinect-like camera.

    Args:
        position: (3,) world position [m].
        yaw: heading [rad], 0 looks along +x, positive to the left.
        pitch: elevation [rad], positive looks up.
        roll: turn about the optical axis [rad].
        step: keep every step-th row and column of the 480 x 640 picture.
    """
    axes = camera_axes(yaw, pitch, roll)
    u = ((np.arange(0, WIDTH, step) - CX) / FX).astype(np.float32)
    v = ((np.arange(0, HEIGHT, step) - CY) / FY).astype(np.float32)
    return Camera(np.asarray(position, dtype=np.float64), axes, u, v)


def find_view(scene: Scene, rng: np.random.Generator) -> tuple[Camera, Hits]:
    """Draws poses until one is good; returns its camera and full-size picture of hits.

    Every depth lies within the limits of the sensor. The demands on variety shrink with the
    number of tries, so a bare room ends in a plainer view and never in an endless search.
    """
    for attempt in range(_TRIES):
        patience = 1 - attempt / _TRIES
        position, angles = _draw(scene, rng)
        if _blocked(scene, position):
            continue
        rough = cast(scene, camera_at(position, *angles, step=10))
        if not (_in_range(rough.depth, 0.05) and _varied(rough, patience)):
            continue
        camera = camera_at(position, *angles)
        hits = cast(scene, camera)
        if _in_range(hits.depth, 0.002):
            return camera, hits
    raise RuntimeError(f"no camera pose with depths of {NEAREST} to {FARTHEST} m in this room")


def _draw(scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, tuple[float, ...]]:
    """Position in a random zone and a heading towards another random point of the room."""
    zone = scene.zones[int(rng.integers(len(scene.zones)))]
    x = rng.uniform(zone[0] + 0.3, zone[2] - 0.3)
    y = rng.uniform(zone[1] + 0.3, zone[3] - 0.3)
    height = np.clip(rng.normal(1.35, 0.3), 0.6, min(2.0, scene.size[2] - 0.4))
    target = rng.uniform([0, 0], scene.size[:2])
    yaw = np.arctan2(target[1] - y, target[0] - x) + rng.normal(0, 0.2)
    pitch = np.clip(rng.normal(-0.16, 0.14), -0.6, 0.25)
    roll = np.clip(rng.normal(0, 0.045), -0.15, 0.15)
    return np.array([x, y, height]), (float(yaw), float(pitch), float(roll))


def _blocked(scene: Scene, position: np.ndarray) -> bool:
    """Whether the camera is inside, or nearly inside, a solid or behind a sloped ceiling."""
    centres = np.stack([s.centre for s in scene.shapes])
    axes = np.stack([s.axes for s in scene.shapes])
    halves = np.stack([s.half for s in scene.shapes])
    local = np.einsum("pij,pj->pi", axes, position - centres)
    return bool((np.abs(local) < halves + 0.15).all(1).any())


def _in_range(depth: np.ndarray, margin: float) -> bool:
    return bool(depth.min() >= NEAREST + margin and depth.max() <= FARTHEST - margin)


def _varied(hits: Hits, patience: float) -> bool:
    """Several solids, a spread of depths, and no surface that fills most of the picture."""
    surfaces, counts = np.unique(hits.surface, return_counts=True)
    solids = np.unique(surfaces // FACES)
    low, middle, high = np.percentile(hits.depth, [5, 50, 95])
    furniture = 1 - counts[surfaces < FACES].sum() / hits.surface.size
    return bool(
        len(solids) >= 12 * patience
        and high > (1 + 1.1 * patience) * low
        and middle > 1.3 * patience
        and furniture > 0.3 * patience
        and counts.max() < (0.9 - 0.45 * patience) * hits.surface.size
    )
