"""The measuring car: two cameras and a LiDAR on one roof."""

from dataclasses import dataclass

import numpy as np

from sample_data.camera import Camera, camera_axes, pinhole

# Rectified colour cameras of KITTI odometry, about the same in all sequences.
WIDTH, HEIGHT = 1242, 375
FOCAL = 718.86  # [pixels]
CX, CY = 607.19, 185.22
BASELINE = 0.54  # [m] from the left to the right camera
CAMERA_HEIGHT = 1.65  # [m] above the road
CAMERAS = ("L", "R")
LIDAR_OFFSET = np.array([0.06, -0.08, -0.27])  # in the frame of the left camera [m]


@dataclass(frozen=True)
class Rig:
    """Where the sensors are at one moment."""

    position: np.ndarray  # (3,) of the left camera in the world [m]
    axes: np.ndarray  # (3, 3) columns are right, down and forward of both cameras in the world
    mount: np.ndarray  # (3, 3) rotation from the LiDAR's frame to the cameras'

    def camera(self, side: str) -> Camera:
        """Return the left ("L") or right ("R") camera."""
        shift = self.axes[:, 0] * (BASELINE if side == "R" else 0.0)
        return pinhole(self.position + shift, self.axes, (WIDTH, HEIGHT), FOCAL, (CX, CY))

    def lidar(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the world position (3,) [m] and camera-like axes (3, 3) of the LiDAR."""
        return self.position + self.axes @ LIDAR_OFFSET, self.axes @ self.mount


def rig_at(ground: np.ndarray, yaw: float, pitch: float, roll: float, mount: np.ndarray) -> Rig:
    """Return the rig of a car at `ground` (3,) [m], turned by angles [rad] of `camera_axes`."""
    position = np.asarray(ground, float) + np.array([0.0, 0.0, CAMERA_HEIGHT])
    return Rig(position, camera_axes(yaw, pitch, roll), mount)


def draw_mount(rng: np.random.Generator) -> np.ndarray:
    """Draw a (3, 3) rotation of a LiDAR fixed a little askew: it looks up by most of a degree."""
    angles = np.radians([rng.normal(0, 0.25), rng.uniform(0.6, 0.9), rng.uniform(-0.2, 0.2)])
    return camera_axes().T @ camera_axes(*angles)
