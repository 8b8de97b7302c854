"""What a network is given for one image, and what it says about it.

H, W the image; h, w what the network is given.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dataloaders.errors import counted


@dataclass(frozen=True)
class Prediction:
    """What the network says about one image.

    depth: (H, W) float32 metres, refined. It is a regression: nothing keeps it positive.
    coarse_depth: (H, W) float32 metres, before the refinement; the same as `depth` without one.
    resize: "training" or "none", as it was run.
    network_size: (h, w) that the network saw.
    tiles: how many overlapping tiles that took.
    measurements: how many were given.
    used: how many of them the network saw; fewer where some met in one pixel or were thinned.
    expected: how many training gave the network in an image of that size, None where unknown or
        where it takes any number.
    error: (H, W) float32 metres, the absolute error of `depth` that the network expects; None of a
        network without that estimate. It is the scale of a Laplace distribution: nine pixels in ten
        should be within 2.3 times of it.
    """

    depth: np.ndarray
    coarse_depth: np.ndarray
    resize: str
    network_size: tuple[int, int]
    tiles: int
    measurements: int
    used: int
    expected: int | None
    error: np.ndarray | None = None

    def seen(self) -> str:
        """Return what the network was given, as a clause."""
        height, width = self.network_size
        scale = {"training": "the training scale", "none": "its own size"}[self.resize]
        tiles = f" in {self.tiles} tiles" if self.tiles > 1 else ""
        measurements = counted(self.used, "measurement")
        return f"the network saw {width}x{height} ({scale}){tiles}, {measurements}"

    def notes(self) -> list[str]:
        """Return what a user should know before trusting the depth, a clause each."""
        notes, dropped = [], self.measurements - self.used
        if dropped and self.used == self.expected:
            notes.append(
                f"{counted(dropped, 'measurement')} beyond training's density dropped (--no-thin)"
            )
        elif dropped > 0.1 * self.measurements:
            notes.append(f"{counted(dropped, 'measurement')} dropped for another in the same pixel")
        trained = f"training gave the network {self.expected} measurements here"
        if not self.used:
            notes.append("without any measurement the depth is a guess from the colours alone")
        elif self.expected and self.used < 0.5 * self.expected:
            notes.append(f"{trained}; expect worse depth")
        elif self.expected and self.used > 2 * self.expected:
            notes.append(f"{trained}; more can hurt")
        behind = float((self.depth <= 0).mean())
        if behind:
            notes.append(f"{behind:.3%} of the pixels are not positive: 0 in the PNG, no points")
        return notes


class Prepared(NamedTuple):
    """An image as the network takes it.

    rgb: (h, w, 3) uint8. sparse_depth: (h, w) float32 metres, 0 = no measurement. Both go beyond
    `size` where that is below the network's smallest. own_size: (H, W) of the image.
    size, measurements, used, expected: see `Prediction`, where the first is `network_size`.
    """

    rgb: np.ndarray
    sparse_depth: np.ndarray
    own_size: tuple[int, int]
    size: tuple[int, int]
    measurements: int
    used: int
    expected: int | None
