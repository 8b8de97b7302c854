"""Cars, vans and lorries, each a list of boxes and frustums.

A builder works in the frame of its vehicle: origin on the road below the middle, x forward,
y to the left, z up, metres.
"""

from __future__ import annotations

import numpy as np

from sample_data.rooms.furniture import Kit
from sample_data.rooms.shapes import Shape, box, frustum


def _wheels(kit: Kit, places: list[float], track: float, radius: float) -> list[Shape]:
    """Two wheels at each x of `places`, `track` [m] apart between their outer sides."""
    tyre, rim = kit.pick("rubber"), kit.pick("metal")
    shapes = []
    for x in places:
        for side in (-1, 1):
            # A frustum pitched by a right angle lies along -y.
            outer = side * track / 2
            start = outer if side > 0 else outer + 0.22
            foot = (x, start, radius)
            shapes.append(frustum(foot, (radius, radius), 0.22, tyre, "car", pitch=np.pi / 2))
            foot = (x, outer + 0.01 if side > 0 else outer + 0.05, radius)
            size = (0.62 * radius,) * 2
            shapes.append(frustum(foot, size, 0.06, rim, "car", pitch=np.pi / 2))
    return shapes


def _pane(
    foot: tuple[float, float], top: tuple[float, float], width: float, thick: float, glass: int
) -> Shape:
    """A sloped screen from `foot` (x, z) up to `top` (x, z); its body lies behind the outside.

    The outside is the side away from the cabin: forward where the screen leans back.
    """
    rise, lean = top[1] - foot[1], top[0] - foot[0]
    long = float(np.hypot(rise, lean))
    angle = float(np.arctan2(lean, rise))
    # Direction of the local x axis, which a roll by `angle` turns to (cos, 0, -sin).
    outward = np.array([np.cos(angle), 0, -np.sin(angle)]) * (1 if lean < 0 else -1)
    middle = np.array([(foot[0] + top[0]) / 2, 0, (foot[1] + top[1]) / 2]) - outward * thick / 2
    return box(tuple(middle), (thick, width, long), glass, "car", roll=angle)


def _ends(kit: Kit, length: float, width: float, height: float, forward: float) -> list[Shape]:
    """Lamps, plates and grille at both ends of a body; lamps sit at `height`."""
    shapes = []
    plate = kit.pick("white_lamp")
    for end, lamp in ((1, plate), (-1, kit.pick("red_lamp"))):
        x = end * length / 2 + (forward if end > 0 else 0)
        for side in (-1, 1):
            spot = (x - end * 0.03, side * (width / 2 - 0.22), height)
            shapes.append(box(spot, (0.1, 0.36, 0.15), lamp, "car"))
        shapes.append(box((x, 0, height - 0.14), (0.04, 0.5, 0.11), plate, "car"))
        spot = (x - end * 0.02, 0, 0.34)
        shapes.append(box(spot, (0.1, width - 0.3, 0.16), kit.pick("rubber"), "car"))
    return shapes


def car(kit: Kit) -> list[Shape]:
    """A passenger car: hatchback, estate or saloon."""
    kind = kit.count(0, 2)
    length, width = kit.between(3.9, 4.8), kit.between(1.68, 1.84)
    height, waist = kit.between(1.4, 1.55), kit.between(0.84, 0.95)
    paint, glass = kit.pick("car_paint"), kit.pick("glass")
    front = length / 2
    cowl = front - kit.between(0.95, 1.15)
    rear = -front + (kit.between(0.6, 0.8) if kind == 2 else 0.1)
    roof_front = cowl - kit.between(0.65, 0.85)
    roof_rear = rear + (0.55 if kind == 2 else 0.3 if kind == 0 else 0.15)
    top = height - 0.03
    long, middle = roof_front - roof_rear, (roof_front + roof_rear) / 2
    side = (paint, paint, glass, glass, paint, paint)
    cabin = width - 0.22
    shapes = [
        box((0, 0, 0.43), (length, width - 0.04, 0.4), paint, "car"),
        box((-0.03, 0, (0.55 + waist) / 2), (length - 0.16, width, waist - 0.55), paint, "car"),
        box((middle, 0, (waist + top) / 2), (long, cabin, top - waist), side, "car"),
        box((middle, 0, top), (long + 0.12, cabin - 0.04, 0.06), paint, "car"),
        _pane((cowl, waist), (roof_front, top), cabin - 0.02, 0.3, glass),
        _pane((rear, waist), (roof_rear, top), cabin - 0.02, 0.2, glass),
        box((middle - 0.1, 0, (waist + top) / 2), (0.09, cabin + 0.01, top - waist), paint, "car"),
        box((0, 0, 0.27), (length - 0.5, width - 0.1, 0.16), kit.pick("rubber"), "car"),
    ]
    for y in (-1, 1):
        spot = (cowl - 0.35, y * (width / 2 + 0.06), waist + 0.04)
        shapes.append(box(spot, (0.1, 0.16, 0.12), paint, "car"))
    wheels = [front - 0.8, -front + 0.75]
    shapes += _wheels(kit, wheels, width + 0.02, kit.between(0.29, 0.33))
    return shapes + _ends(kit, length, width, waist - 0.17, 0.0)


