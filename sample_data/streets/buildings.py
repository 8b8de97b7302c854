"""Houses beside a street, and the walls, garages and fences around them.

The frame of a building: origin at its front line, x along the street, y away from it, z up,
metres. The front is the -y face.
"""

from __future__ import annotations

import numpy as np

from sample_data.rooms.furniture import Kit
from sample_data.rooms.shapes import Shape, box, ellipsoid

STOREY = BAY = 3.0  # [m], half a facade texture


def _prism(
    width: float, length: float, eaves: float, middle: tuple[float, float], along: str, roof: int,
    gable: int,
) -> Shape:  # fmt: skip
    """A roof with slopes of 45 degrees: a square bar on its edge, its lower half in the house.

    `width` is the span across the ridge, `length` that along it; `middle` is (x, y). The gables
    lie a little behind the walls, or the lower half would show.
    """
    length -= 0.04
    edge = width / np.sqrt(2)
    centre = (middle[0], middle[1], eaves)
    if along == "x":
        faces = (gable, gable, roof, roof, roof, roof)
        return box(centre, (length, edge, edge), faces, "roof", pitch=np.pi / 4)
    faces = (roof, roof, gable, gable, roof, roof)
    return box(centre, (edge, length, edge), faces, "roof", roll=np.pi / 4)


def block(kit: Kit, width: float) -> list[Shape]:
    """A town house or office `width` metres wide, a multiple of BAY, its front on the line."""
    storeys, depth = kit.count(2, 5), kit.between(9.0, 12.0)
    front = kit.pick("facade", "facade", "facade", "office")
    height = STOREY * storeys
    base = 3.6
    trim, ground = kit.pick("concrete"), kit.pick("shop")
    middle = (0, depth / 2)
    upper = box((*middle, base + height / 2), (width, depth, height), front, "building")
    lower = box(
        (0, depth / 2 - 0.06, base / 2), (width, depth + 0.1, base),
        (trim, trim, ground, trim, trim, trim), "building", fit=True,
    )  # fmt: skip
    shapes = [upper, lower]
    top = base + height
    eaves = (0, depth / 2, top + 0.15)
    shapes.append(box(eaves, (width + 0.1, depth + 0.8, 0.3), trim, "building"))
    if kit.chance(0.6):
        gable = kit.pick("plaster", "brick")
        shapes.append(_prism(depth, width, top + 0.3, middle, "x", kit.pick("roof"), gable))
    for _ in range(kit.count(0, 3)):
        # Balconies and bays, one storey up or higher, on the grid of the windows.
        x = (kit.count(0, round(width / BAY) - 1) + 0.5) * BAY - width / 2
        z = base + STOREY * kit.count(0, storeys - 1)
        if kit.chance(0.6):
            shapes.append(box((x, -0.5, z + 0.1), (2.4, 1.0, 0.16), trim, "building"))
            shapes.append(box((x, -0.98, z + 0.6), (2.4, 0.05, 0.9), kit.pick("metal"), "building"))
        else:
            spot = (x, -0.35, z + STOREY / 2)
            shapes.append(box(spot, (2.6, 0.7, STOREY), front, "building"))
    if kit.chance(0.4):
        x = kit.between(-0.3, 0.3) * width
        awning = kit.pick("cloth")
        shapes.append(box((x, -0.6, 2.75), (4.0, 1.3, 0.05), awning, "building", pitch=0.25))
    # Steps of a door, a drain pipe at the corner.
    x = kit.between(-0.35, 0.35) * width
    shapes.append(box((x, -0.3, 0.1), (1.6, 0.6, 0.2), trim, "building"))
    pipe = (width / 2 - 0.15, -0.12, top / 2)
    shapes.append(box(pipe, (0.12, 0.12, top), kit.pick("metal"), "building"))
    return shapes


