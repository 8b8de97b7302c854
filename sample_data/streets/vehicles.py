"""Cars, vans and lorries, each a list of boxes and frustums.

A builder works in the frame of its vehicle: origin on the road below the middle, x forward,
y to the left, z up, metres.
"""

import numpy as np

from sample_data.scene import Kit
from sample_data.shapes import Shape, box, corners, frustum, mirrored


def vehicle(kit: Kit) -> list[Shape]:
    """Build any vehicle; most are cars."""
    draw = kit.between(0, 1)
    return car(kit) if draw < 0.84 else van(kit) if draw < 0.95 else lorry(kit)


def length_of(shapes: list[Shape]) -> float:
    """Return the length of a vehicle along its x axis [m]."""
    return float(np.ptp(corners(shapes)[..., 0]))


def car(kit: Kit) -> list[Shape]:
    """Build a passenger car: hatchback, estate or saloon."""
    kind = kit.count(0, 2)
    length, width, height, waist = kit.draw((3.9, 4.8), (1.68, 1.84), (1.4, 1.55), (0.84, 0.95))
    paint, glass = kit.draw("car_paint", "glass")
    front, top = length / 2, height - 0.03
    cowl = front - kit.between(0.95, 1.15)
    rear = -front + (kit.between(0.6, 0.8) if kind == 2 else 0.1)
    roof_front, roof_rear = cowl - kit.between(0.65, 0.85), rear + (0.3, 0.15, 0.55)[kind]
    long, middle = roof_front - roof_rear, (roof_front + roof_rear) / 2
    cabin, high, centre = width - 0.22, top - waist, (waist + top) / 2
    side = (paint, paint, glass, glass, paint, paint)
    mirror = (cowl - 0.35, -(width / 2 + 0.06), waist + 0.04)
    return [
        box((0, 0, 0.43), (length, width - 0.04, 0.4), paint),
        box((-0.03, 0, (0.55 + waist) / 2), (length - 0.16, width, waist - 0.55), paint),
        box((middle, 0, centre), (long, cabin, high), side),
        box((middle, 0, top), (long + 0.12, cabin - 0.04, 0.06), paint),
        _pane((cowl, waist), (roof_front, top), cabin - 0.02, 0.3, glass),
        _pane((rear, waist), (roof_rear, top), cabin - 0.02, 0.2, glass),
        box((middle - 0.1, 0, centre), (0.09, cabin + 0.01, high), paint),
        box((0, 0, 0.27), (length - 0.5, width - 0.1, 0.16), kit.pick("rubber")),
        *mirrored(box(mirror, (0.1, 0.16, 0.12), paint), axis=1),
        *_wheels(kit, [front - 0.8, -front + 0.75], width + 0.02, kit.between(0.29, 0.33)),
        *_ends(kit, length, width, waist - 0.17),
    ]


def van(kit: Kit) -> list[Shape]:
    """Build a delivery van or small bus."""
    length, width, height = kit.draw((4.8, 6.2), (1.9, 2.05), (1.95, 2.6))
    paint, glass = kit.draw("car_paint", "glass")
    front, waist = length / 2, 1.15
    cowl, roof_front = front - 0.55, front - kit.between(1.1, 1.4)
    back = roof_front + front
    body = (back, width, height - 0.7)
    shapes = [
        box((0, 0, 0.7), (length, width, 0.9), paint),
        box((roof_front - back / 2, 0, height / 2 + 0.35), body, paint),
        _pane((cowl, waist), (roof_front, height - 0.05), width - 0.1, 0.5, glass),
        box((roof_front - 0.5, 0, 1.5), (0.8, width + 0.02, 0.6), glass),
        box((-front, 0, height - 0.6), (0.03, width - 0.4, 0.5), glass),
    ]
    if kit.chance(0.4):
        windows = (back - 1.5, width + 0.02, 0.5)
        shapes.append(box((-front + back / 2 - 0.3, 0, 1.6), windows, glass))
    shapes += _wheels(kit, [front - 0.9, -front + 1.0], width + 0.02, 0.34)
    return shapes + _ends(kit, length, width, 0.85)


def lorry(kit: Kit) -> list[Shape]:
    """Build a lorry with a box body."""
    length, height = kit.draw((6.5, 9.0), (2.9, 3.6))
    paint, body = kit.draw("car_paint", "car_paint white_lamp metal")
    width, front, load = 2.4, length / 2, length - 2.1
    return [
        box((front - 0.95, 0, 1.5), (1.9, width - 0.1, 1.9), paint),
        box((front, 0, 1.95), (0.03, width - 0.3, 0.7), kit.pick("glass")),
        box((front - 0.7, 0, 1.95), (0.7, width - 0.08, 0.6), kit.pick("glass")),
        box((-front + load / 2, 0, (height + 1.0) / 2), (load, width, height - 1.0), body),
        box((0, 0, 0.8), (length - 0.4, 0.9, 0.4), kit.pick("rubber")),
        *_wheels(kit, [front - 1.1, -front + 1.4], width - 0.05, 0.46),
        *_ends(kit, length, width - 0.1, 0.9),
    ]


def _wheels(kit: Kit, axles: list[float], track: float, radius: float) -> list[Shape]:
    """Build two wheels at each x of `axles`, `track` [m] apart between their outer sides."""
    tyre, rim = kit.draw("rubber", "metal")
    shapes, across = [], {"pitch": np.pi / 2}  # along -y
    for x, outer in ((x, side * track / 2) for x in axles for side in (-1, 1)):
        y, rim_y = (outer, outer + 0.01) if outer > 0 else (outer + 0.22, outer + 0.05)
        shapes.append(frustum((x, y, radius), (radius, radius), 0.22, tyre, **across))
        shapes.append(frustum((x, rim_y, radius), (0.62 * radius,) * 2, 0.06, rim, **across))
    return shapes


def _pane(
    foot: tuple[float, float], top: tuple[float, float], width: float, thick: float, glass: int
) -> Shape:
    """Build a sloped screen whose outside goes from `foot` (x, z) up to `top` (x, z).

    The outside is the side away from the cabin: forward where the screen leans back.
    """
    rise, lean = top[1] - foot[1], top[0] - foot[0]
    angle = float(np.arctan2(lean, rise))
    # Direction of the local x axis, which a roll by `angle` turns to (cos, 0, -sin).
    outward = np.array([np.cos(angle), 0, -np.sin(angle)]) * (1 if lean < 0 else -1)
    middle = np.array([(foot[0] + top[0]) / 2, 0, (foot[1] + top[1]) / 2]) - outward * thick / 2
    return box(tuple(middle), (thick, width, float(np.hypot(rise, lean))), glass, roll=angle)


def _ends(kit: Kit, length: float, width: float, height: float) -> list[Shape]:
    """Build lamps, plates and grille at both ends of a body; lamps sit at `height`."""
    shapes, plate = [], kit.pick("white_lamp")
    for end, lamp in ((1, plate), (-1, kit.pick("red_lamp"))):
        x = end * length / 2
        right = (x - end * 0.03, -(width / 2 - 0.22), height)
        shapes += mirrored(box(right, (0.1, 0.36, 0.15), lamp), axis=1)
        shapes.append(box((x, 0, height - 0.14), (0.04, 0.5, 0.11), plate))
        shapes.append(box((x - end * 0.02, 0, 0.34), (0.1, width - 0.3, 0.16), kit.pick("rubber")))
    return shapes
