"""A scene: solids of textured materials inside a hull, and what its builders draw from.

World coordinates are metres, z up; the hull, a box seen from inside, fills [0, size] on each axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sample_data.shapes import Shape
from sample_data.textures import Atlas, Painter, Range

# A material: painters to choose from, how many materials have this role, tile edge [m],
# shininess, emission, infrared reflectance; see `Materials`.
Role = tuple[tuple[Painter, ...], int, Range, Range, float, float]


@dataclass
class Materials:
    """Columns of the material table, each (M,) float32, and the textures.

    Args:
        tile: edge of a texture tile [m].
        shininess: weight of the mirror highlight, 0 dull to 1 glossy.
        emission: own light, 0 for everything but lamps and windows.
        infrared: fraction of the depth sensor's light that is not lost or mirrored away, 0 to 1.
        atlas: albedo textures.
    """

    tile: np.ndarray
    shininess: np.ndarray
    emission: np.ndarray
    infrared: np.ndarray
    atlas: Atlas


@dataclass
class Scene:
    """What a camera can see.

    Args:
        size: (3,) inner size of the hull [m].
        hull: materials of its six faces, see `shapes.FACES`.
        shapes: solids inside.
        materials: the material table.
        pinned: materials that stay upright and whose first tile begins in a face's corner.
    """

    size: np.ndarray
    hull: tuple[int, ...]
    shapes: list[Shape]
    materials: Materials | None = None
    pinned: tuple[int, ...] = ()

    def bake(
        self, roles: dict[str, Role], key: tuple[int, int, int], moving: Sequence[Shape] = ()
    ) -> None:
        """Fill `materials` with those of the hull, its solids and those that will move there."""
        used = {m for shape in (*self.shapes, *moving) for m in shape.materials} | set(self.hull)
        self.materials = bake(roles, used, key)


class Kit:
    """Random numbers and materials for the builders of one scene.

    Args:
        rng: stream of the scene.
        roles: table of the materials; they are numbered in its order.
    """

    def __init__(self, rng: np.random.Generator, roles: dict[str, Role]) -> None:
        self.rng = rng
        self.roles = number_materials(roles)

    def pick(self, *roles: str) -> int:
        """Draw a material of one of the roles."""
        return int(self.rng.choice([m for role in roles for m in self.roles[role]]))

    def between(self, low: float, high: float) -> float:
        """Draw a uniform length or angle."""
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return bool(self.rng.random() < probability)

    def count(self, low: int, high: int) -> int:
        """Draw a whole number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))


def number_materials(roles: dict[str, Role]) -> dict[str, list[int]]:
    """Return the material indices of every role."""
    ends = np.cumsum([count for _, count, *_ in roles.values()]).tolist()
    return {
        name: list(range(end - roles[name][1], end)) for name, end in zip(roles, ends, strict=True)
    }


def bake(roles: dict[str, Role], used: set[int], key: tuple[int, int, int]) -> Materials:
    """Paint the textures in use; each has its own stream, so skipping one changes no other.

    Args:
        roles: table of the materials.
        used: indices of the materials that occur in the scene.
        key: seed of the set, split and number of the scene.
    """
    rows = [role for role in roles.values() for _ in range(role[1])]
    table, tiles = np.zeros((4, len(rows)), np.float32), {}
    for index in sorted(used):
        painters, _, tile, shininess, emission, infrared = rows[index]
        rng = np.random.default_rng([*key, 1, index])
        painter = painters[int(rng.integers(len(painters)))]
        table[:, index] = rng.uniform(*tile), rng.uniform(*shininess), emission, infrared
        tiles[index] = painter(rng)
    return Materials(*table, Atlas(tiles))
