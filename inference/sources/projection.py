"""Points in space and depth of one camera to sparse depth in another camera's pixels.

N points, H, W the image. Camera frames have x to the right, y down, z forward; pixel (0, 0) is the
centre of the first one.
"""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import cv2
import numpy as np

from dataloaders.errors import DataError
from inference.point_cloud import Intrinsics
from inference.sources.frames import Frame

# Points that are hidden lie farther than this beyond what is seen around them: fraction of depth.
HIDDEN_RATIO = 0.2
# Pixels around a point in which nearer ones are looked for, per pixel of the image's width.
HIDDEN_RADIUS = 0.005
# Fewer points of a scan than this fall into the image of a camera that looks elsewhere.
LEAST_INSIDE = 0.001
_NOTHING = 1e9  # metres, where nothing was measured
KEEP_OR_UNDO = ("undo", "keep")
# Pixels by which a ray may miss the pixel that it is for.
RAY_TOLERANCE = 0.05
_STEEPEST = 5.0  # the largest slope x / z for which distortion is looked up


def _distort_opencv(xy: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4 [tx ty]]]], ROS's plumb_bob and rational_polynomial"""
    points = np.column_stack([xy, np.ones(len(xy))])
    still = np.zeros(3)
    return cv2.projectPoints(points, still, still, np.eye(3), coefficients)[0].reshape(-1, 2)


