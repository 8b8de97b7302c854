"""Furniture of the sample rooms, each piece a list of boxes, ellipsoids and frustums.

A builder works in the frame of its piece: origin on the floor in the middle of the footprint,
x to the right, y to the front (the back is at -depth / 2, where a wall may stand), z up, metres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sample_data.rooms.shapes import Shape, box, ellipsoid, frustum


@dataclass
class Piece:
    """A piece of furniture in its own frame.

    Args:
        shapes: its solids.
        size: (width, depth) of the footprint [m].
        lamps: positions (3,) of light sources inside it [m].
    """

    shapes: list[Shape]
    size: tuple[float, float]
    lamps: list[np.ndarray] = field(default_factory=list)


class Kit:
    """Random numbers and materials for the builders of one scene.

    Args:
        rng: stream of the scene.
        roles: material indices by role, e.g. {"wood": [4, 5]}.
    """

    def __init__(self, rng: np.random.Generator, roles: dict[str, list[int]]) -> None:
        self.rng = rng
        self.roles = roles

    def pick(self, *roles: str) -> int:
        """A random material of one of the roles."""
        return int(self.rng.choice([m for role in roles for m in self.roles[role]]))

    def between(self, low: float, high: float) -> float:
        """A uniform random length or angle."""
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return bool(self.rng.random() < probability)

    def count(self, low: int, high: int) -> int:
        """A random whole number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))


def front(face: int, rest: int) -> tuple[int, ...]:
    """Materials of a box whose front (+y) differs from its other faces."""
    return (rest, rest, rest, face, rest, rest)


def small_things(kit: Kit, width: float, depth: float, height: float, most: int) -> list[Shape]:
    """Up to `most` small objects standing on a surface of the given size and height [m]."""
    shapes: list[Shape] = []
    count = kit.count(0, most)
    for slot in range(count):
        # One slot each along the width keeps them from growing into each other.
        room = width / count
        x = -width / 2 + room * (slot + 0.5)
        y = kit.between(-0.25, 0.25) * depth
        reach = min(room, depth * 0.5) * 0.45
        shapes += _small_thing(kit, (x, y, height), reach)
    return shapes


def _small_thing(kit: Kit, foot: tuple[float, float, float], reach: float) -> list[Shape]:
    """A box, cup, vase, ball, bowl or stack of books with a radius of at most `reach` [m]."""
    x, y, z = foot
    kind = kit.count(0, 5)
    material = kit.pick("plain", "plain", "wood", "metal")
    size = min(reach, kit.between(0.05, 0.16))
    if kind == 0:
        tall = kit.between(0.06, 0.3)
        side = 1.4 * size
        sides = (side, side * kit.between(0.5, 1), tall)
        return [box((x, y, z + tall / 2), sides, material, "box", yaw=kit.between(0, 3))]
    if kind == 1:
        radii = (0.6 * size, size * kit.between(0.4, 0.8))
        return [frustum((x, y, z), radii, kit.between(0.08, 0.3), material, "cylinder")]
    if kind == 2:
        return [ellipsoid((x, y, z + 0.7 * size), (0.7 * size,) * 3, material, "sphere")]
    if kind == 3:
        low = (x, y, z + 0.8 * size)
        neck = frustum((x, y, z + 1.2 * size), (0.3 * size, 0.4 * size), size, material, "vase")
        return [ellipsoid(low, (0.6 * size, 0.6 * size, 0.8 * size), material, "vase"), neck]
    if kind == 4:
        return [frustum((x, y, z), (0.4 * size, size), 0.5 * size, material, "bowl")]
    stack, top = [], z
    for _ in range(kit.count(1, 4)):
        thick = kit.between(0.02, 0.05)
        sides = (1.5 * size, 1.1 * size, thick)
        cover = kit.pick("plain", "fabric")
        yaw = kit.between(-0.4, 0.4)
        stack.append(box((x, y, top + thick / 2), sides, cover, "books", yaw=yaw))
        top += thick
    return stack


