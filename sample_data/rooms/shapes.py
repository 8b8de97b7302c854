"""Three analytic solids (box, ellipsoid, cone frustum) and their intersection with rays.

Everything in a sample room is one of these three solids. World coordinates are metres with z up;
a solid carries a local frame, and rays are moved into that frame before they are tested. The
functions broadcast: the origin may be one point (camera rays) or one per ray (shadow rays).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

BOX, ELLIPSOID, FRUSTUM = 0, 1, 2

# Faces 0..5 of a box are -x, +x, -y, +y, -z, +z. A frustum uses 0 for its side and 4, 5 for its
# caps, an ellipsoid only 0.
FACES = 6

# Below this a direction component counts as parallel to a face; keeps 1 / d finite in float32.
_TINY = np.float32(1e-12)


@dataclass(frozen=True, slots=True)
class Shape:
    """One solid of a scene.

    Args:
        kind: BOX, ELLIPSOID or FRUSTUM.
        centre: (3,) float64 world position of the middle [m].
        axes: (3, 3) float64, row k is the local axis k in world coordinates (orthonormal).
        half: (3,) float64 half sizes [m]. For a FRUSTUM the first two are the larger radius and
            the third half the height along the local z axis.
        materials: six material indices, one a face.
        family: kind of furniture the solid belongs to, for statistics and tests.
        fit: the texture covers a face exactly once (pictures, doors) instead of being tiled.
        casts_shadow: False for lamp bodies, which hold a light.
        radii: bottom and top radius of a FRUSTUM [m]; unused by the other kinds.
    """

    kind: int
    centre: np.ndarray
    axes: np.ndarray
    half: np.ndarray
    materials: tuple[int, ...]
    family: str
    fit: bool = False
    casts_shadow: bool = True
    radii: tuple[float, float] = (0.0, 0.0)

    def moved(self, yaw: float, offset: np.ndarray) -> Shape:
        """The shape turned by `yaw` [rad] about the world z axis, then shifted by `offset` [m]."""
        turn = rotation(yaw)
        return replace(self, centre=turn @ self.centre + offset, axes=self.axes @ turn.T)

    def corners(self) -> np.ndarray:
        """(8, 3) world corners of the bounding box aligned with the local frame [m]."""
        return self.centre + (_SIGNS * self.half) @ self.axes


def corners_of(shapes: list[Shape]) -> np.ndarray:
    """(P, 8, 3) corners of the bounding boxes of P solids, see `Shape.corners` [m]."""
    centres, halves = (np.stack([getattr(s, k) for s in shapes]) for k in ("centre", "half"))
    axes = np.stack([shape.axes for shape in shapes])
    return centres[:, None] + (_SIGNS * halves[:, None]) @ axes


_SIGNS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)


def rotation(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """(3, 3) rotation about z (yaw), then the turned x (pitch), then y (roll); angles in rad."""
    cz, sz, cx, sx = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    cy, sy = np.cos(roll), np.sin(roll)
    about_z = np.array([[cz, -sz, 0.0], [sz, cz, 0.0], [0.0, 0.0, 1.0]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cx, -sx], [0.0, sx, cx]])
    about_y = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    return about_z @ about_x @ about_y


def _six(materials: int | tuple[int, ...]) -> tuple[int, ...]:
    return (materials,) * FACES if isinstance(materials, int) else materials


def box(
    centre: tuple[float, float, float],
    size: tuple[float, float, float],
    materials: int | tuple[int, ...],
    family: str,
    *,
    yaw: float = 0.0,
    pitch: float = 0.0,
    roll: float = 0.0,
    fit: bool = False,
    casts_shadow: bool = True,
) -> Shape:
    """A box of full `size` [m] about `centre` [m], turned by the three angles [rad]."""
    axes = rotation(yaw, pitch, roll).T
    half = np.asarray(size, dtype=np.float64) / 2
    return Shape(
        BOX, np.array(centre, float), axes, half, _six(materials), family, fit, casts_shadow
    )


def ellipsoid(
    centre: tuple[float, float, float],
    radii: tuple[float, float, float],
    material: int,
    family: str,
    *,
    yaw: float = 0.0,
    pitch: float = 0.0,
    casts_shadow: bool = True,
) -> Shape:
    """An ellipsoid with three `radii` [m]; equal radii make a sphere."""
    axes = rotation(yaw, pitch).T
    half = np.array(radii, dtype=np.float64)
    return Shape(
        ELLIPSOID,
        np.array(centre, float),
        axes,
        half,
        _six(material),
        family,
        False,
        casts_shadow,
    )


def frustum(
    base: tuple[float, float, float],
    radii: tuple[float, float],
    height: float,
    material: int,
    family: str,
    *,
    pitch: float = 0.0,
    casts_shadow: bool = True,
) -> Shape:
    """A capped cone standing on `base` [m]; `radii` are (bottom, top) [m], equal: a cylinder.

    `pitch` [rad] tilts the axis about x through the base point.
    """
    axes = rotation(0.0, pitch).T
    centre = np.array(base, float) + axes[2] * height / 2
    widest = max(radii)
    half = np.array([widest, widest, height / 2])
    materials = _six(material)
    return Shape(FRUSTUM, centre, axes, half, materials, family, False, casts_shadow, radii)


def intersect(
    shape: Shape, origin: list[np.ndarray], direction: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray | None]:
    """First entry of rays into a solid.

    Args:
        shape: the solid.
        origin: three broadcastable arrays or scalars, ray origins in the LOCAL frame [m].
        direction: three arrays, ray directions in the local frame (any length).

    Returns:
        t: ray parameter of the first entry, inf for a miss or when the origin is inside;
        face: int8 face number (see FACES), or None when it is 0 everywhere.
    """
    if shape.kind == BOX:
        return _intersect_box(shape.half, origin, direction)
    if shape.kind == ELLIPSOID:
        return _intersect_ellipsoid(shape.half, origin, direction), None
    return _intersect_frustum(shape, origin, direction)


def _intersect_box(half, origin, direction):
    """Slab test: the entry is the last of the three near planes, if it precedes every far one."""
    near, far = [], []
    for o, d, h in zip(origin, direction, half, strict=True):
        inverse = np.float32(1) / (d + _TINY)
        middle = -o * inverse
        reach = np.float32(h) * np.abs(inverse)
        near.append(middle - reach)
        far.append(middle + reach)
    enter = np.maximum(np.maximum(near[0], near[1]), near[2])
    leave = np.minimum(np.minimum(far[0], far[1]), far[2])
    t = np.where((enter <= leave) & (enter > 0), enter, np.float32(np.inf))
    positive = [(d < 0).view(np.int8) for d in direction]
    face = np.where(enter == near[1], 2 + positive[1], 4 + positive[2])
    return t, np.where(enter == near[0], positive[0], face).astype(np.int8)


def _intersect_ellipsoid(radii, origin, direction):
    """Unit sphere after dividing each local axis by its radius."""
    scale = (1 / radii).astype(np.float32)
    o = [c * s for c, s in zip(origin, scale, strict=True)]
    d = [c * s for c, s in zip(direction, scale, strict=True)]
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    c = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - np.float32(1)
    root = b * b - a * c
    t = (-b - np.sqrt(np.maximum(root, 0))) / a
    return np.where((root > 0) & (t > 0), t, np.float32(np.inf))


def _intersect_frustum(shape, origin, direction):
    """Cone side (both roots, since a ray may enter through either) and two disc caps."""
    height = np.float32(shape.half[2])
    middle = np.float32(sum(shape.radii) / 2)
    slope = np.float32((shape.radii[1] - shape.radii[0]) / (2 * shape.half[2]))
    ox, oy, oz = origin
    dx, dy, dz = direction
    radius = middle + slope * oz
    a = dx * dx + dy * dy - slope * slope * dz * dz
    a = np.where(np.abs(a) < _TINY, _TINY, a)
    b = ox * dx + oy * dy - slope * dz * radius
    c = ox * ox + oy * oy - radius * radius
    root = b * b - a * c
    spread = np.sqrt(np.maximum(root, 0))
    infinite = np.float32(np.inf)
    t = np.broadcast_to(infinite, root.shape)
    for sign in (-1, 1):
        side = (-b + sign * spread) / a
        inside = (root > 0) & (side > 0) & (np.abs(oz + side * dz) <= height)
        t = np.minimum(t, np.where(inside, side, infinite))
    face = np.zeros(t.shape, np.int8)
    inverse = np.float32(1) / (dz + _TINY)
    for number, level, limit in ((4, -height, shape.radii[0]), (5, height, shape.radii[1])):
        cap = (level - oz) * inverse
        x, y = ox + cap * dx, oy + cap * dy
        hit = (cap > 0) & (cap < t) & (x * x + y * y <= np.float32(limit * limit))
        t = np.where(hit, cap, t)
        face[hit] = number
    # A camera never stands inside a solid, but a shadow ray may start on one: an origin inside
    # sees only the far wall, which is no entry.
    inside = (c < 0) & (np.abs(oz) < height)
    return np.where(inside, infinite, t), face
