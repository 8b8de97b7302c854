"""Furniture that stands on the floor, each piece a list of boxes, ellipsoids and frustums.

A builder draws a piece in its own frame: origin on the floor in the middle of the footprint,
x to the right, y to the front (the back is at -depth / 2, where a wall may stand), z up, metres.
"""

from dataclasses import dataclass, field

import numpy as np

from sample_data.scene import Kit
from sample_data.shapes import Shape, Triple, box, corners, ellipsoid, frustum, mirrored

SIDES = (-1, 1)


@dataclass
class Piece:
    """A piece of furniture in its own frame."""

    shapes: list[Shape]
    size: tuple[float, float]  # (width, depth) of the footprint [m]
    lamps: list[np.ndarray] = field(default_factory=list)  # positions (3,) of lights in it [m]


def front(face: int, rest: int) -> tuple[int, ...]:
    """Return the materials of a box whose front (+y) differs from its other faces."""
    return (rest, rest, rest, face, rest, rest)


def small_things(kit: Kit, width: float, depth: float, height: float, most: int) -> list[Shape]:
    """Build up to `most` small objects standing on a surface of the given size and height [m]."""
    shapes, count = [], kit.count(0, most)
    for k in range(count):
        slot = width / count  # one each keeps them from growing into each other
        foot = (-width / 2 + slot * (k + 0.5), kit.between(-0.25, 0.25) * depth, height)
        shapes += _small_thing(kit, foot, min(slot, depth * 0.5) * 0.45)
    return shapes


def _small_thing(kit: Kit, foot: Triple, reach: float) -> list[Shape]:
    """Build a box, cup, ball, vase, bowl or stack of books, its radius at most `reach` [m]."""
    (x, y, z), kind = foot, kit.count(0, 5)
    material, size = kit.draw("plain plain wood metal", (0.05, 0.16))
    size = min(reach, size)
    if kind == 0:
        tall, side = kit.between(0.06, 0.3), 1.4 * size
        sides = (side, side * kit.between(0.5, 1), tall)
        return [box((x, y, z + tall / 2), sides, material, yaw=kit.between(0, 3))]
    if kind == 1:
        radii = (0.6 * size, size * kit.between(0.4, 0.8))
        return [frustum(foot, radii, kit.between(0.08, 0.3), material)]
    if kind == 2:
        return [ellipsoid((x, y, z + 0.7 * size), (0.7 * size,) * 3, material)]
    if kind == 3:
        neck = frustum((x, y, z + 1.2 * size), (0.3 * size, 0.4 * size), size, material)
        radii = (0.6 * size, 0.6 * size, 0.8 * size)
        return [ellipsoid((x, y, z + 0.8 * size), radii, material), neck]
    if kind == 4:
        return [frustum(foot, (0.4 * size, size), 0.5 * size, material)]
    books = []
    for _ in range(kit.count(1, 4)):
        sides = (1.5 * size, 1.1 * size, kit.between(0.02, 0.05))
        cover, yaw = kit.draw("plain fabric", (-0.4, 0.4))
        books.append(box((x, y, z + sides[2] / 2), sides, cover, yaw=yaw))
        z += sides[2]
    return books


def table(kit: Kit) -> Piece:
    """Build a dining, side or coffee table with four legs or a pedestal, and things on it."""
    heights, thick = (0.38, 0.5) if kit.chance(0.3) else (0.68, 0.78), 0.035
    width, depth, height = kit.draw((0.7, 1.8), (0.5, 0.95), heights)
    wood, metal = kit.draw("wood wood plain", "wood metal")
    top = height - thick
    if kit.chance(0.2):
        radius = depth / 2 + 0.1
        width = depth = 2 * radius
        shapes = [
            frustum((0, 0, top), (radius, radius), thick, wood),
            frustum((0, 0, 0.03), (0.06, 0.05), top - 0.03, metal),
            frustum((0, 0, 0), (0.3, 0.25), 0.03, metal),
        ]
    else:
        shapes = [box((0, 0, height - thick / 2), (width, depth, thick), wood)]
        leg = kit.between(0.04, 0.08)
        x, y = -(width / 2 - leg), -(depth / 2 - leg)
        if kit.chance(0.3):
            corner = frustum((x, y, 0.0), (leg / 3, leg / 2), top, metal)
        else:
            corner = box((x, y, top / 2), (leg, leg, top), metal)
        shapes += mirrored(*mirrored(corner, axis=1))
    shapes += small_things(kit, width * 0.7, depth * 0.7, height, 5)
    return Piece(shapes, (width, depth))


