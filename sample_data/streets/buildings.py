"""Houses beside a street, and the walls, garages and fences around them.

The frame of a building: origin at its front line, the -y face; x along the street, y away from it,
z up, metres.
"""

import numpy as np

from sample_data.scene import Kit
from sample_data.shapes import Shape, box, ellipsoid

STOREY = BAY = 3.0  # [m], half a facade texture


def _roof(
    width: float, length: float, eaves: float, y: float, along: str, roof: int, gable: int
) -> Shape:
    """Build a roof of 45 degrees: a square bar on its edge, its lower half in the house.

    `width` is the span across the ridge, `length` that along it, `y` its middle.
    """
    length -= 0.04  # a little behind the walls, or the lower half would show
    edge = width / np.sqrt(2)
    if along == "x":
        faces = (gable, gable, roof, roof, roof, roof)
        return box((0, y, eaves), (length, edge, edge), faces, pitch=np.pi / 4)
    faces = (roof, roof, gable, gable, roof, roof)
    return box((0, y, eaves), (edge, length, edge), faces, roll=np.pi / 4)


def block(kit: Kit, width: float) -> list[Shape]:
    """Build a town house or office `width` [m] wide, a multiple of BAY, its front on the line."""
    storeys, base = kit.count(2, 5), 3.6
    depth, front = kit.draw((9.0, 12.0), "facade facade facade office")
    trim, ground = kit.draw("concrete", "shop")
    y, height = depth / 2, STOREY * storeys
    top = base + height
    ground_faces = (trim, trim, ground, trim, trim, trim)
    shapes = [
        box((0, y, base + height / 2), (width, depth, height), front),
        box((0, y - 0.06, base / 2), (width, depth + 0.1, base), ground_faces, fit=True),
        box((0, y, top + 0.15), (width + 0.1, depth + 0.8, 0.3), trim),
    ]
    if kit.chance(0.6):
        gable = kit.pick("plaster", "brick")
        shapes.append(_roof(depth, width, top + 0.3, y, "x", kit.pick("roof"), gable))
    for _ in range(kit.count(0, 3)):
        # Balconies and bays, one storey up or higher, on the grid of the windows.
        x = (kit.count(0, round(width / BAY) - 1) + 0.5) * BAY - width / 2
        z = base + STOREY * kit.count(0, storeys - 1)
        if kit.chance(0.6):
            shapes.append(box((x, -0.5, z + 0.1), (2.4, 1.0, 0.16), trim))
            shapes.append(box((x, -0.98, z + 0.6), (2.4, 0.05, 0.9), kit.pick("metal")))
        else:
            shapes.append(box((x, -0.35, z + STOREY / 2), (2.6, 0.7, STOREY), front))
    if kit.chance(0.4):
        spot = (kit.between(-0.3, 0.3) * width, -0.6, 2.75)
        shapes.append(box(spot, (4.0, 1.3, 0.05), kit.pick("cloth"), pitch=0.25))
    step = (kit.between(-0.35, 0.35) * width, -0.3, 0.1)
    pipe = (width / 2 - 0.15, -0.12, top / 2)
    shapes.append(box(step, (1.6, 0.6, 0.2), trim))
    return [*shapes, box(pipe, (0.12, 0.12, top), kit.pick("metal"))]


def house(kit: Kit, width: float) -> list[Shape]:
    """Build a detached house with a pitched roof; its front is on the line."""
    depth, height, plinth = BAY * kit.count(2, 4), STOREY * kit.count(1, 2), 0.4
    wall, roof, trim = kit.draw("facade", "roof", "concrete")
    y, top = depth / 2, plinth + height
    shapes = [
        box((0, y, plinth + height / 2), (width, depth, height), wall),
        box((0, y, plinth / 2), (width + 0.06, depth + 0.06, plinth), trim),
    ]
    along = "x" if kit.chance(0.6) else "y"
    span, ridge = (depth, width) if along == "x" else (width, depth)
    gable = kit.pick("planks", "plaster", "plaster", "brick")
    # The bar stands proud of the walls along the eaves.
    shapes.append(_roof(span + 0.5, ridge, top, y, along, roof, gable))
    x, beside = kit.between(-0.3, 0.3) * width, kit.between(-0.15, 0.15) * depth
    shapes.append(box((x, y + beside, top + span / 2 - 0.2), (0.5, 0.5, 1.6), kit.pick("brick")))
    x = kit.between(-0.3, 0.3) * width
    shapes.append(box((x, -0.02, 1.45), (1.1, 0.1, 2.1), kit.pick("garage"), fit=True))
    return [*shapes, box((x, -0.6, 2.75), (1.8, 1.2, 0.1), trim)]


def garage(kit: Kit) -> list[Shape]:
    """Build a garage or a pair of them."""
    count = kit.count(1, 2)
    width, wall, trim = 3.1 * count, kit.pick("plaster"), kit.pick("concrete")
    shapes = [
        box((0, 3, 1.25), (width, 6.0, 2.5), wall),
        box((0, 2.9, 2.56), (width + 0.3, 6.4, 0.14), trim),
    ]
    for k in range(count):
        spot = ((k - (count - 1) / 2) * 3.1, -0.02, 1.05)
        shapes.append(box(spot, (2.5, 0.06, 2.1), kit.pick("garage"), fit=True))
    return shapes


def border(kit: Kit, length: float, height: float) -> list[Shape]:
    """Build what stands before a garden: hedge, boards, wall, or rails between posts."""
    kind = kit.count(0, 4)
    if kind <= 1:
        return hedge(kit, length, height * kit.between(0.9, 1.3))
    if kind == 2:
        return [box((0, 0.1, height / 2), (length, 0.05, height), kit.pick("planks"))]
    if kind == 3:
        wall = kit.pick("brick", "plaster", "concrete")
        low = height * kit.between(0.5, 0.9)
        coping = box((0, 0.15, low), (length, 0.4, 0.08), kit.pick("concrete"))
        return [box((0, 0.15, low / 2), (length, 0.3, low), wall), coping]
    rail = kit.pick("planks", "metal")
    posts = np.linspace(-length / 2 + 0.1, length / 2 - 0.1, max(2, round(length / 2)))
    return [
        *(box((0, 0.1, z), (length, 0.04, 0.1), rail) for z in (0.3, 0.65, 1.0)),
        *(box((x, 0.1, 0.6), (0.1, 0.1, 1.2), rail) for x in posts.tolist()),
    ]


def hedge(kit: Kit, length: float, height: float) -> list[Shape]:
    """Build a clipped hedge with an uneven top and front."""
    green, thick = kit.draw("foliage", (0.7, 1.1))
    shapes = [box((0, thick / 2, height / 2), (length, thick, height), green)]
    for x in np.arange(-length / 2 + 0.4, length / 2 - 0.3, 1.1).tolist():
        spot = (x + kit.between(-0.2, 0.2), thick / 2, height - 0.1)
        radii = (kit.between(0.5, 0.9), thick / 2 + 0.08, kit.between(0.2, 0.4))
        shapes.append(ellipsoid(spot, radii, green))
        spot = (x, 0.1, height * kit.between(0.3, 0.7))
        shapes.append(ellipsoid(spot, (0.7, kit.between(0.15, 0.3), 0.5), green))
    return shapes
