"""Where a road runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Arc:
    """Centre line of a road, an arc.

    Args:
        start: (2,) world position of s = 0 [m].
        curvature: 1 / radius [1 / m], positive to the left; heading at s = 0 is along +x.
    """

    start: np.ndarray
    curvature: float

    def at(self, s: float, d: float, z: float = 0.0) -> tuple[float, np.ndarray]:
        """Heading [rad] and world position (3,) [m] of a place beside the centre line."""
        yaw = self.curvature * s
        if abs(self.curvature) < 1e-6:
            x, y = s, 0.0
        else:
            x, y = np.sin(yaw) / self.curvature, (1 - np.cos(yaw)) / self.curvature
        spot = [self.start[0] + x - d * np.sin(yaw), self.start[1] + y + d * np.cos(yaw), z]
        return yaw, np.array(spot)
