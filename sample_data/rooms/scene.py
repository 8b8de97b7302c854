"""Sampling of one furnished room: its walls, materials, furniture and lights.

World coordinates are metres, z up; the room fills [0, size] on each axis.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sample_data.rooms import fittings, furniture, pictures, textures
from sample_data.rooms.furniture import Kit, Piece
from sample_data.rooms.plan import Area, Plan
from sample_data.rooms.shapes import Shape, box, ellipsoid, frustum

_WALLS = (textures.plaster,) * 4 + (textures.wallpaper,) * 2 + (textures.brick,)

# role: painters, how many materials, tile edge [m], shininess, emission, infrared reflectance.
# The last decides where the simulated depth camera loses its pattern (black plastic, glass).
_ROLES = {
    "wall": (_WALLS, 2,
             (1.2, 2.2), (0.0, 0.1), 0.0, 0.8),
    "floor": ((textures.planks, textures.carpet, textures.tiles), 2, (1.0, 2.0), (0.0, 0.5), 0.0,
              0.6),
    "ceiling": ((textures.white, textures.plaster), 1, (2.0, 3.0), (0.0, 0.0), 0.0, 0.9),
    "white": ((textures.white,), 1, (1.0, 1.0), (0.1, 0.3), 0.0, 0.9),
    "wood": ((textures.wood,), 3, (0.5, 1.1), (0.1, 0.5), 0.0, 0.6),
    "fabric": ((textures.fabric,), 3, (0.3, 0.7), (0.0, 0.0), 0.0, 0.7),
    "plain": ((textures.plain,), 5, (0.5, 1.0), (0.0, 0.7), 0.0, 0.6),
    "tiles": ((textures.tiles,), 1, (0.6, 1.0), (0.2, 0.6), 0.0, 0.5),
    "metal": ((textures.metal,), 1, (0.3, 0.6), (0.6, 1.0), 0.0, 0.3),
    "picture": ((pictures.picture,), 5, (1.0, 1.0), (0.0, 0.5), 0.0, 0.6),
    "books": ((pictures.books,), 2, (1.0, 1.0), (0.0, 0.2), 0.0, 0.6),
    "drawers": ((pictures.drawers,), 2, (1.0, 1.0), (0.1, 0.4), 0.0, 0.6),
    "door": ((pictures.door,), 1, (1.0, 1.0), (0.1, 0.3), 0.0, 0.7),
    "rug": ((pictures.rug,), 1, (1.0, 1.0), (0.0, 0.0), 0.0, 0.6),
    "window": ((pictures.window,), 1, (1.0, 1.0), (0.2, 0.2), 1.3, 0.05),
    "screen": ((textures.screen,), 1, (1.0, 1.0), (0.9, 1.0), 0.0, 0.04),
    "leaf": ((textures.leaf,), 1, (0.2, 0.4), (0.0, 0.2), 0.0, 0.6),
    "curtain": ((textures.fabric, textures.plain), 1, (0.4, 0.8), (0.0, 0.0), 0.0, 0.7),
    "glow": ((textures.glow,), 1, (1.0, 1.0), (0.0, 0.0), 2.2, 0.5),
}  # fmt: skip


@dataclass
class Materials:
    """Columns of the material table, each (M,) float32, and the textures.

    Args:
        tile: edge of a texture tile [m].
        shininess: weight of the mirror highlight, 0 dull to 1 glossy.
        emission: own light, 0 for everything but lamps and windows.
        infrared: reflectance at the wavelength of the depth camera, 0 to 1.
        atlas: albedo textures.
    """

    tile: np.ndarray
    shininess: np.ndarray
    emission: np.ndarray
    infrared: np.ndarray
    atlas: textures.Atlas


@dataclass(frozen=True)
class Light:
    """A point light at `position` (3,) [m] with linear RGB `power` (3,)."""

    position: np.ndarray
    power: np.ndarray


@dataclass
class Scene:
    """A furnished room.

    Args:
        size: (3,) inner size of the room [m].
        shapes: solids inside; `hull` holds the six materials of floor, walls and ceiling.
        zones: floor rectangles (x0, y0, x1, y1) a camera may stand in [m].
        ambient: (3,) linear RGB light without direction.
        pinned: materials that stay upright and whose first tile begins in a face's corner.
    """

    size: np.ndarray
    hull: tuple[int, ...]
    shapes: list[Shape]
    zones: list[Area]
    lights: list[Light] = field(default_factory=list)
    ambient: np.ndarray = field(default_factory=lambda: np.full(3, 0.3, np.float32))
    materials: Materials | None = None
    pinned: tuple[int, ...] = ()

    def families(self) -> set[str]:
        """Names of the kinds of furniture in the room."""
        return {shape.family for shape in self.shapes}


def sample_scene(seed: int, split_id: int, number: int) -> Scene:
    """The room with this number; the same arguments always give the same room."""
    rng = np.random.default_rng([seed, split_id, number, 0])
    scene = _furnish(Kit(rng, number_materials(_ROLES)))
    used = {m for shape in scene.shapes for m in shape.materials} | set(scene.hull)
    scene.materials = bake(_ROLES, used, (seed, split_id, number))
    return scene


def number_materials(table: dict[str, tuple]) -> dict[str, list[int]]:
    """Material indices by role, in the order of a table like `_ROLES`."""
    roles, start = {}, 0
    for role, (_, count, *_) in table.items():
        roles[role] = list(range(start, start + count))
        start += count
    return roles


def bake(roles: dict[str, tuple], used: set[int], key: tuple[int, int, int]) -> Materials:
    """Paints the textures in use; each has its own stream, so skipping one changes no other.

    Args:
        roles: a table like `_ROLES`.
        used: indices of the materials that occur in the scene.
        key: seed of the set, split and number of the scene.
    """
    names = [role for role, (_, count, *_) in roles.items() for _ in range(count)]
    table, tiles = np.zeros((4, len(names)), np.float32), {}
    for index in sorted(used):
        painters, _, tile, shininess, emission, infrared = roles[names[index]]
        rng = np.random.default_rng([*key, 1, index])
        painter = painters[int(rng.integers(len(painters)))]
        table[:, index] = rng.uniform(*tile), rng.uniform(*shininess), emission, infrared
        tiles[index] = painter(rng)
    return Materials(*table, textures.Atlas(tiles))


def _furnish(kit: Kit) -> Scene:
    """Draws a room, places the furniture and chooses the lights."""
    size = np.array([kit.between(3.2, 7.6), kit.between(3.0, 6.2), kit.between(2.35, 3.2)])
    plan = Plan(kit, size)
    walls = [kit.roles["wall"][0]] * 4
    if kit.chance(0.5):
        walls[kit.count(0, 3)] = kit.roles["wall"][1]
    hull = (*walls, kit.roles["floor"][0], kit.roles["ceiling"][0])
    zones = _structure(plan, hull)
    for zone in zones:
        _fill(plan, zone)
    scene = Scene(size, hull, plan.shapes, zones)
    _lights(plan, scene)
    return scene


def _structure(plan: Plan, hull: tuple[int, ...]) -> list[Area]:
    """Partition with an opening, corner block, beam and sloped ceiling; returns the zones."""
    kit, (lx, ly, lz) = plan.kit, plan.size
    wall = hull[0]
    zones = [(0.0, 0.0, float(lx), float(ly))]
    if lx > 5.4 and kit.chance(0.75):
        at, width = lx * kit.between(0.4, 0.6), kit.between(0.9, min(2.6, ly - 1.0))
        start, top = kit.between(0.3, ly - width - 0.3), kit.between(2.0, lz - 0.12)
        for low, high in ((0.0, start), (start + width, ly)):
            middle, span = (at, (low + high) / 2, lz / 2), (0.12, high - low, lz)
            plan.shapes.append(box(middle, span, wall, "partition"))
        middle, span = (at, start + width / 2, (top + lz) / 2), (0.12, width, lz - top)
        plan.shapes.append(box(middle, span, wall, "partition"))
        plan.solid.append((at - 0.6, start - 0.1, at + 0.6, start + width + 0.1))
        zones = [(0.0, 0.0, at - 0.06, float(ly)), (at + 0.06, 0.0, float(lx), float(ly))]
    elif kit.chance(0.35):
        w, d = kit.between(0.5, lx * 0.35), kit.between(0.4, ly * 0.35)
        x, y = (lx - w / 2) * kit.count(0, 1) or w / 2, (ly - d / 2) * kit.count(0, 1) or d / 2
        plan.shapes.append(box((x, y, lz / 2), (w, d, lz), wall, "column"))
        plan.solid.append((x - w / 2, y - d / 2, x + w / 2, y + d / 2))
    if kit.chance(0.25):
        middle, span = (lx / 2, ly * kit.between(0.3, 0.7), lz - 0.1), (lx, 0.18, 0.2)
        plan.shapes.append(box(middle, span, kit.pick("wood", "ceiling"), "beam"))
    tilt, knee = kit.between(0.75, 1.05), kit.between(1.3, 1.7)
    if kit.chance(0.35) and (lz - knee) / np.tan(tilt) < 0.4 * ly - 0.4:
        # An attic: a slab, as thick as what it hides, cuts the edge between wall and ceiling.
        along, normal = (0, np.cos(tilt), np.sin(tilt)), (0, -np.sin(tilt), np.cos(tilt))
        plan.roof = np.array([0.0, 0.0, knee]), np.array(normal)
        middle = plan.roof[0] + np.array([lx / 2, 0, 0]) + np.array(normal) * 0.75
        middle += np.array(along) * (lz - knee) / np.sin(tilt) / 2
        long = (lz - knee) / np.sin(tilt) + 1.5
        plan.shapes.append(box(tuple(middle), (lx, long, 1.5), hull[5], "slope", pitch=tilt))
    return zones


def _fill(plan: Plan, zone: Area) -> None:
    """Furniture of one zone, in proportion to its floor area."""
    kit = plan.kit
    area = (zone[2] - zone[0]) * (zone[3] - zone[1])
    if kit.chance(0.7):
        plan.against_wall(fittings.door(kit), zone, "door")
    for _ in range(kit.count(0, 2)):
        plan.against_wall(fittings.window(kit), zone, "window")
    if kit.chance(0.45):
        w = min(kit.between(1.2, 2.4), (zone[2] - zone[0]) * 0.7)
        d = min(kit.between(0.8, 1.8), (zone[3] - zone[1]) * 0.7)
        x = kit.between(zone[0] + w / 2 + 0.1, zone[2] - w / 2 - 0.1)
        y = kit.between(zone[1] + d / 2 + 0.1, zone[3] - d / 2 - 0.1)
        middle = (x, y, 0.004)
        plan.shapes.append(box(middle, (w, d, 0.008), kit.pick("rug"), "rug", fit=True))
    along = [furniture.shelf, furniture.cabinet, fittings.sofa, furniture.table, fittings.slope,
             fittings.counter, fittings.bed, furniture.shelf, furniture.cabinet]  # fmt: skip
    for _ in range(kit.count(2, 3) + int(area / 6)):
        plan.against_wall(along[kit.count(0, 8)](kit), zone)
    if area > 7:
        for _ in range(kit.count(1, 1 + int(area / 12))):
            plan.anywhere(_seating(kit), zone)
    loose = [furniture.crates, furniture.cylinders, furniture.balls, fittings.plant,
             furniture.chair, fittings.floor_lamp]  # fmt: skip
    for _ in range(kit.count(2, 3) + int(area / 5)):
        plan.anywhere(loose[kit.count(0, 5)](kit), zone)
    for _ in range(kit.count(2, 5)):
        build = fittings.wall_board if kit.chance(0.25) else fittings.pictures
        plan.against_wall(build(kit), zone, "hung")


def _seating(kit: Kit) -> Piece:
    """A table with chairs drawn up to it."""
    piece = furniture.table(kit)
    width, depth = piece.size
    shapes = list(piece.shapes)
    seat = furniture.chair(kit)
    for side, yaw in ((-1, 0.0), (1, np.pi)):
        for k in range(kit.count(0, max(1, int(width / 0.65)))):
            x = -width / 2 + 0.4 + 0.62 * k
            spot = np.array([x, side * (depth / 2 + kit.between(0.0, 0.22)), 0.0])
            shapes += [s.moved(yaw + kit.between(-0.25, 0.25), spot) for s in seat.shapes]
    return Piece(shapes, (width + 0.1, depth + 1.0))


def _lights(plan: Plan, scene: Scene) -> None:
    """A ceiling lamp a zone, then a window or a floor lamp; two lights at most cast shadows."""
    kit, height = plan.kit, float(scene.size[2])
    warm = np.array([1.0, kit.between(0.78, 0.95), kit.between(0.55, 0.85)], np.float32)
    cool = np.array([kit.between(0.85, 1.0), 0.95, 1.0], np.float32)
    for zone in scene.zones:
        drop = kit.between(0.12, 0.45)
        x = (zone[0] + zone[2]) / 2 + kit.between(-0.2, 0.2) * (zone[2] - zone[0])
        y = (zone[1] + zone[3]) / 2 + kit.between(-0.2, 0.2) * (zone[3] - zone[1])
        globe, r = np.array([x, y, height - drop]), kit.between(0.09, 0.16)
        material, cord = kit.pick("glow"), kit.pick("metal")
        body = ellipsoid(tuple(globe), (r, r, r), material, "lamp", casts_shadow=False)
        line = (x, y, height - drop)
        rod = frustum(line, (0.01, 0.01), drop, cord, "lamp", casts_shadow=False)
        scene.shapes += [body, rod]
        scene.lights.append(Light(globe, warm * np.float32(kit.between(2.5, 5.0))))
    if len(scene.lights) == 1 and plan.lamps:
        name, position = plan.lamps[kit.count(0, len(plan.lamps) - 1)]
        tint, power = (cool, kit.between(2.0, 5.0)) if name == "window" else (warm, 2.0)
        scene.lights.append(Light(position, tint * np.float32(power)))
    grey = np.float32(kit.between(0.12, 0.35))
    scene.ambient = grey * (0.5 * warm + 0.5 * cool)