def house(kit: Kit, width: float) -> list[Shape]:
    """A detached house with a pitched roof; its front is on the line."""
    depth, storeys = BAY * kit.count(2, 4), kit.count(1, 2)
    height, wall = STOREY * storeys, kit.pick("facade")
    roof, trim = kit.pick("roof"), kit.pick("concrete")
    middle = (0.0, depth / 2)
    plinth = 0.4
    shapes = [
        box((*middle, plinth + height / 2), (width, depth, height), wall, "building"),
        box((*middle, plinth / 2), (width + 0.06, depth + 0.06, plinth), trim, "building"),
    ]
    along = "x" if kit.chance(0.6) else "y"
    span, ridge = (depth, width) if along == "x" else (width, depth)
    top = plinth + height
    # The bar stands proud of the walls along the eaves.
    gable = kit.pick("planks", "plaster", "plaster", "brick")
    shapes.append(_prism(span + 0.5, ridge, top, middle, along, roof, gable))
    x = kit.between(-0.3, 0.3) * width
    chimney = (x, depth / 2 + kit.between(-0.15, 0.15) * depth, top + span / 2 - 0.2)
    shapes.append(box(chimney, (0.5, 0.5, 1.6), kit.pick("brick"), "building"))
    door = kit.between(-0.3, 0.3) * width
    shapes.append(
        box((door, -0.02, 1.45), (1.1, 0.1, 2.1), kit.pick("garage"), "building", fit=True)
    )
    shapes.append(box((door, -0.6, 2.75), (1.8, 1.2, 0.1), trim, "building"))
    return shapes


def garage(kit: Kit) -> list[Shape]:
    """A garage or a pair of them."""
    count = kit.count(1, 2)
    width, wall, trim = 3.1 * count, kit.pick("plaster"), kit.pick("concrete")
    shapes = [
        box((0, 3, 1.25), (width, 6.0, 2.5), wall, "building"),
        box((0, 2.9, 2.56), (width + 0.3, 6.4, 0.14), trim, "building"),
    ]
    for k in range(count):
        x = (k - (count - 1) / 2) * 3.1
        door = kit.pick("garage")
        shapes.append(box((x, -0.02, 1.05), (2.5, 0.06, 2.1), door, "building", fit=True))
    return shapes


def border(kit: Kit, length: float, height: float) -> list[Shape]:
    """What stands on the line before a garden: hedge, boards, wall, or rails between posts."""
    kind = kit.count(0, 4)
    if kind <= 1:
        return hedge(kit, length, height * kit.between(0.9, 1.3))
    if kind == 2:
        boards = kit.pick("planks")
        return [box((0, 0.1, height / 2), (length, 0.05, height), boards, "fence")]
    if kind == 3:
        wall = kit.pick("brick", "plaster", "concrete")
        low = height * kit.between(0.5, 0.9)
        coping = box((0, 0.15, low), (length, 0.4, 0.08), kit.pick("concrete"), "fence")
        return [box((0, 0.15, low / 2), (length, 0.3, low), wall, "fence"), coping]
    rail = kit.pick("planks", "metal")
    shapes = []
    for z in (0.3, 0.65, 1.0):
        shapes.append(box((0, 0.1, z), (length, 0.04, 0.1), rail, "fence"))
    count = max(2, round(length / 2))
    for x in np.linspace(-length / 2 + 0.1, length / 2 - 0.1, count):
        shapes.append(box((float(x), 0.1, 0.6), (0.1, 0.1, 1.2), rail, "fence"))
    return shapes


def hedge(kit: Kit, length: float, height: float) -> list[Shape]:
    """A clipped hedge with an uneven top and front."""
    green = kit.pick("foliage")
    thick = kit.between(0.7, 1.1)
    shapes = [box((0, thick / 2, height / 2), (length, thick, height), green, "hedge")]
    for x in np.arange(-length / 2 + 0.4, length / 2 - 0.3, 1.1):
        spot = (float(x) + kit.between(-0.2, 0.2), thick / 2, height - 0.1)
        radii = (kit.between(0.5, 0.9), thick / 2 + 0.08, kit.between(0.2, 0.4))
        shapes.append(ellipsoid(spot, radii, green, "hedge"))
        spot = (float(x), 0.1, height * kit.between(0.3, 0.7))
        shapes.append(ellipsoid(spot, (0.7, kit.between(0.15, 0.3), 0.5), green, "hedge"))
    return shapes
