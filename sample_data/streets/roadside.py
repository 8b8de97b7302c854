"""Trees, bushes, poles, signs, rails and people beside a street.

The frame of each: origin on the ground, x along the street, y away from it, z up, metres.
"""

import numpy as np

from sample_data.scene import Kit
from sample_data.shapes import Shape, box, ellipsoid, frustum

_FOOT = (0, 0, 0)


def tree(kit: Kit, scale: float = 1.0, detail: float = 1.0) -> list[Shape]:
    """Build a tree, mostly broad-leaved; `scale` 1 is 5 to 10 m high, `detail` 1 is seen close."""
    green, bark = kit.draw("foliage", "bark")
    if kit.chance(0.18):
        return _conifer(kit, scale, green, bark)
    stem, crown = kit.between(2.0, 3.4) * scale, kit.between(1.6, 2.8) * scale
    tall, thick = crown * kit.between(0.9, 1.5), kit.between(0.11, 0.24) * scale
    lean = kit.between(-0.05, 0.05)
    shapes = [frustum(_FOOT, (thick, 0.6 * thick), stem + tall * 0.6, bark, pitch=lean)]
    for _ in range(round(kit.count(10, 15) * detail)):
        yaw, up = kit.between(0, 2 * np.pi), kit.between(-0.85, 1.0)
        out = crown * 0.68 * np.sqrt(max(0.0, 1 - up * up))
        spot = (out * np.cos(yaw), out * np.sin(yaw), stem + tall * (0.8 + 0.68 * up))
        size = crown * kit.between(0.28, 0.52)
        radii = (size, size * kit.between(0.7, 1.0), size * kit.between(0.5, 0.8))
        shapes.append(ellipsoid(spot, radii, green, yaw=yaw, pitch=kit.between(-0.6, 0.6)))
    core = (crown * 0.6, crown * 0.6, tall * 0.65)
    return [*shapes, ellipsoid((0, 0, stem + tall * 0.8), core, green)]


def _conifer(kit: Kit, scale: float, green: int, bark: int) -> list[Shape]:
    """Build a spruce or thuja: a stack of cones."""
    height, radius = kit.between(4.0, 9.0) * scale, kit.between(0.8, 1.7) * scale
    shapes, layers = [frustum(_FOOT, (0.16, 0.12), 1.0, bark)], kit.count(4, 6)
    for k in range(layers):
        low, wide = 0.4 + height * k / layers, radius * (1 - 0.85 * k / layers)
        shapes.append(frustum((0, 0, low), (wide, wide * 0.25), height / layers * 1.5, green))
    return shapes


def bush(kit: Kit, scale: float = 1.0) -> list[Shape]:
    """Build a round bush."""
    green, shapes = kit.pick("foliage"), []
    for _ in range(kit.count(4, 8)):
        size = kit.between(0.3, 0.7) * scale
        spot = (kit.between(-0.9, 0.9) * scale, kit.between(-0.4, 0.5) * scale, size * 0.8)
        shapes.append(ellipsoid(spot, (size, size, size * kit.between(0.7, 1.2)), green))
    return shapes


def woods(kit: Kit, length: float) -> list[Shape]:
    """Build the edge of a wood: trees and bushes in a band along the street."""
    shapes, x = [], -length / 2
    while x < length / 2:
        yaw, spot = kit.between(0, 6), np.array([x, kit.between(0.5, 6.0), 0.0])
        if kit.chance(0.45):
            piece = bush(kit, kit.between(1.0, 2.2))
        else:
            piece = tree(kit, kit.between(0.7, 1.3), 0.8)
        shapes += [shape.moved(yaw, spot) for shape in piece]
        x += kit.between(1.2, 2.8)
    return shapes


def lamp_post(kit: Kit) -> list[Shape]:
    """Build a street lamp whose arm reaches over the road (-y)."""
    height, metal, reach = kit.draw((5.5, 9.0), "metal concrete", (0.8, 2.0))
    return [
        frustum(_FOOT, (0.11, 0.06), height, metal),
        box((0, -reach / 2, height), (0.08, reach, 0.08), metal),
        box((0, -reach, height - 0.02), (0.2, 0.6, 0.12), kit.pick("metal")),
    ]


