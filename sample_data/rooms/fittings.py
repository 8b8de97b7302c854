"""What hangs on walls: doors, windows, pictures and boards.

The frame of a piece has its origin at the foot of the wall, x to the right, y into the room,
z up, metres.
"""

import numpy as np

from sample_data.rooms.furniture import SIDES, Piece, front, small_things
from sample_data.scene import Kit
from sample_data.shapes import box, frustum, mirrored


def door(kit: Kit) -> Piece:
    """Build a closed door with its frame."""
    width, height, trim = kit.draw((0.78, 0.95), (1.98, 2.1), "white wood")
    faces = front(kit.pick("door"), trim)
    jamb = box((-(width / 2 + 0.045), 0.025, height / 2), (0.09, 0.05, height), trim)
    leaf = box((0, 0.015, height / 2), (width, 0.03, height), faces, fit=True)
    lintel = box((0, 0.025, height + 0.045), (width + 0.18, 0.05, 0.09), trim)
    return Piece([leaf, *mirrored(jamb), lintel], (width + 0.18, 0.05))


def window(kit: Kit) -> Piece:
    """Build a bright window with frame, sill and sometimes curtains."""
    width, height, sill, trim = kit.draw((0.8, 1.8), (0.9, 1.3), (0.75, 1.0), "white wood")
    middle, top = sill + height / 2, sill + height
    faces = front(kit.pick("window"), trim)
    bars = [-0.5, 0.5] + ([0.0] if kit.chance(0.7) else [])
    upright, cross = (0.06, 0.04, height), (width + 0.06, 0.05, 0.06)
    shapes = [
        box((0, 0.01, middle), (width, 0.02, height), faces, fit=True),
        *(box((x * width, 0.02, middle), upright, trim) for x in bars),
        *(box((0, 0.025, middle + z * height), cross, trim) for z in bars),
        box((0, 0.07, sill - 0.04), (width + 0.16, 0.14, 0.03), trim),
    ]
    if kit.chance(0.5):
        cloth, drop = kit.pick("curtain"), kit.between(1.3, top)
        for side in SIDES:
            for fold in range(kit.count(3, 6)):
                base = (side * (width / 2 + 0.16 - 0.09 * fold), 0.13, top + 0.12 - drop)
                shapes.append(frustum(base, (0.05, 0.04), drop, cloth))
        rod = (width + 0.6, 0.025, 0.025)
        shapes.append(box((0, 0.13, top + 0.13), rod, kit.pick("metal", "wood")))
    return Piece(shapes, (width + 0.6, 0.2), [np.array([0, 0.35, middle + height / 4])])


def pictures(kit: Kit) -> Piece:
    """Build one to three framed pictures or posters in a row."""
    shapes, count = [], kit.count(1, 3)
    widths = [kit.between(0.3, 1.0 if count == 1 else 0.6) for _ in range(count)]
    total = sum(widths) + 0.15 * (count - 1)
    x = -total / 2
    for width in widths:
        height, z = width * kit.between(0.7, 1.4), kit.between(1.4, 1.7)
        frame = kit.pick("wood", "metal", "plain")
        size = (width, kit.between(0.008, 0.03), min(height, 1.1))
        faces = front(kit.pick("picture"), frame)
        shapes.append(box((x + width / 2, size[1] / 2, z), size, faces, fit=True))
        x += width + 0.15
    return Piece(shapes, (total, 0.05))


def wall_board(kit: Kit) -> Piece:
    """Build a shelf board on the wall with small things on it, or a wall clock."""
    if kit.chance(0.25):
        white, pitch = kit.pick("white"), -np.pi / 2
        return Piece([frustum((0, 0, 1.8), (0.16, 0.16), 0.04, white, pitch=pitch)], (0.35, 0.05))
    width, z = kit.draw((0.6, 1.3), (1.25, 1.6))
    board = box((0, 0.11, z), (width, 0.22, 0.025), kit.pick("wood", "white"))
    things = small_things(kit, width * 0.9, 0.18, z + 0.0125, 5)
    return Piece([board, *(s.moved(0.0, np.array([0, 0.11, 0])) for s in things)], (width, 0.22))
