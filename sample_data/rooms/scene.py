"""Sampling of one furnished room: its walls, materials, furniture and lights."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from sample_data.rooms import fittings, furniture, textures
from sample_data.rooms.plan import Area, Plan
from sample_data.sample_set import SPLITS
from sample_data.scene import Kit, Scene, bake, read_palette
from sample_data.shapes import box, ellipsoid, frustum

# Their infrared reflectance decides where the depth camera loses its pattern (plastic, glass).
MATERIALS = Path(__file__).with_name("materials.csv")

# Builders to draw from, for what stands along walls and for what stands anywhere.
ALONG_WALLS = [furniture.shelf, furniture.cabinet, furniture.sofa, furniture.table,
               furniture.slope, furniture.counter, furniture.bed, furniture.shelf,
               furniture.cabinet]  # fmt: skip
LOOSE = [furniture.crates, furniture.cylinders, furniture.balls, furniture.plant,
         furniture.chair, furniture.floor_lamp]  # fmt: skip


@dataclass(frozen=True)
class Light:
    """A point light at `position` (3,) [m] with linear RGB `power` (3,)."""

    position: np.ndarray
    power: np.ndarray


@dataclass
class Room(Scene):
    """A furnished room."""

    zones: list[Area] = field(default_factory=list)  # floor a camera may stand on [m]
    lights: list[Light] = field(default_factory=list)  # those that cast shadows
    ambient: np.ndarray | None = None  # (3,) linear RGB light without direction


@lru_cache(maxsize=2)
def sample_scene(seed: int, split: str, number: int) -> Room:
    """Return the room with this number; the same arguments always give the same room."""
    palette, key = read_palette(MATERIALS, textures), (seed, SPLITS[split], number)
    kit = Kit(np.random.default_rng([*key, 0]), palette)
    size = np.array(kit.draw((3.2, 7.6), (3.0, 6.2), (2.35, 3.2)))
    plan = Plan(kit, size)
    walls = [kit.roles["wall"][0]] * 4
    if kit.chance(0.5):
        walls[kit.count(0, 3)] = kit.roles["wall"][1]
    hull = (*walls, kit.roles["floor"][0], kit.roles["ceiling"][0])
    zones = _structure(plan, hull)
    for zone in zones:
        _fill(plan, zone)
    room = Room(size, hull, plan.shapes, zones=zones)
    _lights(plan, room)
    room.materials = bake(palette, room.shapes, hull, key)
    return room


def _structure(plan: Plan, hull: tuple[int, ...]) -> list[Area]:
    """Build a partition with an opening, column, beam and sloped ceiling; return the zones."""
    kit, (lx, ly, lz), wall = plan.kit, plan.size.tolist(), hull[0]
    zones = [(0.0, 0.0, lx, ly)]
    if lx > 5.4 and kit.chance(0.75):
        at, width = lx * kit.between(0.4, 0.6), kit.between(0.9, min(2.6, ly - 1.0))
        start, top = kit.between(0.3, ly - width - 0.3), kit.between(2.0, lz - 0.12)
        end = start + width
        plan.shapes += [
            box((at, (0.0 + start) / 2, lz / 2), (0.12, start - 0.0, lz), wall),
            box((at, (end + ly) / 2, lz / 2), (0.12, ly - end, lz), wall),
            box((at, start + width / 2, (top + lz) / 2), (0.12, width, lz - top), wall),
        ]
        plan.solid.append((at - 0.6, start - 0.1, at + 0.6, end + 0.1))
        zones = [(0.0, 0.0, at - 0.06, ly), (at + 0.06, 0.0, lx, ly)]
    elif kit.chance(0.35):
        w, d = kit.between(0.5, lx * 0.35), kit.between(0.4, ly * 0.35)
        x, y = (lx - w / 2) * kit.count(0, 1) or w / 2, (ly - d / 2) * kit.count(0, 1) or d / 2
        plan.shapes.append(box((x, y, lz / 2), (w, d, lz), wall))
        plan.solid.append((x - w / 2, y - d / 2, x + w / 2, y + d / 2))
    if kit.chance(0.25):
        middle = (lx / 2, ly * kit.between(0.3, 0.7), lz - 0.1)
        plan.shapes.append(box(middle, (lx, 0.18, 0.2), kit.pick("wood", "ceiling")))
    tilt, knee = kit.between(0.75, 1.05), kit.between(1.3, 1.7)
    if kit.chance(0.35) and (lz - knee) / np.tan(tilt) < 0.4 * ly - 0.4:
        # An attic: a slab, as thick as what it hides, cuts the edge between wall and ceiling.
        normal = np.array((0, -np.sin(tilt), np.cos(tilt)))
        plan.roof = np.array([0.0, 0.0, knee]), normal
        middle = plan.roof[0] + np.array([lx / 2, 0, 0]) + normal * 0.75
        middle += np.array((0, np.cos(tilt), np.sin(tilt))) * (lz - knee) / np.sin(tilt) / 2
        long = (lz - knee) / np.sin(tilt) + 1.5
        plan.shapes.append(box(tuple(middle), (lx, long, 1.5), hull[5], pitch=tilt))
    return zones


def _fill(plan: Plan, zone: Area) -> None:
    """Furnish one zone in proportion to its floor area."""
    kit, (x0, y0, x1, y1) = plan.kit, zone
    area = (x1 - x0) * (y1 - y0)
    if kit.chance(0.7):
        plan.against_wall(fittings.door(kit), zone, "door")
    for _ in range(kit.count(0, 2)):
        plan.against_wall(fittings.window(kit), zone, "window")
    if kit.chance(0.45):
        w = min(kit.between(1.2, 2.4), (x1 - x0) * 0.7)
        d = min(kit.between(0.8, 1.8), (y1 - y0) * 0.7)
        x = kit.between(x0 + w / 2 + 0.1, x1 - w / 2 - 0.1)
        y = kit.between(y0 + d / 2 + 0.1, y1 - d / 2 - 0.1)
        plan.shapes.append(box((x, y, 0.004), (w, d, 0.008), kit.pick("rug"), fit=True))
    for _ in range(kit.count(2, 3) + int(area / 6)):
        plan.against_wall(ALONG_WALLS[kit.count(0, 8)](kit), zone)
    if area > 7:
        for _ in range(kit.count(1, 1 + int(area / 12))):
            plan.anywhere(furniture.table_with_chairs(kit), zone)
    for _ in range(kit.count(2, 3) + int(area / 5)):
        plan.anywhere(LOOSE[kit.count(0, 5)](kit), zone)
    for _ in range(kit.count(2, 5)):
        build = fittings.wall_board if kit.chance(0.25) else fittings.pictures
        plan.against_wall(build(kit), zone, "hung")


def _lights(plan: Plan, room: Room) -> None:
    """Hang a lamp in each zone, then light a window or a floor lamp; two lights at most."""
    kit, height = plan.kit, float(room.size[2])
    warm = np.array([1.0, kit.between(0.78, 0.95), kit.between(0.55, 0.85)], np.float32)
    cool = np.array([kit.between(0.85, 1.0), 0.95, 1.0], np.float32)
    for x0, y0, x1, y1 in room.zones:
        drop = kit.between(0.12, 0.45)
        x = (x0 + x1) / 2 + kit.between(-0.2, 0.2) * (x1 - x0)
        y = (y0 + y1) / 2 + kit.between(-0.2, 0.2) * (y1 - y0)
        spot, r = (x, y, height - drop), kit.between(0.09, 0.16)
        globe = ellipsoid(spot, (r, r, r), kit.pick("glow"), casts_shadow=False)
        cord = frustum(spot, (0.01, 0.01), drop, kit.pick("metal"), casts_shadow=False)
        room.shapes += [globe, cord]
        room.lights.append(Light(np.array(spot), warm * np.float32(kit.between(2.5, 5.0))))
    if len(room.lights) == 1 and plan.lamps:
        name, position = plan.lamps[kit.count(0, len(plan.lamps) - 1)]
        tint, power = (cool, kit.between(2.0, 5.0)) if name == "window" else (warm, 2.0)
        room.lights.append(Light(position, tint * np.float32(power)))
    room.ambient = np.float32(kit.between(0.12, 0.35)) * (0.5 * warm + 0.5 * cool)