def sign_post(kit: Kit) -> list[Shape]:
    """Build a pole with one or two road signs that face along the street."""
    height = kit.between(2.2, 3.0)
    shapes = [frustum(_FOOT, (0.035, 0.035), height, kit.pick("metal"))]
    for k in range(kit.count(1, 2)):
        z, size = height - 0.35 - 0.7 * k, kit.between(0.5, 0.66)
        spot = (0.04 * (-1) ** kit.count(0, 1), 0, z)
        back, face = kit.draw("metal", "sign")
        shapes.append(box(spot, (0.03, size, size), (face, face, back, back, back, back), fit=True))
    return shapes


def traffic_light(kit: Kit) -> list[Shape]:
    """Build a pole with a signal."""
    dark = kit.pick("rubber")
    return [
        frustum(_FOOT, (0.07, 0.06), 3.2, kit.pick("metal")),
        box((0, -0.15, 2.8), (0.25, 0.28, 0.85), dark),
        box((0, -0.15, 3.05), (0.27, 0.16, 0.16), kit.pick("red_lamp")),
        box((0, -0.15, 2.55), (0.27, 0.16, 0.16), kit.pick("white_lamp")),
    ]


def bin_or_box(kit: Kit) -> list[Shape]:
    """Build a dustbin, a switch box, a bollard or a bench."""
    kind = kit.count(0, 3)
    if kind == 0:
        lid, body = kit.draw("car_paint", "rubber metal")
        can = box((0, 0, 0.5), (0.6, 0.55, 1.0), body)
        return [can, box((0, 0, 1.03), (0.64, 0.6, 0.08), lid, pitch=0.1)]
    if kind == 1:
        return [box((0, 0, 0.6), (1.1, 0.4, 1.2), kit.pick("concrete"))]
    if kind == 2:
        return [frustum(_FOOT, (0.1, 0.09), 0.9, kit.pick("concrete", "metal"))]
    wood = kit.pick("planks")
    return [
        box((0, 0, 0.45), (1.6, 0.4, 0.06), wood),
        box((0, 0.22, 0.75), (1.6, 0.05, 0.4), wood, pitch=-0.15),
        *(box((x, 0, 0.22), (0.08, 0.36, 0.44), wood) for x in (-0.6, 0.6)),
    ]


def person(kit: Kit) -> list[Shape]:
    """Build a pedestrian walking along the street."""
    height, stride = kit.draw((1.55, 1.85), (0.1, 0.35))
    trousers, coat = kit.draw("cloth rubber", "cloth car_paint")
    shapes, hip, shoulder = [], 0.48 * height, 0.82 * height
    for side in (-1, 1):
        # The limbs swing along x: the pitch is about x, so they are turned a quarter.
        leg = frustum(_FOOT, (0.06, 0.09), hip, trousers, pitch=side * stride)
        arm = frustum(_FOOT, (0.045, 0.05), 0.33 * height, coat, pitch=side * 0.2)
        stance = np.array([-side * np.sin(stride) * hip, side * 0.09, 0.0])
        swing = np.array([0.0, side * 0.19, hip])
        shapes += [leg.moved(np.pi / 2, stance), arm.moved(np.pi / 2, swing)]
    return [
        *shapes,
        ellipsoid((0, 0, (hip + shoulder) / 2), (0.13, 0.21, 0.2 * height), coat),
        ellipsoid((0, 0, height - 0.12), (0.1, 0.085, 0.13), kit.pick("skin")),
    ]


def guard_rail(kit: Kit, length: float) -> list[Shape]:
    """Build a steel crash barrier on posts."""
    metal = kit.pick("metal")
    bars = ((0, 0.66, 0.12), (0.03, 0.56, 0.08), (0, 0.46, 0.12))
    posts = np.arange(-length / 2 + 0.5, length / 2, 2.5).tolist()
    return [
        *(box((0, y, z), (length, 0.05, high), metal) for y, z, high in bars),
        *(box((x, 0.08, 0.33), (0.08, 0.1, 0.66), metal) for x in posts),
    ]
