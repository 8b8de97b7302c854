"""Larger furniture and what hangs on walls: sofas, beds, lamps, slopes, doors, windows, ...

The frame of a piece is that of `furniture`. A wall piece has its origin at the foot of the
wall and grows towards +y, into the room.
"""

from __future__ import annotations

import numpy as np

from sample_data.rooms.furniture import Kit, Piece, front, small_things
from sample_data.rooms.shapes import box, ellipsoid, frustum


def sofa(kit: Kit) -> Piece:
    """An arm chair or sofa with cushions."""
    width, depth, arm = kit.between(0.85, 2.2), kit.between(0.8, 0.95), kit.between(0.12, 0.2)
    cloth, other = kit.pick("fabric"), kit.pick("fabric")
    back = kit.between(0.75, 1.0)
    shapes = [
        box((0, 0, 0.2), (width - 2 * arm, depth, 0.28), cloth, "sofa"),
        box((0, -depth / 2 + 0.1, back / 2 + 0.03), (width, 0.2, back - 0.06), cloth, "sofa"),
    ]
    for side in (-1, 1):
        x = side * (width - arm) / 2
        shapes.append(box((x, 0.1, 0.33), (arm, depth - 0.2, 0.54), cloth, "sofa"))
    seats = max(1, round((width - 2 * arm) / 0.7))
    for k in range(seats):
        seat = (width - 2 * arm) / seats
        x = -width / 2 + arm + seat * (k + 0.5)
        size = (seat - 0.02, depth - 0.22, 0.12)
        shapes.append(box((x, 0.1, 0.4), size, cloth, "sofa"))
        if kit.chance(0.5):
            radii = (0.22, 0.09, 0.2)
            spot = (x, -depth / 2 + 0.3, 0.64)
            shapes.append(ellipsoid(spot, radii, other, "cushion", pitch=0.3))
    return Piece(shapes, (width, depth))


def bed(kit: Kit) -> Piece:
    """A bed with head board, mattress, blanket and pillows."""
    width, length = kit.between(0.95, 1.7), kit.between(1.95, 2.1)
    wood, sheet, blanket = kit.pick("wood"), kit.pick("white", "fabric"), kit.pick("fabric")
    head = kit.between(0.8, 1.15)
    shapes = [
        box((0, 0, 0.17), (width, length, 0.2), wood, "bed"),
        box((0, 0, 0.37), (width - 0.04, length - 0.06, 0.2), sheet, "bed"),
        box((0, 0.3, 0.46), (width, length - 0.62, 0.05), blanket, "bed"),
        box((0, -length / 2 - 0.02, head / 2), (width + 0.06, 0.05, head), wood, "bed"),
    ]
    for x in (-1, 1) if width > 1.3 else (0,):
        spot = (x * width / 4, -length / 2 + 0.3, 0.52)
        shapes.append(ellipsoid(spot, (0.3, 0.2, 0.1), sheet, "cushion"))
    return Piece(shapes, (width + 0.06, length + 0.08))


def floor_lamp(kit: Kit) -> Piece:
    """A standing lamp; its shade glows and does not hide its own light."""
    height, shade = kit.between(1.3, 1.75), kit.between(0.25, 0.35)
    pole = kit.pick("metal")
    radii = (kit.between(0.17, 0.26), kit.between(0.1, 0.17))
    top = (0, 0, height - shade)
    shapes = [
        frustum((0, 0, 0), (0.15, 0.13), 0.03, pole, "lamp"),
        frustum((0, 0, 0.03), (0.014, 0.014), height - shade - 0.03, pole, "lamp"),
        frustum(top, radii, shade, kit.pick("glow"), "lamp", casts_shadow=False),
    ]
    return Piece(shapes, (0.5, 0.5), [np.array([0, 0, height - shade / 2])])