def chair(kit: Kit) -> Piece:
    """Build a chair with four legs and a back of slats or one panel."""
    width, depth, seat, height = kit.draw((0.4, 0.5), (0.4, 0.5), (0.42, 0.48), (0.82, 1.05))
    leg, frame, cushion = kit.draw((0.03, 0.045), "wood metal plain", "fabric wood")
    shapes = [box((0, 0, seat - 0.025), (width, depth, 0.05), cushion)]
    x, y = width / 2 - leg / 2, depth / 2 - leg / 2
    for side in (-x, x):
        shapes.append(box((side, y, seat / 2 - 0.025), (leg, leg, seat - 0.05), frame))
        shapes.append(box((side, -y, height / 2), (leg, leg, height), frame))
    if kit.chance(0.5):
        slats = kit.count(2, 4)
        for k in range(slats):
            z = seat + (height - seat - 0.04) * (k + 1) / slats
            shapes.append(box((0, -y, z), (width - 2 * leg, 0.02, 0.05), frame))
    else:
        panel = (width - 2 * leg, 0.03, (height - seat) * 0.6)
        shapes.append(box((0, -y, height - panel[2] / 2), panel, cushion))
    return Piece(shapes, (width, depth))


def table_with_chairs(kit: Kit) -> Piece:
    """Build a table with chairs drawn up to it."""
    piece, seat = table(kit), chair(kit)
    shapes, (width, depth) = piece.shapes, piece.size
    for side, yaw in ((-1, 0.0), (1, np.pi)):
        for k in range(kit.count(0, max(1, int(width / 0.65)))):
            x = -width / 2 + 0.4 + 0.62 * k
            spot = np.array([x, side * (depth / 2 + kit.between(0.0, 0.22)), 0.0])
            shapes += [s.moved(yaw + kit.between(-0.25, 0.25), spot) for s in seat.shapes]
    return Piece(shapes, (width + 0.1, depth + 1.0))


def shelf(kit: Kit) -> Piece:
    """Build an open book case with books and small things on its boards."""
    width, depth, height, wood = kit.draw((0.6, 1.4), (0.26, 0.4), (0.8, 2.1), "wood wood plain")
    board = 0.022
    inner, left = width - 2 * board, (-(width - board) / 2, 0, height / 2)
    shapes = mirrored(box(left, (board, depth, height), wood))
    if kit.chance(0.7):
        shapes.append(box((0, -depth / 2 + 0.006, height / 2), (inner, 0.01, height), wood))
    rows = max(2, round(height / kit.between(0.33, 0.45)))
    gap = (height - 0.06 - board) / rows - board
    for row in range(rows + 1):
        z = board / 2 + 0.06 + (height - 0.06 - board) * row / rows
        shapes.append(box((0, 0, z), (inner, depth - 0.01, board), wood))
        if row == rows or kit.chance(0.15):
            continue
        if kit.chance(0.65):
            length, tall = inner * kit.between(0.4, 0.98), gap * kit.between(0.6, 0.92)
            x = kit.between(-1, 1) * (inner - length) / 2
            spot = (x, kit.between(-0.05, 0.0), z + board / 2 + tall / 2)
            faces = front(kit.pick("books"), kit.pick("plain"))
            shapes.append(box(spot, (length, depth * 0.7, tall), faces, fit=True))
        else:
            things = small_things(kit, inner * 0.8, depth * 0.5, z + board / 2, 3)
            shapes += [s for s in things if corners([s])[..., 2].max() < z + gap]
    shapes += small_things(kit, inner * 0.8, depth * 0.8, height, 2)
    return Piece(shapes, (width, depth))


def cabinet(kit: Kit) -> Piece:
    """Build a chest, sideboard or wardrobe with drawer fronts, perhaps below a television."""
    tall = kit.chance(0.3)
    heights = (1.6, 2.1) if tall else (0.5, 1.1)
    width, depth, height = kit.draw((0.5, 1.5), (0.38, 0.6), heights)
    side, doors = kit.draw("wood plain white", "drawers")
    middle, top = 0.06 + height / 2, height + 0.09
    doors_at, doors_size = (0, depth / 2 + 0.01, middle), (width - 0.02, 0.02, height - 0.02)
    plate = (width + 0.03, depth + 0.03, 0.03)
    shapes = [
        box((0, -0.02, 0.03), (width - 0.04, depth - 0.06, 0.06), side),
        box((0, 0, middle), (width, depth, height), side),
        box(doors_at, doors_size, front(doors, side), fit=True),
        box((0, 0, height + 0.075), plate, kit.pick("wood", "plain")),
    ]
    if not tall and kit.chance(0.35):
        display, wide = kit.pick("screen"), min(width, 1.1)
        high = wide * 0.58
        shapes += [
            box((0, 0, top + 0.01), (0.35, 0.2, 0.02), kit.pick("metal")),
            box((0, -0.02, top + 0.05), (0.08, 0.03, 0.1), kit.pick("metal")),
            box((0, 0, top + 0.08 + high / 2), (wide, 0.05, high), display),
        ]
    else:
        shapes += small_things(kit, width * 0.8, depth * 0.7, top, 4)
    return Piece(shapes, (width + 0.03, depth + 0.06))


