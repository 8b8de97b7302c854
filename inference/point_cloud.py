"""Depth and colours as a point cloud in a PLY file, with the camera's intrinsics.

At a depth edge a regression gives the pixels between two surfaces depths between the two, points in
mid-air. `without_flying_pixels` drops them, or moves them to one of the surfaces.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from dataloaders.errors import DataError

# Of a PLY's points: position and normal in metres, and the colour.
VERTEX = np.dtype(
    [(name, "<f4") for name in ("x", "y", "z", "nx", "ny", "nz")]
    + [(name, "u1") for name in ("red", "green", "blue")]
)
FLYING = ("drop", "snap", "keep")
# A surface is steep where it makes less than this angle with the ray to it [degrees].
STEEPEST = 4.5
# Pixels to either side within which a surface's depth is looked up.
REACH = 2
# Times the slope beside it that a slope between two surfaces has at least.
BREAK = 3.0
# An expected error beyond this fraction of the depth leaves a pixel in doubt.
DOUBT = 0.04

# Distance of the principal point from the image's middle, in image sizes, that is usual.
_USUAL_OFFSET = 0.15


class Rays(Protocol):
    """A camera: focal lengths [pixels], and `rays(size)`, the slopes x / z and y / z of the rays of
    an image of that (H, W), which broadcast to it; NaN where a pixel has none."""

    fx: float
    fy: float

    def rays(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera in pixels of the image that the depth belongs to.

    fx, fy: focal lengths. cx, cy: principal point; (0, 0) is the centre of the top left pixel.
    """

    fx: float
    fy: float
    cx: float
    cy: float

    def rays(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the slopes x / z (1, W) and y / z (H, 1) of the rays of an image of `size`."""
        columns, rows = np.arange(size[1])[None], np.arange(size[0])[:, None]
        x, y = (columns - self.cx) / self.fx, (rows - self.cy) / self.fy
        return x.astype(np.float32), y.astype(np.float32)

    @classmethod
    def parse(cls, text: str) -> "Intrinsics":
        """Read "fx,fy,cx,cy", or the text file of that name with them or the 3x3 matrix. Raises
        DataError: no such numbers, or a focal length that is not positive."""
        name = text
        try:
            if Path(name).is_file():
                text = Path(name).read_text(encoding="utf-8-sig")
            values = [float(number) for number in re.split(r"[\s,;\[\]]+", text.strip(" \n[]"))]
        except (OSError, ValueError):
            values = []
        if len(values) == 9 and values[6:] == [0, 0, 1] and values[1] == 0 == values[3]:
            values = [values[i] for i in (0, 4, 2, 5)]
        if len(values) != 4:
            raise DataError(
                "intrinsics must be fx,fy,cx,cy in pixels, or a text file with them or the matrix "
                f"fx 0 cx, 0 fy cy, 0 0 1; got {name!r}"
            )
        if not (np.isfinite(values).all() and min(values[:2]) > 0):
            raise DataError(f"intrinsics must be finite with positive fx and fy, got {name!r}")
        return cls(*values)

    def notes(self, size: tuple[int, int]) -> list[str]:
        """Return what is unusual about these intrinsics for an image of `size` (H, W). Raises
        DataError: the principal point lies outside, as that of another resolution."""
        height, width = size
        centre = f"the principal point ({self.cx:g}, {self.cy:g})"
        if not (0 <= self.cx < width and 0 <= self.cy < height):
            raise DataError(
                f"{centre} lies outside of the image of {width}x{height}; give the intrinsics of "
                "this resolution"
            )
        if max(abs(self.cx / width - 0.5), abs(self.cy / height - 0.5)) > _USUAL_OFFSET:
            return [f"{centre} is far from the middle; are the intrinsics of {width}x{height}?"]
        return []


def back_project(depth: np.ndarray, camera: Rays, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return the points that pixels see.

    Args:
        depth: (H, W) metres along the optical axis; pixels that are not positive are left out.
        camera: of these pixels, a pinhole's `Intrinsics` or one with lens distortion.
        step: take every step-th row and column.

    Returns:
        points (N, 3) float32 metres in the camera's frame (x right, y down, z forward) and the
        (h, w) mask of the N pixels they belong to, in row order; h, w are H, W by `step`.
    """
    x, y = (
        np.broadcast_to(slope, depth.shape)[::step, ::step] for slope in camera.rays(depth.shape)
    )
    z = depth[::step, ::step].astype(np.float32)
    seen = np.isfinite(z) & (z > 0) & np.isfinite(x)
    z = z[seen]
    return np.stack((x[seen] * z, y[seen] * z, z), axis=1), seen


def flying_pixels(depth: np.ndarray, camera: Rays, error: np.ndarray | None = None) -> np.ndarray:
    """Return which pixels lie in mid-air, on the slope that a regression lays between surfaces.

    Such a pixel has, along a row, a column or a diagonal, something nearer on one side and
    something farther on the other, both by more than a surface at `STEEPEST` degrees to the
    pixel's ray: n pixels at depth z are n z / f wide. A road seen at a lower angle is as steep, but
    all along: the slope of inverse depth, constant on a plane, must be `BREAK` times that a few
    pixels before or behind. Pixels whose expected error is beyond `DOUBT` of the depth count too.

    Args:
        depth: (H, W) metres, 0 = none. error: (H, W) metres that the network expects, or None.

    Returns:
        (H, W) bool.
    """
    known, far = depth > 0, 2 * REACH + 1
    found = np.zeros(depth.shape, bool) if error is None else known & (error > DOUBT * depth)
    focal = np.float32((camera.fx + camera.fy) / 2)
    limit = depth / (focal * np.float32(np.tan(np.radians(STEEPEST))))
    margin = far + REACH
    depth = np.where(known, depth, np.nan).astype(np.float32)
    padded = np.pad(depth, margin, constant_values=np.nan)
    inverse = 1 / padded

    def at(steps: int, values: np.ndarray = padded) -> np.ndarray:
        """Depth, or other values, that many steps along the direction."""
        top, left = margin + steps * rows, margin + steps * columns
        return values[top : top + depth.shape[0], left : left + depth.shape[1]]

    def slope(middle: int, n: int) -> np.ndarray:
        return np.abs(at(middle + n, inverse) - at(middle - n, inverse))

    with np.errstate(invalid="ignore"):
        for rows, columns in ((0, 1), (1, 0), (1, 1), (1, -1)):
            for n in range(1, REACH + 1):
                before, after = at(-n) - depth, depth - at(n)
                step = np.float32(n * np.hypot(rows, columns)) * limit
                steep = (before * after > 0) & (np.minimum(abs(before), abs(after)) > step)
                found |= steep & (slope(0, n) > BREAK * np.fmin(slope(-far, n), slope(far, n)))
    return found


def without_flying_pixels(
    depth: np.ndarray,
    camera: Rays,
    error: np.ndarray | None = None,
    how: str = "drop",
) -> np.ndarray:
    """Return depth (H, W) with its `flying_pixels` 0 ("drop"), moved to the nearest depth of the
    surfaces beside them ("snap"), or as they are ("keep")."""
    if how == "keep":
        return depth
    flying = flying_pixels(depth, camera, error)
    if how == "drop":
        return np.where(flying, np.float32(0), depth)
    side = np.ones((2 * REACH + 3, 2 * REACH + 3), np.uint8)
    solid = (depth > 0) & ~flying
    near = cv2.erode(np.where(solid, depth, np.float32(1e9)), side)
    far = cv2.dilate(np.where(solid, depth, np.float32(0)), side)
    moved = np.where(depth - near < far - depth, near, far)
    return np.where(flying, np.where(moved < 1e9, moved, 0), depth).astype(np.float32)


def normals_of(depth: np.ndarray, camera: Rays, step: int = 1) -> np.ndarray:
    """Return the surface's unit normals (h, w, 3) in the camera's frame, towards the camera, at
    every step-th row and column of depth (H, W) metres; 0 where a pixel, or a neighbour that they
    are made from, has no depth."""
    z = np.where(depth > 0, depth, np.nan).astype(np.float32)
    x, y = camera.rays(depth.shape)
    points = np.pad(np.stack([x * z, y * z, z]), ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)

    def at(down: int, right: int) -> np.ndarray:
        rows, columns = depth.shape
        return points[:, 1 + down : rows + 1 + down : step, 1 + right : columns + 1 + right : step]

    def slope(down: int, right: int) -> np.ndarray:
        """Difference to a neighbour on one axis, of the two the one nearer in depth."""
        before, after = at(0, 0) - at(-down, -right), at(down, right) - at(0, 0)
        nearer = ~(np.abs(after[2]) > np.abs(before[2])) & np.isfinite(after[2])
        return np.where(nearer, after, before)

    with np.errstate(invalid="ignore", divide="ignore"):
        normals = np.cross(slope(1, 0), slope(0, 1), axis=0)
        normals /= np.sqrt((normals * normals).sum(axis=0))
    return np.moveaxis(np.nan_to_num(normals), 0, -1)


def vertices_of(
    depth: np.ndarray,
    rgb: np.ndarray,
    camera: Rays,
    pose: np.ndarray | None = None,
    step: int = 1,
) -> np.ndarray:
    """Return the `VERTEX` of each pixel with depth, in row order.

    Args:
        depth: (H, W) metres. rgb: (H, W, 3) uint8. camera, step: see `back_project`.
        pose: (4, 4) camera to world; None leaves points and normals in the camera's frame.
    """
    points, seen = back_project(depth, camera, step)
    normals = normals_of(depth, camera, step)[seen]
    if pose is not None:
        points = points @ pose[:3, :3].T + pose[:3, 3]
        normals = normals @ pose[:3, :3].T
    colors = rgb[::step, ::step][seen]
    return np.rec.fromarrays([*points.T, *normals.T, *colors.T], dtype=VERTEX)


class PlyWriter:
    """A binary little-endian PLY of `VERTEX`, which grows: points are appended to a file that is
    there, and the header holds their number once it is closed."""

    def __init__(self, path: Path):
        header = self._header(0)
        fresh = not path.is_file() or path.stat().st_size < len(header)
        self.stream = path.open("w+b" if fresh else "r+b")
        if fresh:
            self.stream.write(header)
        # What an interrupted run left of a last point is written over.
        self.count = (self.stream.seek(0, 2) - len(header)) // VERTEX.itemsize
        self.stream.seek(len(header) + self.count * VERTEX.itemsize)

    def append(self, vertices: np.ndarray) -> None:
        """Write further points (N,) of `VERTEX`."""
        self.stream.write(vertices.tobytes())
        self.count += len(vertices)

    def close(self) -> None:
        """Write how many points there are, and close the file."""
        self.stream.truncate()
        self.stream.seek(0)
        self.stream.write(self._header(self.count))
        self.stream.close()

    @staticmethod
    def _header(count: int) -> bytes:
        kinds = {"<f4": "float", "|u1": "uchar"}
        lines = [
            "ply",
            "format binary_little_endian 1.0",
            "comment x right, y down, z forward of the camera or of the first pose, metres",
            f"element vertex {count:<12}",  # room for any number
            *(f"property {kinds[VERTEX[name].str]} {name}" for name in VERTEX.names),
            "end_header",
        ]
        return ("\n".join(lines) + "\n").encode("ascii")


def save_ply(
    path: Path,
    depth: np.ndarray,
    rgb: np.ndarray,
    camera: Rays,
    pose: np.ndarray | None = None,
) -> int:
    """Write the points of one image; see `vertices_of` and `PlyWriter`. Return how many."""
    path.unlink(missing_ok=True)
    writer = PlyWriter(path)
    writer.append(vertices_of(depth, rgb, camera, pose))
    writer.close()
    return writer.count