def plant(kit: Kit) -> Piece:
    """A pot with a stem and a crown of leaf clusters."""
    pot, stem, green = kit.between(0.2, 0.4), kit.between(0.2, 0.7), kit.pick("leaf")
    shapes = [
        frustum((0, 0, 0), (0.11, 0.17), pot, kit.pick("plain"), "plant"),
        frustum((0, 0, pot), (0.02, 0.015), stem, kit.pick("wood"), "plant"),
    ]
    for _ in range(kit.count(6, 12)):
        around, up = kit.between(0, 2 * np.pi), kit.between(0.0, 0.4)
        out = kit.between(0.05, 0.24)
        spot = (out * np.cos(around), out * np.sin(around), pot + stem + up)
        radii = (kit.between(0.08, 0.18), kit.between(0.03, 0.08), kit.between(0.05, 0.14))
        yaw, pitch = around, kit.between(-0.8, 0.8)
        shapes.append(ellipsoid(spot, radii, green, "plant", yaw=yaw, pitch=pitch))
    return Piece(shapes, (0.75, 0.75))


def slope(kit: Kit) -> Piece:
    """Something sloped: a board or ladder leaning on the wall, a ramp or a drawing desk."""
    kind = kit.count(0, 3)
    material = kit.pick("wood", "plain", "tiles")
    if kind == 0:
        # A panel of length l leaning back by `lean`; its foot stands in front of the wall.
        width, long, lean = kit.between(0.5, 1.2), kit.between(1.0, 2.0), kit.between(0.15, 0.4)
        depth = long * np.sin(lean)
        middle = (0, 0, long / 2 * np.cos(lean) + 0.02 * np.sin(lean))
        panel = box(middle, (width, 0.03, long), material, "slope", pitch=lean)
        return Piece([panel], (width, depth + 0.05))
    if kind == 1:
        width, long, lean = 0.42, kit.between(1.6, 2.2), kit.between(0.2, 0.35)
        shapes = []
        for x in (-1, 1):
            middle = (x * width / 2, 0, long / 2 * np.cos(lean) + 0.03 * np.sin(lean))
            shapes.append(box(middle, (0.035, 0.06, long), material, "slope", pitch=lean))
        for rung in range(1, int(long / 0.28)):
            along = rung * 0.28 - long / 2
            y, z = -np.sin(lean) * along, np.cos(lean) * (along + long / 2)
            size = (width, 0.025, 0.03)
            shapes.append(box((0, y, z), size, material, "slope", pitch=lean))
        return Piece(shapes, (width + 0.04, long * np.sin(lean) + 0.08))
    if kind == 2:
        width, long, tilt = kit.between(0.7, 1.3), kit.between(0.9, 1.5), kit.between(0.2, 0.5)
        depth, rise = long * np.cos(tilt), long * np.sin(tilt)
        ramp = box((0, 0, rise / 2), (width, long, 0.03), material, "slope", pitch=-tilt)
        prop = (0, -depth / 2 + 0.05, rise / 2 - 0.02)
        support = box(prop, (width * 0.9, 0.04, rise - 0.06), kit.pick("wood"), "slope")
        return Piece([ramp, support], (width, depth))
    width, long, tilt = kit.between(0.8, 1.3), kit.between(0.6, 0.8), kit.between(0.25, 0.6)
    height = kit.between(0.75, 0.95)
    shapes = [box((0, 0, height), (width, long, 0.03), material, "slope", pitch=-tilt)]
    for x in (-1, 1):
        spot = (x * width * 0.42, 0, height / 2 - 0.01)
        shapes.append(box(spot, (0.05, 0.3, height - 0.1), kit.pick("wood", "metal"), "slope"))
    return Piece(shapes, (width, long))


def counter(kit: Kit) -> Piece:
    """A kitchen run: base units, worktop and wall units above."""
    width, depth = kit.between(1.4, 2.6), 0.6
    doors, top = kit.pick("drawers"), kit.pick("plain", "wood")
    side = kit.pick("white", "wood")
    shapes = [
        box((0, -0.03, 0.04), (width, depth - 0.1, 0.08), side, "counter"),
        box((0, -0.01, 0.46), (width, depth - 0.02, 0.76), front(doors, side), "counter", fit=True),
        box((0, 0.01, 0.86), (width + 0.02, depth + 0.02, 0.04), top, "counter"),
    ]
    shapes += small_things(kit, width * 0.85, 0.4, 0.88, 6)
    if kit.chance(0.6):
        long, tall = width * kit.between(0.5, 1.0), kit.between(0.5, 0.7)
        middle = ((width - long) / 2, -depth / 2 + 0.17, 1.45 + tall / 2)
        faces = front(doors, side)
        shapes.append(box(middle, (long, 0.34, tall), faces, "counter", fit=True))
    return Piece(shapes, (width + 0.02, depth + 0.04))