def crates(kit: Kit) -> Piece:
    """Build one to three boxes stacked a little askew."""
    shapes, z, side = [], 0.0, kit.between(0.35, 0.7)
    for _ in range(kit.count(1, 3)):
        sides = (side, side * kit.between(0.6, 1), kit.between(0.18, 0.45))
        material, yaw = kit.draw("wood plain fabric", (-0.4, 0.4))
        shapes.append(box((0, 0, z + sides[2] / 2), sides, material, yaw=yaw))
        z, side = z + sides[2], side * kit.between(0.65, 0.95)
    return Piece(shapes, (0.8, 0.8))


def cylinders(kit: Kit) -> Piece:
    """Build a bin, stool, barrel or rolled carpet."""
    radius, height, material = kit.draw((0.13, 0.28), (0.3, 0.85), "plain metal wood fabric")
    if kit.chance(0.3):
        # Lying on its side: the axis is tilted down onto the floor.
        base, length = (0.0, height / 2 + 0.2, radius), height + 0.4
        roll = frustum(base, (radius, radius), length, material, pitch=np.pi / 2)
        return Piece([roll], (2 * radius, length))
    shapes = [frustum((0, 0, 0), (radius * kit.between(0.7, 1.0), radius), height, material)]
    if kit.chance(0.4):
        lid = (radius * 1.08, radius * 1.02)
        shapes.append(frustum((0, 0, height), lid, 0.04, kit.pick("plain", "metal")))
    return Piece(shapes, (2 * radius, 2 * radius))


def balls(kit: Kit) -> Piece:
    """Build one to three balls lying on the floor."""
    shapes = []
    for k in range(kit.count(1, 3)):
        radius = kit.between(0.09, 0.22) if k else kit.between(0.12, 0.36)
        spot = (0.45 * (k - 1), kit.between(-0.15, 0.15), radius)
        shapes.append(ellipsoid(spot, (radius,) * 3, kit.pick("plain", "fabric")))
    return Piece(shapes, (1.2, 0.7))


def sofa(kit: Kit) -> Piece:
    """Build an arm chair or sofa with cushions."""
    width, depth, arm = kit.draw((0.85, 2.2), (0.8, 0.95), (0.12, 0.2))
    cloth, other, back = kit.draw("fabric", "fabric", (0.75, 1.0))
    inner = width - 2 * arm
    shapes = [
        box((0, 0, 0.2), (inner, depth, 0.28), cloth),
        box((0, -depth / 2 + 0.1, back / 2 + 0.03), (width, 0.2, back - 0.06), cloth),
        *mirrored(box((-(width - arm) / 2, 0.1, 0.33), (arm, depth - 0.2, 0.54), cloth)),
    ]
    seats = max(1, round(inner / 0.7))
    seat = inner / seats
    for k in range(seats):
        x = -width / 2 + arm + seat * (k + 0.5)
        shapes.append(box((x, 0.1, 0.4), (seat - 0.02, depth - 0.22, 0.12), cloth))
        if kit.chance(0.5):
            spot = (x, -depth / 2 + 0.3, 0.64)
            shapes.append(ellipsoid(spot, (0.22, 0.09, 0.2), other, pitch=0.3))
    return Piece(shapes, (width, depth))


def bed(kit: Kit) -> Piece:
    """Build a bed with head board, mattress, blanket and pillows."""
    width, length, wood = kit.draw((0.95, 1.7), (1.95, 2.1), "wood")
    sheet, blanket, head = kit.draw("white fabric", "fabric", (0.8, 1.15))
    shapes = [
        box((0, 0, 0.17), (width, length, 0.2), wood),
        box((0, 0, 0.37), (width - 0.04, length - 0.06, 0.2), sheet),
        box((0, 0.3, 0.46), (width, length - 0.62, 0.05), blanket),
        box((0, -length / 2 - 0.02, head / 2), (width + 0.06, 0.05, head), wood),
    ]
    for x in SIDES if width > 1.3 else (0,):
        shapes.append(ellipsoid((x * width / 4, -length / 2 + 0.3, 0.52), (0.3, 0.2, 0.1), sheet))
    return Piece(shapes, (width + 0.06, length + 0.08))


def floor_lamp(kit: Kit) -> Piece:
    """Build a standing lamp; its shade glows and does not hide its own light."""
    height, shade, pole = kit.draw((1.3, 1.75), (0.25, 0.35), "metal")
    radii, top = (kit.between(0.17, 0.26), kit.between(0.1, 0.17)), (0, 0, height - shade)
    shapes = [
        frustum((0, 0, 0), (0.15, 0.13), 0.03, pole),
        frustum((0, 0, 0.03), (0.014, 0.014), height - shade - 0.03, pole),
        frustum(top, radii, shade, kit.pick("glow"), casts_shadow=False),
    ]
    return Piece(shapes, (0.5, 0.5), [np.array([0, 0, height - shade / 2])])