def table(kit: Kit) -> Piece:
    """Dining, side or coffee table with four legs or a pedestal, and things on it."""
    low = kit.chance(0.3)
    width, depth = kit.between(0.7, 1.8), kit.between(0.5, 0.95)
    height, thick = kit.between(0.38, 0.5) if low else kit.between(0.68, 0.78), 0.035
    wood, leg_material = kit.pick("wood", "wood", "plain"), kit.pick("wood", "metal")
    top = height - thick
    if kit.chance(0.2):
        radius = depth / 2 + 0.1
        shapes = [
            frustum((0, 0, top), (radius, radius), thick, wood, "table"),
            frustum((0, 0, 0.03), (0.06, 0.05), top - 0.03, leg_material, "table"),
            frustum((0, 0, 0), (0.3, 0.25), 0.03, leg_material, "table"),
        ]
        width = depth = 2 * radius
    else:
        shapes = [box((0, 0, height - thick / 2), (width, depth, thick), wood, "table")]
        leg, slim = kit.between(0.04, 0.08), kit.chance(0.3)
        for x in (-1, 1):
            for y in (-1, 1):
                foot = (x * (width / 2 - leg), y * (depth / 2 - leg), 0.0)
                if slim:
                    radii = (leg / 3, leg / 2)
                    shapes.append(frustum(foot, radii, top, leg_material, "table"))
                else:
                    middle = (foot[0], foot[1], top / 2)
                    shapes.append(box(middle, (leg, leg, top), leg_material, "table"))
    shapes += small_things(kit, width * 0.7, depth * 0.7, height, 5)
    return Piece(shapes, (width, depth))


def chair(kit: Kit) -> Piece:
    """A chair with four legs and a back of slats or one panel."""
    width, depth, seat = kit.between(0.4, 0.5), kit.between(0.4, 0.5), kit.between(0.42, 0.48)
    height, leg = kit.between(0.82, 1.05), kit.between(0.03, 0.045)
    frame, cushion = kit.pick("wood", "metal", "plain"), kit.pick("fabric", "wood")
    shapes = [box((0, 0, seat - 0.025), (width, depth, 0.05), cushion, "chair")]
    x, y = width / 2 - leg / 2, depth / 2 - leg / 2
    for side in (-x, x):
        shapes.append(box((side, y, seat / 2 - 0.025), (leg, leg, seat - 0.05), frame, "chair"))
        shapes.append(box((side, -y, height / 2), (leg, leg, height), frame, "chair"))
    if kit.chance(0.5):
        slats = kit.count(2, 4)
        for k in range(slats):
            z = seat + (height - seat - 0.04) * (k + 1) / slats
            size = (width - 2 * leg, 0.02, 0.05)
            shapes.append(box((0, -y, z), size, frame, "chair"))
    else:
        panel = (width - 2 * leg, 0.03, (height - seat) * 0.6)
        shapes.append(box((0, -y, height - panel[2] / 2), panel, cushion, "chair"))
    return Piece(shapes, (width, depth))


def shelf(kit: Kit) -> Piece:
    """An open book case with books and small things on its boards."""
    width, depth, height = kit.between(0.6, 1.4), kit.between(0.26, 0.4), kit.between(0.8, 2.1)
    board, wood = 0.022, kit.pick("wood", "wood", "plain")
    shapes = []
    for side in (-1, 1):
        middle = (side * (width - board) / 2, 0, height / 2)
        shapes.append(box(middle, (board, depth, height), wood, "shelf"))
    inner = width - 2 * board
    if kit.chance(0.7):
        back = (0, -depth / 2 + 0.006, height / 2)
        shapes.append(box(back, (inner, 0.01, height), wood, "shelf"))
    rows = max(2, round(height / kit.between(0.33, 0.45)))
    for row in range(rows + 1):
        z = board / 2 + 0.06 + (height - 0.06 - board) * row / rows
        shapes.append(box((0, 0, z), (inner, depth - 0.01, board), wood, "shelf"))
        gap = (height - 0.06 - board) / rows - board
        if row == rows or kit.chance(0.15):
            continue
        if kit.chance(0.65):
            length, tall = inner * kit.between(0.4, 0.98), gap * kit.between(0.6, 0.92)
            x = kit.between(-1, 1) * (inner - length) / 2
            y, z = kit.between(-0.05, 0.0), z + board / 2 + tall / 2
            faces = front(kit.pick("books"), kit.pick("plain"))
            size = (length, depth * 0.7, tall)
            shapes.append(box((x, y, z), size, faces, "books", fit=True))
        else:
            things = small_things(kit, inner * 0.8, depth * 0.5, z + board / 2, 3)
            shapes += [s for s in things if s.corners()[:, 2].max() < z + gap]
    shapes += small_things(kit, inner * 0.8, depth * 0.8, height, 2)
    return Piece(shapes, (width, depth))


