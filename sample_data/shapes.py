"""Three analytic solids (box, ellipsoid, cone frustum) and their intersection with rays.

World coordinates are metres with z up; rays are moved into the local frame of a solid before they
are tested. Vectors of many rays are arrays (3, ...) of their x, y and z components.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

BOX, ELLIPSOID, FRUSTUM = 0, 1, 2

# Faces 0..5 of a box are -x, +x, -y, +y, -z, +z. A frustum uses 0 for its side and 4, 5 for its
# caps, an ellipsoid only 0.
FACES = 6

# Below this a direction component counts as parallel to a face; keeps 1 / d finite in float32.
_TINY = np.float32(1e-12)
_SIGNS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)

Triple = tuple[float, float, float]


def dot(a, b):
    """Return the dot product of two triples (numbers or arrays), summed in a fixed order."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def turned(matrix: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return matrix (3, 3) @ vectors (3, ...), summed in a fixed order."""
    return np.stack([dot(row, vectors) for row in matrix])


def column(vector: np.ndarray, axes: int = 1) -> np.ndarray:
    """Return a vector (3,) as float32 (3, 1, ...), to stand beside many with so many more axes."""
    return vector.astype(np.float32).reshape(3, *(1,) * axes)


def rotation(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Return the (3, 3) rotation about z (yaw), the turned x (pitch), then y (roll) [rad]."""
    cz, sz, cx, sx = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    cy, sy = np.cos(roll), np.sin(roll)
    about_z = np.array([[cz, -sz, 0.0], [sz, cz, 0.0], [0.0, 0.0, 1.0]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cx, -sx], [0.0, sx, cx]])
    about_y = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    return about_z @ about_x @ about_y


@dataclass(frozen=True, slots=True)
class Shape:
    """One solid of a scene."""

    kind: int  # BOX, ELLIPSOID or FRUSTUM
    centre: np.ndarray  # (3,) float64 world position of the middle [m]
    axes: np.ndarray  # (3, 3) float64, row k is the local axis k in the world (orthonormal)
    half: np.ndarray  # (3,) float64 half sizes [m]; of a FRUSTUM larger radius, the same, height
    materials: tuple[int, ...]  # six material indices, one per face
    fit: bool = False  # the texture covers a face exactly once (pictures, doors), it is not tiled
    casts_shadow: bool = True  # not for lamp bodies, which hold a light, nor flat on the ground
    radii: tuple[float, float] = (0.0, 0.0)  # of a FRUSTUM, bottom and top [m]

    def moved(self, yaw: float, offset: np.ndarray) -> Self:
        """Return the shape turned by `yaw` [rad] about the world z axis, then shifted [m]."""
        turn = rotation(yaw)
        return replace(self, centre=turn @ self.centre + offset, axes=self.axes @ turn.T)


def corners(shapes: list[Shape]) -> np.ndarray:
    """Return the (P, 8, 3) world corners of P solids' bounding boxes along their axes [m]."""
    centres, halves, axes = (
        np.stack([getattr(shape, name) for shape in shapes]) for name in ("centre", "half", "axes")
    )
    return centres[:, None] + (_SIGNS * halves[:, None]) @ axes


def _solid(
    kind, centre, half, materials, *, yaw=0.0, pitch=0.0, roll=0.0, radii=(0.0, 0.0), **options
) -> Shape:
    six = (materials,) * FACES if isinstance(materials, int) else materials
    half, centre = np.array(half, float), np.array(centre, float)
    axes = rotation(yaw, pitch, roll).T
    if kind == FRUSTUM:  # given by the middle of its base
        centre += axes[2] * (2 * half[2]) / 2
    return Shape(kind, centre, axes, half, six, radii=radii, **options)


def box(centre: Triple, size: Triple, materials: int | tuple[int, ...], **options) -> Shape:
    """Return a box of full `size` [m] about `centre` [m], of one material or one per face.

    Options of every solid are the angles of `rotation`, `fit` and `casts_shadow`.
    """
    return _solid(BOX, centre, np.asarray(size, dtype=np.float64) / 2, materials, **options)


def ellipsoid(centre: Triple, radii: Triple, material: int, **options) -> Shape:
    """Return an ellipsoid with three `radii` [m]; equal radii make a sphere."""
    return _solid(ELLIPSOID, centre, radii, material, **options)


def frustum(
    base: Triple, radii: tuple[float, float], height: float, material: int, **options
) -> Shape:
    """Return a capped cone on `base` [m] with (bottom, top) `radii` [m]; equal: a cylinder.

    The angle `pitch` [rad] tilts the axis about x through the base point.
    """
    half = (max(radii), max(radii), height / 2)
    return _solid(FRUSTUM, base, half, material, radii=radii, **options)


def mirrored(*shapes: Shape, axis: int = 0) -> list[Shape]:
    """Return upright solids and then their mirror images about the plane axis = 0."""
    flip = np.where(np.arange(3) == axis, -1.0, 1.0)
    return [*shapes, *(replace(shape, centre=shape.centre * flip) for shape in shapes)]


def intersect(
    shape: Shape, origin: np.ndarray, direction: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the first entry of rays into a solid.

    Origins [m] and directions (of any length), float32 (3, ...) in the LOCAL frame, broadcast.

    Returns:
        t: (...) float32 ray parameter of the first entry, inf for a miss or an origin inside;
        face: (...) or () int8 face number, see FACES.
    """
    return _INTERSECT[shape.kind](shape, origin, direction)


def entry(shape: Shape, start: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Return the (n,) ray parameters of the first entries into a solid of rays of the world.

    Args:
        start: (3, n) float32 origins [m]. direction: (3, n) or (3, 1) float32 in the LOCAL frame.
    """
    local = turned(shape.axes.astype(np.float32), start - column(shape.centre))
    return intersect(shape, local, direction)[0]


def _intersect_box(shape, origin, direction):
    """Test slabs: the entry is the last of the three near planes, if it precedes every far one."""
    inverse = np.float32(1) / (direction + _TINY)
    middle = -origin * inverse
    reach = column(shape.half, direction.ndim - 1) * np.abs(inverse)
    near = middle - reach
    enter, leave = near.max(0), (middle + reach).min(0)
    t = np.where((enter <= leave) & (enter > 0), enter, np.float32(np.inf))
    positive = (direction < 0).view(np.int8)
    face = np.where(enter == near[1], 2 + positive[1], 4 + positive[2])
    return t, np.where(enter == near[0], positive[0], face)


def _intersect_ellipsoid(shape, origin, direction):
    """Test the unit sphere, each local axis divided by its radius."""
    scale = column(1 / shape.half, direction.ndim - 1)
    o, d = origin * scale, direction * scale
    a, b, c = dot(d, d), dot(o, d), dot(o, o) - np.float32(1)
    root = b * b - a * c
    t = (-b - np.sqrt(np.maximum(root, 0))) / a
    return np.where((root > 0) & (t > 0), t, np.float32(np.inf)), np.int8(0)


def _intersect_frustum(shape, origin, direction):
    """Test the side (both roots, since a ray may enter through either) and two disc caps."""
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
    t = infinite = np.float32(np.inf)
    for sign in (-1, 1):
        side = (-b + sign * spread) / a
        hit = (root > 0) & (side > 0) & (np.abs(oz + side * dz) <= height)
        t = np.minimum(t, np.where(hit, side, infinite))
    face = np.zeros(t.shape, np.int8)
    inverse = np.float32(1) / (dz + _TINY)
    for number, level, limit in ((4, -height, shape.radii[0]), (5, height, shape.radii[1])):
        cap = (level - oz) * inverse
        x, y = ox + cap * dx, oy + cap * dy
        hit = (cap > 0) & (cap < t) & (x * x + y * y <= np.float32(limit * limit))
        t = np.where(hit, cap, t)
        face[hit] = number
    # A shadow ray may start inside a solid and meet its far wall, which is no entry.
    inside = (c < 0) & (np.abs(oz) < height)
    return np.where(inside, infinite, t), face


_INTERSECT = {BOX: _intersect_box, ELLIPSOID: _intersect_ellipsoid, FRUSTUM: _intersect_frustum}
