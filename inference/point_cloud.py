"""Depth and colours as a point cloud in a PLY file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

_VERTEX = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("r", "u1"), ("g", "u1"), ("b", "u1")]
)


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
        """From "fx,fy,cx,cy".

        Raises:
            ValueError: not four finite numbers, or a focal length that is not positive.
        """
        try:
            fx, fy, cx, cy = (float(part) for part in text.split(","))
        except ValueError as error:
            raise ValueError(f"intrinsics must be fx,fy,cx,cy in pixels, got {text!r}") from error
        if not (np.isfinite([fx, fy, cx, cy]).all() and fx > 0 and fy > 0):
            raise ValueError(f"intrinsics must be finite with positive fx and fy, got {text!r}")
        return cls(fx, fy, cx, cy)


def back_project(depth: np.ndarray, intrinsics: Intrinsics) -> tuple[np.ndarray, np.ndarray]:
    """The points that pixels see.

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
