"""Depth and colours as a point cloud in a PLY file, with the camera's intrinsics."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataloaders.errors import DataError

_VERTEX = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("r", "u1"), ("g", "u1"), ("b", "u1")]
)


# Distance of the principal point from the image's middle, in image sizes, that is usual.
_USUAL_OFFSET = 0.15


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera in pixels of the image that the depth belongs to.

    fx, fy: focal lengths. cx, cy: principal point; (0, 0) is the centre of the top left pixel.
    """

    fx: float
    fy: float
    cx: float
    cy: float

    @classmethod
    def parse(cls, text: str) -> "Intrinsics":
        """Read "fx,fy,cx,cy", or the text file of that name with them or the 3x3 matrix.

        Raises:
            DataError: no such numbers, or a focal length that is not positive.
        """
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
        """Return what is unusual about these intrinsics for an image of `size` (H, W).

        Raises:
            DataError: the principal point lies outside, as that of another resolution.
        """
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


def back_project(depth: np.ndarray, intrinsics: Intrinsics) -> tuple[np.ndarray, np.ndarray]:
    """Return the points that pixels see.

    Args:
        depth: (H, W) metres along the optical axis; pixels that are not positive are left out.

    Returns:
        points (N, 3) float32 metres in the camera's frame (x right, y down, z forward) and the
        (H, W) mask of the N pixels they belong to, in row order.
    """
    seen = np.isfinite(depth) & (depth > 0)
    rows, columns = np.nonzero(seen)
    z = depth[seen].astype(np.float32)
    x = (columns - intrinsics.cx).astype(np.float32) * z / np.float32(intrinsics.fx)
    y = (rows - intrinsics.cy).astype(np.float32) * z / np.float32(intrinsics.fy)
    return np.stack((x, y, z), axis=1), seen


def save_ply(path: Path, depth: np.ndarray, rgb: np.ndarray, intrinsics: Intrinsics) -> int:
    """Write a binary little-endian PLY of x, y, z (metres) and red, green, blue.

    Args:
        depth: (H, W) metres. rgb: (H, W, 3) uint8. intrinsics: see `back_project`.

    Returns:
        How many points were written.
    """
    points, seen = back_project(depth, intrinsics)
    vertices = np.empty(len(points), _VERTEX)
    for i, name in enumerate("xyz"):
        vertices[name] = points[:, i]
    for i, name in enumerate("rgb"):
        vertices[name] = rgb[..., i][seen]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        "comment camera frame: x right, y down, z forward, metres",
        f"element vertex {len(points)}",
        *(f"property float {name}" for name in "xyz"),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
        "end_header",
    ]
    with path.open("wb") as stream:
        stream.write(("\n".join(header) + "\n").encode("ascii"))
        vertices.tofile(stream)
    return len(points)
