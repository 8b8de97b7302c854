"""Sampling of one street and of what drives on it.

World coordinates are metres, z up, the road at z = 0. Along the road a position is (s, d): s
metres along the centre line, d metres to its left. Traffic keeps to the right.
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np

from sample_data.sample_set import SPLITS
from sample_data.scene import Kit, Scene, bake, read_palette
from sample_data.shapes import Shape, box
from sample_data.streets import buildings, roadside, textures, vehicles
from sample_data.streets.daylight import Daylight, sample_daylight
from sample_data.streets.rig import Rig, draw_mount, rig_at
from sample_data.streets.sidewalks import Arc, Side

# The infrared reflectance is that for the pulses of the LiDAR.
MATERIALS = Path(__file__).with_name("materials.csv")

VIEW = (75.0, 150.0)  # [m] of street ahead of the last camera position
_MARGIN = 120.0  # [m] from the street to the sky, more than the LiDAR reaches
_STYLES = ("town", "suburb", "avenue")


@dataclass(frozen=True)
class Driver:
    """A moving vehicle: solids in its own frame, first (s, d) [m], speed along s [m/s]."""

    shapes: list[Shape]
    s: float
    d: float
    speed: float


@dataclass
class Street(Scene):
    """A street; the walls and the ceiling of its hull are the sky."""

    path: Arc | None = None  # centre line
    lane: float = 0.0  # d of the measuring car's lane [m]
    pace: tuple[float, float] = (1.0, 0.1)  # distance [m] and time [s] between two moments
    key: tuple[int, ...] = ()  # what the random streams of the moments begin with
    daylight: Daylight | None = None
    drivers: list[Driver] = field(default_factory=list)  # moving vehicles
    mount: np.ndarray | None = None  # (3, 3) rotation of the LiDAR against the cameras

    def at(self, moment: int) -> tuple[Self, Rig]:
        """Return the street with its traffic, and the measuring car, at a moment (0, 1, ...)."""
        shapes = list(self.shapes)
        for driver in self.drivers:
            yaw, spot = self.path.at(driver.s + driver.speed * self.pace[1] * moment, driver.d)
            turn = yaw if driver.speed > 0 else yaw + np.pi
            shapes += [shape.moved(turn, spot) for shape in driver.shapes]
        rng = np.random.default_rng([*self.key, 3, moment])
        yaw, spot = self.path.at(self.pace[0] * moment, self.lane + rng.normal(0, 0.08))
        yaw += rng.normal(0, 0.012)
        rig = rig_at(spot, yaw, rng.normal(0, 0.005), rng.normal(0, 0.006), self.mount)
        return replace(self, shapes=shapes), rig


@lru_cache(maxsize=2)
def sample_street(seed: int, split: str, number: int, moments: int) -> Street:
    """Return the street with this number, always the same, long enough for so many moments."""
    key, palette = (seed, SPLITS[split], number), read_palette(MATERIALS, textures)
    kit = Kit(np.random.default_rng([*key, 0]), palette)
    # Every n-th frame of a drive at 5 to 12 m/s and 10 Hz.
    interval = 0.1 * kit.count(3, 8)
    distance = kit.between(5.0, 12.0) * interval
    length = distance * moments + kit.between(*VIEW)
    # The whole arc turns by half a radian at most, so it stays within its hull.
    bend = kit.between(-1, 1) * min(1 / 160, 0.5 / length) if kit.chance(0.6) else 0.0
    size = np.array([length + 2 * _MARGIN, 0.6 * length + 2 * _MARGIN + 100, 120.0])
    path, hull = Arc(np.array([_MARGIN, size[1] / 2]), bend), (kit.roles["asphalt"][0],) * 6
    street = Street(size, hull, [], path=path, pace=(distance, interval), key=key)
    street.pinned = (*kit.roles["facade"], *kit.roles["office"])
    _build(kit, street, length)
    moving = [shape for driver in street.drivers for shape in driver.shapes]
    street.materials = bake(palette, street.shapes + moving, street.hull, key)
    street.daylight = sample_daylight(np.random.default_rng([*key, 2]))
    street.mount = draw_mount(kit.rng)
    return street


def _build(kit: Kit, street: Street, length: float) -> None:
    """Build the road, both sides and the traffic."""
    half, parking = kit.between(3.5, 4.9), 2.1 * kit.chance(0.5)  # [m]
    street.lane = -half / 2 + kit.between(0.0, 0.4)
    styles = [_STYLES[kit.count(0, 2)] for _ in (1, -1)]
    if kit.chance(0.5):
        styles[1] = styles[0]
    for sign, style in zip((1, -1), styles, strict=True):
        side = Side(kit, street.path, sign, half + parking, length)
        side.build(style)
        side.park(half + parking, inside=parking > 0)
        street.shapes += side.shapes
    _markings(kit, street, half, parking, length)
    _horizon(kit, street, length)
    _traffic(kit, street)


def _markings(kit: Kit, street: Street, half: float, parking: float, length: float) -> None:
    """Paint centre line, edge lines and a pedestrian crossing, a few millimetres above the road."""
    white = kit.pick("marking")

    def paint(s: float, d: float, size: tuple[float, float]) -> None:
        yaw, spot = street.path.at(s, d, 0.003)
        strip = box((0, 0, 0), (*size, 0.006), white, casts_shadow=False)
        street.shapes.append(strip.moved(yaw, spot))

    dash, gap = kit.between(2.5, 4.0), kit.between(3.5, 7.0)
    if kit.chance(0.8):
        for s in np.arange(-10.0, min(length, 140.0), dash + gap):
            paint(s, 0.0, (dash, 0.13))
    if parking or kit.chance(0.35):
        edge = half if parking else half - 0.15
        for s in np.arange(-8.0, length, 8.0):
            for side in (-1, 1):
                paint(s, side * edge, (8.05, 0.12))
    if kit.chance(0.4):
        s = kit.between(15, 60)
        for d in np.arange(-half + 0.5, half - 0.2, 1.0):
            paint(s, float(d), (3.5, 0.5))


def _horizon(kit: Kit, street: Street, length: float) -> None:
    """Put woods and houses that close the view at the end of the street."""
    for d in np.arange(-70.0, 71.0, 9.0):
        yaw, spot = street.path.at(length - kit.between(2, 18), float(d))
        if kit.chance(0.6):
            piece = roadside.tree(kit, kit.between(1.3, 2.2), 0.5)
        else:
            piece = buildings.house(kit, 3.0 * kit.count(3, 4))
        street.shapes += [shape.moved(yaw - np.pi / 2, spot) for shape in piece]


def _traffic(kit: Kit, street: Street) -> None:
    """Send a vehicle ahead in the lane, and some that come the other way."""
    own = street.pace[0] / street.pace[1]
    if kit.chance(0.6):
        shapes = vehicles.vehicle(kit)
        ahead = kit.between(10, 35) + vehicles.length_of(shapes) / 2
        street.drivers.append(Driver(shapes, ahead, street.lane, own * kit.between(1.0, 1.08)))
    s = kit.between(5, 60)
    for _ in range(kit.count(0, 4)):
        speed = -kit.between(6, 12)
        street.drivers.append(Driver(vehicles.vehicle(kit), s, -street.lane, speed))
        # Behind one another at the same speed they cannot meet.
        s += kit.between(18, 60)
