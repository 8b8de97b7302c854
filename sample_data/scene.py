"""A scene: solids of textured materials inside a hull, and what its builders draw from.

World coordinates are metres, z up; the hull, a box seen from inside, fills [0, size] on each axis.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd

from sample_data import textures as common
from sample_data.shapes import Shape
from sample_data.textures import Atlas, Range


@dataclass
class Materials:
    """Columns of the material table, each (M,) float32 unless noted, and the textures."""

    tile: np.ndarray  # edge of a texture tile [m]
    shininess: np.ndarray  # weight of the mirror highlight, 0 dull to 1 glossy
    emission: np.ndarray  # own light, 0 for everything but lamps and windows
    infrared: np.ndarray  # fraction of the depth sensor's light not lost or mirrored away, 0 to 1
    foliage: np.ndarray  # bool, leaves, between which some light passes
    atlas: Atlas  # albedo textures


@dataclass
class Scene:
    """What a camera can see."""

    size: np.ndarray  # (3,) inner size of the hull [m]
    hull: tuple[int, ...]  # materials of its six faces, see `shapes.FACES`
    shapes: list[Shape]  # solids inside
    materials: Materials | None = None
    pinned: tuple[int, ...] = ()  # materials that stay upright, a tile in each face's corner


@lru_cache
def read_palette(path: Path, textures: ModuleType) -> pd.DataFrame:
    """Return a table of all materials of a set, `count` rows a role.

    The file names the painters of a role, from which one is drawn a material, and the limits of
    what else is drawn; see `Materials`. Painters are functions of `textures` or the common ones.
    """
    table = pd.read_csv(path)
    table["painters"] = [
        [getattr(textures, name, None) or getattr(common, name) for name in names.split()]
        for names in table["painters"]
    ]
    return table.loc[table.index.repeat(table["count"])].reset_index(drop=True)


def bake(
    palette: pd.DataFrame, shapes: Iterable[Shape], hull: Iterable[int], key: tuple[int, int, int]
) -> Materials:
    """Paint the textures in use by the solids and the hull of a scene.

    Each has its own stream, so skipping one changes no other; `key` is the seed of the set, the
    split and the number of the scene.
    """
    used = {m for shape in shapes for m in shape.materials} | set(hull)
    table, tiles = np.zeros((4, len(palette)), np.float32), {}
    for row in palette.loc[sorted(used)].itertuples():
        rng = np.random.default_rng([*key, 1, row.Index])
        painter = row.painters[int(rng.integers(len(row.painters)))]
        tile = rng.uniform(row.tile_least, row.tile_most)
        shininess = rng.uniform(row.shininess_least, row.shininess_most)
        table[:, row.Index] = tile, shininess, row.emission, row.infrared
        tiles[row.Index] = painter(rng)
    return Materials(*table, (palette["role"] == "foliage").to_numpy(), Atlas(tiles))


class Kit:
    """Random numbers, of the stream of a scene, and materials for its builders."""

    def __init__(self, rng: np.random.Generator, palette: pd.DataFrame) -> None:
        self.rng = rng
        self.roles = {role: rows.index.tolist() for role, rows in palette.groupby("role")}

    def pick(self, *roles: str) -> int:
        """Draw a material of one of the roles."""
        return int(self.rng.choice([m for role in roles for m in self.roles[role]]))

    def between(self, low: float, high: float) -> float:
        """Draw a uniform length or angle."""
        return float(self.rng.uniform(low, high))

    def draw(self, *specs: Range | str) -> list:
        """Draw one value each: a length or angle in a (low, high), a material of "role role"."""
        return [self.pick(*s.split()) if isinstance(s, str) else self.between(*s) for s in specs]

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return bool(self.rng.random() < probability)

    def count(self, low: int, high: int) -> int:
        """Draw a whole number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))
