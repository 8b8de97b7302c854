"""What makes leaves of smooth solids: ragged outlines and a texture without poles."""

from __future__ import annotations

import cv2
import numpy as np

from sample_data.rooms.render import Hits
from sample_data.rooms.scene import Scene
from sample_data.rooms.shade import Geometry
from sample_data.rooms.shapes import FACES

_LEAF = 0.09  # [m] how far twigs stick out


def fray(
    scene: Scene, hits: Hits, green: np.ndarray, focal: float, rng: np.random.Generator
) -> None:
    """Frays the outlines of foliage in a picture of hits, in place.

    A pixel near an outline takes what a random neighbour sees: leaves stick out and what is
    behind shines through gaps, but nothing is drawn over what stands before the leaves.

    Args:
        scene: the street.
        hits: picture to change.
        green: (M,) bool, materials that are foliage.
        focal: focal length [pixels].
        rng: stream of the picture.
    """
    owner = np.array([False] + [green[shape.materials[0]] for shape in scene.shapes])
    leafy = owner.take(hits.surface // FACES)
    square = np.ones((17, 17), np.uint8)
    mask = leafy.astype(np.uint8)
    rim = cv2.dilate(mask, square) != cv2.erode(mask, square)
    rows, columns = np.nonzero(rim)
    if not rows.size:
        return
    # The depth of leaves near by, which decides how large a twig is in the picture.
    close = cv2.erode(np.where(leafy, hits.depth, np.float32(1e4)), square)
    reach = np.clip(_LEAF * focal / close[rows, columns], 0.8, 8)
    shape = hits.depth.shape
    steps = []
    for _ in range(2):
        fine = rng.standard_normal(shape, dtype=np.float32)
        coarse = rng.standard_normal((shape[0] // 4 + 1, shape[1] // 4 + 1), dtype=np.float32)
        coarse = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_LINEAR)
        steps.append(np.rint(reach * (0.5 * fine + 1.1 * coarse)[rows, columns]).astype(np.int64))
    other = np.clip(rows + steps[0], 0, shape[0] - 1), np.clip(columns + steps[1], 0, shape[1] - 1)
    here, there = leafy[rows, columns], leafy[other]
    behind = hits.depth[other] > hits.depth[rows, columns]
    taken = (here & ~there & behind) | (~here & there & ~behind)
    source = tuple(index[taken] for index in other)
    depth, surface = hits.depth[source], hits.surface[source]
    hits.depth[rows[taken], columns[taken]] = depth
    hits.surface[rows[taken], columns[taken]] = surface


def drape(scene: Scene, geo: Geometry, green: np.ndarray) -> None:
    """Maps foliage textures along the world axis a surface faces most, in place.

    Around the poles of an ellipsoid its own texture coordinates would stretch leaves to stripes.

    Args:
        scene: the street; geo: its visible surfaces.
        green: (M,) bool, materials that are foliage.
    """
    index = np.flatnonzero(green.take(geo.material))
    point = [p[index] for p in geo.point]
    normal = [np.abs(n[index]) for n in geo.normal]
    tile = scene.materials.tile.take(geo.material[index])
    upright = normal[2] < np.maximum(normal[0], normal[1])
    along_x = normal[0] < normal[1]
    geo.u[index] = np.where(upright & ~along_x, point[1], point[0]) / tile
    geo.v[index] = np.where(upright, -point[2], point[1]) / tile