def van(kit: Kit) -> list[Shape]:
    """A delivery van or small bus."""
    length, width = kit.between(4.8, 6.2), kit.between(1.9, 2.05)
    height, waist = kit.between(1.95, 2.6), 1.15
    paint, glass = kit.pick("car_paint"), kit.pick("glass")
    front = length / 2
    cowl, roof_front = front - 0.55, front - kit.between(1.1, 1.4)
    back = roof_front + front
    shapes = [
        box((0, 0, 0.7), (length, width, 0.9), paint, "car"),
        box((roof_front - back / 2, 0, height / 2 + 0.35), (back, width, height - 0.7), paint,
            "car"),
        _pane((cowl, waist), (roof_front, height - 0.05), width - 0.1, 0.5, glass),
        box((roof_front - 0.5, 0, 1.5), (0.8, width + 0.02, 0.6), glass, "car"),
        box((-front, 0, height - 0.6), (0.03, width - 0.4, 0.5), glass, "car"),
    ]  # fmt: skip
    if kit.chance(0.4):
        size = (back - 1.5, width + 0.02, 0.5)
        shapes.append(box((-front + back / 2 - 0.3, 0, 1.6), size, glass, "car"))
    shapes += _wheels(kit, [front - 0.9, -front + 1.0], width + 0.02, 0.34)
    return shapes + _ends(kit, length, width, 0.85, 0.0)


def lorry(kit: Kit) -> list[Shape]:
    """A lorry with a box body."""
    length, width, height = kit.between(6.5, 9.0), 2.4, kit.between(2.9, 3.6)
    paint, body = kit.pick("car_paint"), kit.pick("car_paint", "white_lamp", "metal")
    front = length / 2
    load = length - 2.1
    shapes = [
        box((front - 0.95, 0, 1.5), (1.9, width - 0.1, 1.9), paint, "car"),
        box((front, 0, 1.95), (0.03, width - 0.3, 0.7), kit.pick("glass"), "car"),
        box((front - 0.7, 0, 1.95), (0.7, width - 0.08, 0.6), kit.pick("glass"), "car"),
        box((-front + load / 2, 0, (height + 1.0) / 2), (load, width, height - 1.0), body, "car"),
        box((0, 0, 0.8), (length - 0.4, 0.9, 0.4), kit.pick("rubber"), "car"),
    ]
    shapes += _wheels(kit, [front - 1.1, -front + 1.4], width - 0.05, 0.46)
    return shapes + _ends(kit, length, width - 0.1, 0.9, 0.0)


def vehicle(kit: Kit) -> list[Shape]:
    """Any vehicle; most are cars."""
    draw = kit.between(0, 1)
    return car(kit) if draw < 0.84 else van(kit) if draw < 0.95 else lorry(kit)


def length_of(shapes: list[Shape]) -> float:
    """Length of a vehicle along its x axis [m]."""
    x = np.concatenate([shape.corners()[:, 0] for shape in shapes])
    return float(x.max() - x.min())
