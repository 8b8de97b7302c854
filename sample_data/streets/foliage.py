"""What makes leaves of smooth solids: ragged outlines and a texture without poles."""

import cv2
import numpy as np
from numpy.random import Generator

from sample_data.render import Hits, Surfaces
from sample_data.scene import Scene
from sample_data.shapes import FACES
from sample_data.streets.rig import FOCAL

_LEAF = 0.09  # [m] how far twigs stick out


def fray(scene: Scene, hits: Hits, rng: Generator) -> None:
    """Fray the outlines of foliage in a picture of hits, in place.

    A pixel near an outline takes what a random neighbour sees: leaves stick out and what is
    behind shines through gaps, but nothing is drawn over what stands before the leaves.
    """
    foliage = scene.materials.foliage
    owner = np.array([False] + [foliage[shape.materials[0]] for shape in scene.shapes])
    leafy = owner.take(hits.surface // FACES)
    square = np.ones((17, 17), np.uint8)
    mask = leafy.astype(np.uint8)
    rim = cv2.dilate(mask, square) != cv2.erode(mask, square)
    rows, columns = np.nonzero(rim)
    if not rows.size:
        return
    # The depth of leaves near by, which decides how large a twig is in the picture.
    close = cv2.erode(np.where(leafy, hits.depth, np.float32(1e4)), square)
    reach = np.clip(_LEAF * FOCAL / close[rows, columns], 0.8, 8)
    shape, moved = hits.depth.shape, []
    for index, size in zip((rows, columns), shape, strict=True):
        fine = rng.standard_normal(shape, dtype=np.float32)
        coarse = rng.standard_normal((shape[0] // 4 + 1, shape[1] // 4 + 1), dtype=np.float32)
        coarse = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_LINEAR)
        step = np.rint(reach * (0.5 * fine + 1.1 * coarse)[rows, columns]).astype(np.int64)
        moved.append(np.clip(index + step, 0, size - 1))
    other = tuple(moved)
    here, there = leafy[rows, columns], leafy[other]
    behind = hits.depth[other] > hits.depth[rows, columns]
    taken = np.where(here, ~there & behind, there & ~behind)
    for picture in (hits.depth, hits.surface):
        picture[rows, columns] = np.where(taken, picture[other], picture[rows, columns])


def drape(scene: Scene, seen: Surfaces) -> None:
    """Map textures of foliage along the world axis that a surface faces most.

    Around the poles of an ellipsoid its own texture coordinates would stretch leaves to stripes.
    """
    index = np.flatnonzero(scene.materials.foliage.take(seen.material))
    x, y, z = seen.point.take(index, axis=1)
    across_x, across_y, up = np.abs(seen.normal.take(index, axis=1))
    upright = up < np.maximum(across_x, across_y)
    u = np.where(upright & (across_x >= across_y), y, x)
    seen.uv[:, index] = np.stack([u, np.where(upright, -z, y)]) / (
        scene.materials.tile.take(seen.material[index]))  # fmt: skip