def door(kit: Kit) -> Piece:
    """A closed door with its frame."""
    width, height = kit.between(0.78, 0.95), kit.between(1.98, 2.1)
    trim = kit.pick("white", "wood")
    faces = front(kit.pick("door"), trim)
    shapes = [box((0, 0.015, height / 2), (width, 0.03, height), faces, "door", fit=True)]
    for x in (-1, 1):
        spot = (x * (width / 2 + 0.045), 0.025, height / 2)
        shapes.append(box(spot, (0.09, 0.05, height), trim, "door"))
    lintel = (0, 0.025, height + 0.045)
    shapes.append(box(lintel, (width + 0.18, 0.05, 0.09), trim, "door"))
    return Piece(shapes, (width + 0.18, 0.05))


def window(kit: Kit) -> Piece:
    """A bright window with frame, sill and sometimes curtains."""
    width, height, sill = kit.between(0.8, 1.8), kit.between(0.9, 1.3), kit.between(0.75, 1.0)
    trim = kit.pick("white", "wood")
    middle = sill + height / 2
    pane = (0, 0.01, middle)
    faces = front(kit.pick("window"), trim)
    shapes = [box(pane, (width, 0.02, height), faces, "window", fit=True)]
    bars = [-0.5, 0.5] + ([0.0] if kit.chance(0.7) else [])
    for x in bars:
        shapes.append(box((x * width, 0.02, middle), (0.06, 0.04, height), trim, "window"))
    for z in bars:
        size = (width + 0.06, 0.05, 0.06)
        shapes.append(box((0, 0.025, middle + z * height), size, trim, "window"))
    shapes.append(box((0, 0.07, sill - 0.04), (width + 0.16, 0.14, 0.03), trim, "window"))
    if kit.chance(0.5):
        cloth, drop = kit.pick("curtain"), kit.between(1.3, sill + height)
        for side in (-1, 1):
            for fold in range(kit.count(3, 6)):
                x = side * (width / 2 + 0.16 - 0.09 * fold)
                base = (x, 0.13, sill + height + 0.12 - drop)
                shapes.append(frustum(base, (0.05, 0.04), drop, cloth, "curtain"))
        rod = (0, 0.13, sill + height + 0.13)
        shapes.append(box(rod, (width + 0.6, 0.025, 0.025), kit.pick("metal", "wood"), "curtain"))
    return Piece(shapes, (width + 0.6, 0.2), [np.array([0, 0.35, middle + height / 4])])


def pictures(kit: Kit) -> Piece:
    """One to three framed pictures or posters in a row."""
    shapes, x, count = [], 0.0, kit.count(1, 3)
    sizes = [kit.between(0.3, 1.0 if count == 1 else 0.6) for _ in range(count)]
    x = -(sum(sizes) + 0.15 * (count - 1)) / 2
    for width in sizes:
        height, z = width * kit.between(0.7, 1.4), kit.between(1.4, 1.7)
        frame = kit.pick("wood", "metal", "plain")
        size = (width, kit.between(0.008, 0.03), min(height, 1.1))
        faces = front(kit.pick("picture"), frame)
        spot = (x + width / 2, size[1] / 2, z)
        shapes.append(box(spot, size, faces, "picture", fit=True))
        x += width + 0.15
    return Piece(shapes, (sum(sizes) + 0.15 * (count - 1), 0.05))


def wall_board(kit: Kit) -> Piece:
    """A shelf board on the wall with small things on it, or a wall clock."""
    if kit.chance(0.25):
        dial = frustum(
            (0, 0, 1.8), (0.16, 0.16), 0.04, kit.pick("white"), "clock", pitch=-np.pi / 2
        )
        return Piece([dial], (0.35, 0.05))
    width, z = kit.between(0.6, 1.3), kit.between(1.25, 1.6)
    shapes = [box((0, 0.11, z), (width, 0.22, 0.025), kit.pick("wood", "white"), "shelf")]
    for shape in small_things(kit, width * 0.9, 0.18, z + 0.0125, 5):
        shapes.append(shape.moved(0.0, np.array([0, 0.11, 0])))
    return Piece(shapes, (width, 0.22))