def cabinet(kit: Kit) -> Piece:
    """A chest, sideboard or wardrobe with drawer fronts."""
    tall = kit.chance(0.3)
    width, depth = kit.between(0.5, 1.5), kit.between(0.38, 0.6)
    height = kit.between(1.6, 2.1) if tall else kit.between(0.5, 1.1)
    side, doors = kit.pick("wood", "plain", "white"), kit.pick("drawers")
    shapes = [
        box((0, -0.02, 0.03), (width - 0.04, depth - 0.06, 0.06), side, "cabinet"),
        box((0, 0, 0.06 + height / 2), (width, depth, height), side, "cabinet"),
        box(
            (0, depth / 2 + 0.01, 0.06 + height / 2),
            (width - 0.02, 0.02, height - 0.02),
            front(doors, side),
            "cabinet",
            fit=True,
        ),
    ]
    plate = (width + 0.03, depth + 0.03, 0.03)
    shapes.append(box((0, 0, height + 0.075), plate, kit.pick("wood", "plain"), "cabinet"))
    if not tall and kit.chance(0.35):
        shapes += _television(kit, min(width, 1.1), height + 0.09)
    else:
        shapes += small_things(kit, width * 0.8, depth * 0.7, height + 0.09, 4)
    return Piece(shapes, (width + 0.03, depth + 0.06))


def _television(kit: Kit, width: float, z: float) -> list[Shape]:
    display = kit.pick("screen")
    height = width * 0.58
    return [
        box((0, 0, z + 0.01), (0.35, 0.2, 0.02), kit.pick("metal"), "screen"),
        box((0, -0.02, z + 0.05), (0.08, 0.03, 0.1), kit.pick("metal"), "screen"),
        box((0, 0, z + 0.08 + height / 2), (width, 0.05, height), display, "screen"),
    ]


def crates(kit: Kit) -> Piece:
    """One to three boxes stacked a little askew."""
    shapes, z, side = [], 0.0, kit.between(0.35, 0.7)
    for _ in range(kit.count(1, 3)):
        sides = (side, side * kit.between(0.6, 1), kit.between(0.18, 0.45))
        material = kit.pick("wood", "plain", "fabric")
        yaw = kit.between(-0.4, 0.4)
        shapes.append(box((0, 0, z + sides[2] / 2), sides, material, "box", yaw=yaw))
        z, side = z + sides[2], side * kit.between(0.65, 0.95)
    return Piece(shapes, (0.8, 0.8))


def cylinders(kit: Kit) -> Piece:
    """A bin, stool, barrel or rolled carpet."""
    radius, height = kit.between(0.13, 0.28), kit.between(0.3, 0.85)
    material = kit.pick("plain", "metal", "wood", "fabric")
    if kit.chance(0.3):
        # Lying on its side: the axis is tilted down onto the floor.
        base = (0.0, height / 2 + 0.2, radius)
        length = height + 0.4
        shape = frustum(base, (radius, radius), length, material, "cylinder", pitch=np.pi / 2)
        return Piece([shape], (2 * radius, length))
    radii = (radius * kit.between(0.7, 1.0), radius)
    shapes = [frustum((0, 0, 0), radii, height, material, "cylinder")]
    if kit.chance(0.4):
        lid = (radius * 1.08, radius * 1.02)
        shapes.append(frustum((0, 0, height), lid, 0.04, kit.pick("plain", "metal"), "cylinder"))
    return Piece(shapes, (2 * radius, 2 * radius))


def balls(kit: Kit) -> Piece:
    """One to three balls lying on the floor."""
    shapes = []
    for k in range(kit.count(1, 3)):
        radius = kit.between(0.09, 0.22) if k else kit.between(0.12, 0.36)
        spot = (0.45 * (k - 1), kit.between(-0.15, 0.15), radius)
        material = kit.pick("plain", "fabric")
        shapes.append(ellipsoid(spot, (radius,) * 3, material, "sphere"))
    return Piece(shapes, (1.2, 0.7))


Builder = Callable[[Kit], Piece]
