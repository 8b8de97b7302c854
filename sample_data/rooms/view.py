"""Choice of a camera pose: inside the room, clear of furniture, with something varied in view."""

import numpy as np

from sample_data.camera import Camera, camera_axes, pinhole
from sample_data.render import Hits, cast
from sample_data.rooms.scene import Room
from sample_data.rooms.sensor import CX, CY, FARTHEST, FOCAL, HEIGHT, NEAREST, WIDTH
from sample_data.shapes import FACES

_TRIES = 300


def camera_at(position: np.ndarray, yaw: float, pitch: float, roll: float, step: int = 1) -> Camera:
    """Return a Kinect-like camera at `position` (3,) [m], turned by angles of `camera_axes` [rad].

    Every step-th row and column of the 480 x 640 picture is kept.
    """
    axes = camera_axes(yaw, pitch, roll)
    return pinhole(position, axes, (WIDTH, HEIGHT), FOCAL, (CX, CY), step)


def find_view(room: Room, rng: np.random.Generator) -> tuple[Camera, Hits]:
    """Draw poses until one is good; return its camera and full-size picture of hits.

    Every depth lies within the limits of the sensor; the demands on variety shrink with each try.
    """
    for attempt in range(_TRIES):
        patience = 1 - attempt / _TRIES
        position, angles = _draw_pose(room, rng)
        if _is_blocked(room, position):
            continue
        rough = cast(room, camera_at(position, *angles, step=10))
        if not (_in_range(rough.depth, 0.05) and _is_varied(rough, patience)):
            continue
        camera = camera_at(position, *angles)
        hits = cast(room, camera)
        if _in_range(hits.depth, 0.002):
            return camera, hits
    raise RuntimeError(f"no camera pose with depths of {NEAREST} to {FARTHEST} m in this room")


def _draw_pose(room: Room, rng: np.random.Generator) -> tuple[np.ndarray, tuple[float, ...]]:
    """Draw a position in a random zone and a heading towards another random point of the room."""
    x0, y0, x1, y1 = room.zones[int(rng.integers(len(room.zones)))]
    x, y = rng.uniform(x0 + 0.3, x1 - 0.3), rng.uniform(y0 + 0.3, y1 - 0.3)
    height = np.clip(rng.normal(1.35, 0.3), 0.6, min(2.0, room.size[2] - 0.4))
    target = rng.uniform([0, 0], room.size[:2])
    yaw = np.arctan2(target[1] - y, target[0] - x) + rng.normal(0, 0.2)
    pitch = np.clip(rng.normal(-0.16, 0.14), -0.6, 0.25)
    roll = np.clip(rng.normal(0, 0.045), -0.15, 0.15)
    return np.array([x, y, height]), (float(yaw), float(pitch), float(roll))


def _is_blocked(room: Room, position: np.ndarray) -> bool:
    """Return whether the camera is (nearly) inside a solid or behind a sloped ceiling."""
    return any(
        (np.abs(shape.axes @ (position - shape.centre)) < shape.half + 0.15).all()
        for shape in room.shapes
    )


def _in_range(depth: np.ndarray, margin: float) -> bool:
    return bool(depth.min() >= NEAREST + margin and depth.max() <= FARTHEST - margin)


def _is_varied(hits: Hits, patience: float) -> bool:
    """Return whether there are several solids, a spread of depths, and no dominant surface."""
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