def plant(kit: Kit) -> Piece:
    """Build a pot with a stem and a crown of leaf clusters."""
    pot, stem, green = kit.draw((0.2, 0.4), (0.2, 0.7), "leaf")
    shapes = [
        frustum((0, 0, 0), (0.11, 0.17), pot, kit.pick("plain")),
        frustum((0, 0, pot), (0.02, 0.015), stem, kit.pick("wood")),
    ]
    for _ in range(kit.count(6, 12)):
        yaw, up, out = kit.draw((0, 2 * np.pi), (0.0, 0.4), (0.05, 0.24))
        spot = (out * np.cos(yaw), out * np.sin(yaw), pot + stem + up)
        radii = kit.draw((0.08, 0.18), (0.03, 0.08), (0.05, 0.14))
        shapes.append(ellipsoid(spot, radii, green, yaw=yaw, pitch=kit.between(-0.8, 0.8)))
    return Piece(shapes, (0.75, 0.75))


def counter(kit: Kit) -> Piece:
    """Build a kitchen run: base units, worktop and wall units above."""
    width, doors, top, side = kit.draw((1.4, 2.6), "drawers", "plain wood", "white wood")
    depth, faces = 0.6, front(doors, side)
    shapes = [
        box((0, -0.03, 0.04), (width, depth - 0.1, 0.08), side),
        box((0, -0.01, 0.46), (width, depth - 0.02, 0.76), faces, fit=True),
        box((0, 0.01, 0.86), (width + 0.02, depth + 0.02, 0.04), top),
        *small_things(kit, width * 0.85, 0.4, 0.88, 6),
    ]
    if kit.chance(0.6):
        long, tall = width * kit.between(0.5, 1.0), kit.between(0.5, 0.7)
        middle = ((width - long) / 2, -depth / 2 + 0.17, 1.45 + tall / 2)
        shapes.append(box(middle, (long, 0.34, tall), faces, fit=True))
    return Piece(shapes, (width + 0.02, depth + 0.04))


def slope(kit: Kit) -> Piece:
    """Build something sloped: a leaning board or ladder, a ramp or a drawing desk."""
    kind, material = kit.count(0, 3), kit.pick("wood", "plain", "tiles")
    if kind <= 1:
        return _leaning(kit, material, ladder=kind == 1)
    if kind == 2:
        width, long, tilt = kit.draw((0.7, 1.3), (0.9, 1.5), (0.2, 0.5))
        depth, rise = long * np.cos(tilt), long * np.sin(tilt)
        ramp = box((0, 0, rise / 2), (width, long, 0.03), material, pitch=-tilt)
        prop = (0, -depth / 2 + 0.05, rise / 2 - 0.02)
        support = box(prop, (width * 0.9, 0.04, rise - 0.06), kit.pick("wood"))
        return Piece([ramp, support], (width, depth))
    width, long, tilt, height = kit.draw((0.8, 1.3), (0.6, 0.8), (0.25, 0.6), (0.75, 0.95))
    shapes = [box((0, 0, height), (width, long, 0.03), material, pitch=-tilt)]
    for x in SIDES:
        spot, size = (x * width * 0.42, 0, height / 2 - 0.01), (0.05, 0.3, height - 0.1)
        shapes.append(box(spot, size, kit.pick("wood", "metal")))
    return Piece(shapes, (width, long))


def _leaning(kit: Kit, material: int, *, ladder: bool) -> Piece:
    """Build a board or ladder whose foot stands in front of the wall it leans on."""
    if not ladder:
        width, long, lean = kit.draw((0.5, 1.2), (1.0, 2.0), (0.15, 0.4))
        middle = (0, 0, long / 2 * np.cos(lean) + 0.02 * np.sin(lean))
        board = box(middle, (width, 0.03, long), material, pitch=lean)
        return Piece([board], (width, long * np.sin(lean) + 0.05))
    width, long, lean = 0.42, kit.between(1.6, 2.2), kit.between(0.2, 0.35)
    foot = (-width / 2, 0, long / 2 * np.cos(lean) + 0.03 * np.sin(lean))
    shapes = mirrored(box(foot, (0.035, 0.06, long), material, pitch=lean))
    for rung in range(1, int(long / 0.28)):
        along = rung * 0.28 - long / 2
        spot = (0, -np.sin(lean) * along, np.cos(lean) * (along + long / 2))
        shapes.append(box(spot, (width, 0.025, 0.03), material, pitch=lean))
    return Piece(shapes, (width + 0.04, long * np.sin(lean) + 0.08))