def _distort_fisheye(xy: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """k1 k2 k3 k4 of the angle, OpenCV's fisheye and ROS's equidistant; then p1 p2 sx1 sy1"""
    k, (p1, p2, sx, sy) = coefficients[:4], np.pad(coefficients[4:], (0, 8 - len(coefficients)))
    r = np.linalg.norm(xy, axis=1, keepdims=True)
    u, v = (xy * np.divide(np.arctan(r), r, out=np.ones_like(r), where=r > 1e-9)).T
    r2 = u * u + v * v
    radial = 1 + r2 * np.polyval(k[::-1], r2)
    du = 2 * p1 * u * v + p2 * (r2 + 2 * u * u) + sx * r2
    dv = 2 * p2 * u * v + p1 * (r2 + 2 * v * v) + sy * r2
    return np.column_stack([u * radial + du, v * radial + dv])


def _distort_fov(xy: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """w, the field of view of an ideal fisheye [rad]"""
    r = np.linalg.norm(xy, axis=1, keepdims=True)
    bent = np.arctan(2 * r * np.tan(coefficients[0] / 2)) / coefficients[0]
    return xy * np.divide(bent, r, out=np.ones_like(r), where=r > 1e-9)


# Model -> slopes (N, 2) of an undistorted ray, x / z and y / z, to those of the pixel it meets.
DISTORTIONS = {"opencv": _distort_opencv, "fisheye": _distort_fisheye, "fov": _distort_fov}


@dataclass(frozen=True)
class Camera:
    """A camera with lens distortion.

    intrinsics: in pixels. model, distortion: one of `DISTORTIONS` and its coefficients; none is a
    pinhole. size: (H, W) that they are for, None where the calibration does not say.
    """

    intrinsics: Intrinsics
    model: str = "opencv"
    distortion: tuple[float, ...] = ()
    size: tuple[int, int] | None = None

    @property
    def is_pinhole(self) -> bool:
        """Whether the lens does not distort."""
        return not any(self.distortion)

    def pinhole(self) -> "Camera":
        """Return this camera without distortion, as that of an undistorted image."""
        return replace(self, distortion=())

    def seen(self, distortion: str) -> "Camera":
        """Return the camera of a frame's pixels, one of `KEEP_OR_UNDO`: "keep" for the pixels as
        they were taken, "undo" for those of an undistorted image."""
        return self if distortion == "keep" else self.pinhole()

    def lens_notes(self, distortion: str) -> list[str]:
        """Return what becomes of the lens distortion, where it is undone."""
        note = (
            "lens distortion is undone: depth is that of the undistorted image (--distortion keep: "
            "of the image's own pixels)"
        )
        return [note] * (self.seen(distortion) != self)

    @property
    def of_frame(self) -> "Intrinsics | Camera":
        """Return what a frame holds: intrinsics, or this camera where it has distortion."""
        return self.intrinsics if self.is_pinhole else self

    @property
    def fx(self) -> float:
        """Focal length in pixels, as of `Intrinsics`."""
        return self.intrinsics.fx

    @property
    def fy(self) -> float:
        """Focal length in pixels, as of `Intrinsics`."""
        return self.intrinsics.fy

    def rays(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the slopes x / z and y / z of the ray of each pixel, which broadcast to `size`
        (H, W); NaN where the lens takes none there."""
        return self.intrinsics.rays(size) if self.is_pinhole else _undistorted_rays(self, size)

    def notes(self, size: tuple[int, int]) -> list[str]:
        """Return what is unusual about this camera for an image of `size` (H, W). Raises DataError:
        it is the calibration of another size."""
        if self.size is not None and self.size != tuple(size):
            raise DataError(
                f"it is {size[1]}x{size[0]} and its calibration for {self.size[1]}x{self.size[0]}"
            )
        return self.intrinsics.notes(size)

    def fitted(self, size: tuple[int, int]) -> "Camera":
        """Return this camera, or raise as `notes` does."""
        self.notes(size)
        return self

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Return columns and rows (N, 2) of points (N, 3) in the camera's frame; NaN for those
        behind the camera, and for those so far aside that the distortion's polynomial turns back.
        """
        points = np.asarray(points, np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            xy = np.where(points[:, 2:] > 1e-6, points[:, :2] / points[:, 2:], np.nan)
        if not self.is_pinhole:
            xy[(xy * xy).sum(axis=1) > self._radial[0][-1] ** 2] = np.nan
            seen = np.isfinite(xy[:, 0])
            if seen.any():
                xy[seen] = self._bend(xy[seen])
        c = self.intrinsics
        return xy * (c.fx, c.fy) + (c.cx, c.cy)

    def _bend(self, slopes: np.ndarray) -> np.ndarray:
        return DISTORTIONS[self.model](slopes, np.array(self.distortion))

    @cached_property
    def _radial(self) -> tuple[np.ndarray, np.ndarray]:
        """Slopes of rays to the right (N,) and those of the pixels they meet, up to where a ray
        farther aside meets a pixel that is no farther out."""
        slopes = np.linspace(0, _STEEPEST, 2001)
        bent = self._bend(np.column_stack([slopes, np.zeros_like(slopes)]))[:, 0]
        end = next(iter(np.flatnonzero(np.diff(bent) <= 0) + 1), len(bent))
        return slopes[:end], bent[:end]

    def undistort(self, image: np.ndarray, distortion: str = "undo") -> np.ndarray:
        """Return (H, W) or (H, W, 3) pixels as the camera without distortion would take them:
        colours mixed, depth from the nearest pixel, and 0 where the image has none. As they are
        where the `distortion` is to "keep"."""
        if self.is_pinhole or distortion == "keep":
            return image
        mixing = cv2.INTER_LINEAR if image.ndim == 3 else cv2.INTER_NEAREST
        return cv2.remap(image, *_undistortion(self, image.shape[:2]), mixing)


@lru_cache(maxsize=4)
def _undistortion(camera: Camera, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the column and the row, (H, W) float32 each, that each undistorted pixel looks at."""
    rays = np.stack(np.broadcast_arrays(*camera.intrinsics.rays(size), np.float32(1)), axis=-1)
    found = camera.pixels(rays.reshape(-1, 3)).reshape(*size, 2)
    found = np.nan_to_num(found, nan=-1e4).astype(np.float32)
    return found[..., 0], found[..., 1]


@lru_cache(maxsize=4)
def _undistorted_rays(camera: Camera, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the slopes (H, W) float32 of the rays that meet the pixels of a distorted image: those
    of the radial part by a table, then Newton's method; NaN where it does not come within
    `RAY_TOLERANCE` pixels."""
    x, y = camera.intrinsics.rays(size)
    wanted = np.stack(np.broadcast_arrays(x, y), axis=-1).reshape(-1, 2).astype(np.float64)
    slopes, bent = camera._radial
    far = np.linalg.norm(wanted, axis=1, keepdims=True)
    straight = np.interp(far, bent, slopes)
    found = wanted * np.divide(straight, far, out=np.ones_like(far), where=far > 0)
    step, bend = 1e-6, camera._bend
    for _ in range(6):
        missing = wanted - bend(found)
        dx, dy = ((bend(found + step * axis) - bend(found - step * axis)) / (2 * step)
                  for axis in np.eye(2))  # fmt: skip
        determinant = dx[:, 0] * dy[:, 1] - dx[:, 1] * dy[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            move = np.column_stack([
                missing[:, 0] * dy[:, 1] - missing[:, 1] * dy[:, 0],
                missing[:, 1] * dx[:, 0] - missing[:, 0] * dx[:, 1],
            ]) / determinant[:, None]  # fmt: skip
        found += np.clip(np.nan_to_num(move), -0.1, 0.1)
    off = np.abs((bend(found) - wanted) * (camera.fx, camera.fy)).max(axis=1)
    bad = (off > RAY_TOLERANCE) | (np.linalg.norm(found, axis=1) > slopes[-1])
    found[bad] = np.nan
    return tuple(found.astype(np.float32).T.reshape(2, *size))


def splat(pixels: np.ndarray, z: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return (H, W) float32 depth of points at columns and rows `pixels` (N, 2) and depth `z` (N,):
    the nearest in a pixel hides the others, 0 where there is none."""
    with np.errstate(invalid="ignore"):
        column, row = np.floor(np.nan_to_num(pixels, nan=-9.0) + 0.5).T
        inside = (column >= 0) & (column < size[1]) & (row >= 0) & (row < size[0]) & (z > 0)
    cells, z = (row[inside] * size[1] + column[inside]).astype(np.int64), z[inside]
    order = np.argsort(-z, kind="stable")  # written last, the nearest stays
    depth = np.zeros(size, np.float32)
    depth.reshape(-1)[cells[order]] = z[order]
    return depth


def hidden(depth: np.ndarray, radius: int | None = None) -> np.ndarray:
    """Return which measurements are seen through a nearer surface, from a sensor beside the camera.

    A surface stands before a measurement where some are nearer in two opposite quadrants around it,
    such as above left and below right. The ground, nearer below alone, hides nothing, and neither
    does an object what is seen beside it.

    Args:
        depth: (H, W) metres, 0 = no measurement.
        radius: pixels to look to each side; None is `HIDDEN_RADIUS` of the width. 0 finds none.

    Returns:
        (H, W) bool.
    """
    radius = round(HIDDEN_RADIUS * depth.shape[1]) if radius is None else radius
    if radius < 1:
        return np.zeros(depth.shape, bool)
    near = np.where(depth > 0, depth, _NOTHING).astype(np.float32)
    side = 2 * radius + 1

    def nearest(rows: slice, columns: slice) -> np.ndarray:
        quadrant = np.zeros((side, side), np.uint8)
        quadrant[rows, columns] = 1
        return cv2.erode(near, quadrant, borderType=cv2.BORDER_CONSTANT, borderValue=_NOTHING)

    first, last = slice(radius + 1), slice(radius, None)
    surface = np.minimum(
        np.maximum(nearest(first, first), nearest(last, last)),
        np.maximum(nearest(first, last), nearest(last, first)),
    )
    return (depth > 0) & (depth * (1 - HIDDEN_RATIO) > surface)


def scan_depth(
    points: np.ndarray,
    extrinsics: np.ndarray,
    camera: Camera,
    size: tuple[int, int],
    *,
    radius: int | None = None,
) -> np.ndarray:
    """Return (H, W) float32 metres of a scan in a camera's image, 0 = no measurement.

    Args:
        points: (N, 3) metres in the scanner's frame; points that are not finite are left out.
        extrinsics: (4, 4) scanner to camera. radius: see `hidden`.

    Raises:
        DataError: no points, or next to none of them before the camera and in its image.
    """
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        raise DataError("its scan holds no points")

    def seen(transform: np.ndarray) -> np.ndarray:
        local = moved(points, transform)
        return splat(camera.pixels(local), local[:, 2], size)

    depth = seen(extrinsics)
    found = np.count_nonzero(depth)
    if found < max(1, min(LEAST_INSIDE * len(points), 50)):
        instead = np.count_nonzero(seen(np.linalg.inv(extrinsics)))
        hint = "is it another camera's scan, or are the extrinsics another's?"
        if instead > 10 * max(found, 10):
            hint = f"with the extrinsics turned round {instead} would: they go from scan to camera"
        raise DataError(f"{found} of {len(points)} points of its scan fall into its image; {hint}")
    depth[hidden(depth, radius)] = 0
    return depth


def scan_frame(
    rgb: np.ndarray,
    points: np.ndarray,
    extrinsics: np.ndarray,
    camera: Camera,
    name: str,
    *,
    distortion: str = "undo",
    radius: int | None = None,
    **rest: object,
) -> Frame:
    """Return the frame of an image (H, W, 3) uint8 of `camera` and a scan; see `scan_depth` and
    `Camera.seen`. `rest` are other fields of the frame."""
    taken = camera.fitted(rgb.shape[:2]).seen(distortion)
    depth = scan_depth(points, extrinsics, taken, rgb.shape[:2], radius=radius)
    return Frame(camera.undistort(rgb, distortion), depth, taken.of_frame, name, **rest)


def map_frame(
    rgb: np.ndarray,
    depth: np.ndarray,
    camera: Camera | None,
    name: str,
    *,
    distortion: str = "undo",
    **rest: object,
) -> Frame:
    """Return the frame of an image and the depth (H, W) [m] of its own pixels; see `scan_frame`.
    Without a camera its intrinsics are unknown."""
    if camera is None:
        return Frame(rgb, depth, None, name, **rest)
    taken = camera.fitted(depth.shape).seen(distortion)
    rgb, depth = (camera.undistort(image, distortion) for image in (rgb, depth))
    return Frame(rgb, depth, taken.of_frame, name, **rest)


def moved(points: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Return points (N, 3) through a transform (4, 4), in float64."""
    return points.astype(np.float64) @ transform[:3, :3].T + transform[:3, 3]


def spread(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return depth (h, w) of lower resolution as measurements in an image of `size` (H, W) that
    shows the same: each in the pixel at its own pixel's centre. Raises DataError: the two have
    another shape, so they do not show the same."""
    height, width = depth.shape
    if abs(height / width - size[0] / size[1]) > 0.02 * size[0] / size[1]:
        raise DataError(
            f"its depth is {width}x{height} and its image {size[1]}x{size[0]}, of another shape"
        )
    rows, columns = np.nonzero(depth)
    u, v = (columns + 0.5) * size[1] / width - 0.5, (rows + 0.5) * size[0] / height - 0.5
    return splat(np.column_stack([u, v]), depth[rows, columns], size)
