"""Where a road runs, and its two sides: pavement, and the houses, gardens or trees behind it."""

from dataclasses import dataclass

import numpy as np

from sample_data.scene import Kit
from sample_data.shapes import Shape, box
from sample_data.streets import buildings, roadside, vehicles

KERB = 0.12  # [m] height of the pavement above the road
BACK = -16.0  # [m] where a street begins, behind the first camera position
_STEP = 8.0  # [m] length of one piece of pavement


@dataclass(frozen=True)
class Arc:
    """Centre line of a road, an arc that begins along +x."""

    start: np.ndarray  # (2,) world position of s = 0 [m]
    curvature: float  # 1 / radius [1 / m], positive to the left

    def at(self, s: float, d: float, z: float = 0.0) -> tuple[float, np.ndarray]:
        """Return heading [rad] and world position (3,) [m], d metres left of the centre line."""
        yaw = self.curvature * s
        if abs(self.curvature) < 1e-6:
            x, y = s, 0.0
        else:
            x, y = np.sin(yaw) / self.curvature, (1 - np.cos(yaw)) / self.curvature
        spot = [self.start[0] + x - d * np.sin(yaw), self.start[1] + y + d * np.cos(yaw), z]
        return yaw, np.array(spot)


class Side:
    """Builds the left (sign 1) or right (-1) side of a street, its kerb `edge` [m] from `path`."""

    def __init__(self, kit: Kit, path: Arc, sign: int, edge: float, length: float) -> None:
        self.kit, self.path, self.sign, self.edge, self.length = kit, path, sign, edge, length
        self.shapes: list[Shape] = []
        self.openings: list[tuple[float, float]] = []  # (from, to) of side streets [m]

    def put(
        self, piece: list[Shape], s: float, away: float, z: float = KERB, yaw: float = 0.0
    ) -> None:
        """Add a piece `away` metres from the centre line, its y axis pointing off the road."""
        heading, spot = self.path.at(s, self.sign * away, z)
        turn = heading + (0.0 if self.sign > 0 else np.pi) + yaw
        self.shapes += [shape.moved(turn, spot) for shape in piece]

    def is_open(self, s: float, margin: float) -> bool:
        """Return whether a side street leaves here."""
        return any(low - margin < s < high + margin for low, high in self.openings)

    def build(self, style: str) -> None:
        """Fill the side: "town" houses in a row, "suburb" gardens, "avenue" trees and woods."""
        kit = self.kit
        if kit.chance(0.7):
            start = kit.between(12, min(80, self.length))
            self.openings.append((start, start + kit.between(6.5, 9.0)))
        walk = kit.between(1.6, 3.2)
        front = self.edge + walk
        {"town": self._town, "suburb": self._suburb, "avenue": self._avenue}[style](front)
        self._ground(front, "paving" if style == "town" else "grass")
        self._furnish(walk, style)

    def _ground(self, front: float, behind: str) -> None:
        """Lay kerb, pavement and the ground beyond it, in pieces that follow the bend."""
        paving, ground, stone = self.kit.draw("paving", behind, "concrete")
        flat = {"casts_shadow": False}
        middle, wide = (self.edge + 0.15 + front) / 2, front - self.edge - 0.15
        bounds = [BACK - 14, *(x for pair in self.openings for x in pair), self.length + 30]
        for low, high in zip(bounds[::2], bounds[1::2], strict=True):
            count = max(1, round((high - low) / _STEP))
            long = (high - low) / count
            # Pieces overlap a little, or the outer bend would show gaps.
            walk = box((0, 0, -KERB / 2), (long + 0.05, wide, KERB), paving, **flat)
            kerb = box((0, 0, -KERB / 2), (long + 0.02, 0.15, KERB + 0.01), stone, **flat)
            for s in low + long * (np.arange(count) + 0.5):
                self.put([walk], s, middle)
                self.put([kerb], s, self.edge + 0.075)
                overlap = 0.0 if self.is_open(s, long / 2 + 1.6) else 3.0
                size = (long + overlap, 60.0, KERB - 0.02)
                self.put([box((0, 30, -KERB / 2), size, ground, **flat)], s, front)

    def _town(self, front: float) -> None:
        """Put houses wall to wall; a side street runs between two to a house at its end."""
        kit, s = self.kit, BACK
        while s < self.length:
            width = buildings.BAY * kit.count(3, 7)
            clash = [high for low, high in self.openings if s + width > low and s < high]
            if clash:
                s = clash[0]
                continue
            set_back = kit.between(0.0, 0.4)
            self.put(buildings.block(kit, width), s + width / 2, front + set_back)
            s += width + (kit.between(2, 5) if kit.chance(0.12) else 0.0)
        for low, high in self.openings:
            self.put(buildings.block(kit, 15.0), (low + high) / 2, front + kit.between(24, 40))

    def _suburb(self, front: float) -> None:
        """Put houses in gardens with hedges, fences, garages and trees."""
        kit, s = self.kit, BACK
        while s < self.length:
            plot = kit.between(13, 21)
            middle = s + plot / 2
            if self.is_open(middle, plot / 2):
                s += 4.0
                continue
            set_back, width = kit.between(3.0, 8.0), buildings.BAY * kit.count(3, 4)
            self.put(buildings.house(kit, width), middle - 1.0, front + set_back)
            gate = kit.between(2.8, 4.0)
            if plot - width > 5 or kit.chance(0.4):
                self.put(buildings.garage(kit), s + plot - 2.0, front + kit.between(4, 6))
            if kit.chance(0.85):
                fence = buildings.border(kit, plot - gate - 0.4, kit.between(0.9, 1.7))
                self.put(fence, s + (plot - gate) / 2, front)
            for _ in range(kit.count(0, 2)):
                away = front + kit.between(1.5, set_back + 0.5)
                spot = s + kit.between(0.1, 0.8) * plot
                if kit.chance(0.6):
                    self.put(roadside.tree(kit, kit.between(0.5, 0.9)), spot, away)
                else:
                    self.put(roadside.bush(kit, kit.between(0.6, 1.2)), spot, away)
            if kit.chance(0.6):
                back = front + set_back + kit.between(14, 20)
                self.put(roadside.tree(kit, kit.between(1.0, 1.6), 0.6), middle, back)
            s += plot

    def _avenue(self, front: float) -> None:
        """Put a row of trees or a crash barrier, then woods, a long hedge, or open ground."""
        kit = self.kit
        rail, wooded, step = kit.chance(0.45), kit.chance(0.65), kit.between(7, 12)
        away = kit.between(3.0, 9.0)
        for s in np.arange(BACK, self.length, 10.0):
            if self.is_open(s, 6.0):
                continue
            if rail:
                self.put(roadside.guard_rail(kit, 10.05), s, front + 0.2)
            if wooded:
                self.put(roadside.woods(kit, 10.0), s, front + away)
            elif kit.chance(0.8):
                self.put(buildings.hedge(kit, 10.0, kit.between(1.2, 2.4)), s, front + away)
        if not rail or kit.chance(0.3):
            for s in np.arange(BACK + kit.between(0, 5), self.length, step):
                if not self.is_open(s, 1.5):
                    self.put(roadside.tree(kit, kit.between(0.8, 1.1)), s, front + 0.9)
        if not wooded:
            # Open ground ends at trees, not at the horizon.
            far = front + kit.between(28, 48)
            for s in np.arange(BACK, self.length, 7.0):
                self.put(roadside.tree(kit, kit.between(1.0, 1.7), 0.4), s, far + kit.between(0, 8))
                self.put(roadside.bush(kit, 2.2), s + 3, far)
            for _ in range(kit.count(4, 9)):
                s, far = kit.between(10, self.length), front + kit.between(16, 50)
                if kit.chance(0.35):
                    self.put(buildings.house(kit, 12.0), s, far)
                else:
                    self.put(roadside.tree(kit, kit.between(1.0, 1.8), 0.6), s, far)

    def _furnish(self, walk: float, style: str) -> None:
        """Put lamps, signs, bins, young trees and people on the pavement."""
        kit = self.kit
        gap = kit.between(18, 32)
        for s in np.arange(kit.between(-8, 8), self.length, gap):
            if not self.is_open(s, 1.0):
                self.put(roadside.lamp_post(kit), s, self.edge + 0.45)
        makers = [roadside.sign_post, roadside.bin_or_box, roadside.sign_post]
        for s in np.arange(4, self.length, 9.0):
            s += kit.between(0, 6)
            if self.is_open(s, 0.8):
                continue
            if kit.chance(0.5):
                self.put(makers[kit.count(0, 2)](kit), s, self.edge + kit.between(0.4, 0.8))
            if style != "avenue" and kit.chance(0.35):
                away = self.edge + kit.between(1.0, walk - 0.2)
                turn = np.pi * kit.count(0, 1) + kit.between(-0.3, 0.3)
                self.put(roadside.person(kit), s + 2, away, yaw=turn)
            if style == "town" and walk > 2.4 and kit.chance(0.3):
                self.put(roadside.tree(kit, kit.between(0.5, 0.75)), s + 4, self.edge + 0.8)
        for s in (s for low, high in self.openings for s in (low - 0.6, high + 0.6)):
            if kit.chance(0.4):
                self.put(roadside.traffic_light(kit), s, self.edge + 0.5)

    def park(self, edge: float, inside: bool) -> None:
        """Park vehicles in the parking lane, else at times with two wheels on the kerb."""
        kit = self.kit
        density = kit.between(0.3, 0.9) if inside else kit.between(0.0, 0.3)
        s = BACK + kit.between(0, 6)
        while s < self.length - 10:
            # A lorry with wheels on the kerb would fill the picture of a camera that passes.
            shapes = vehicles.vehicle(kit) if inside else vehicles.car(kit)
            long = vehicles.length_of(shapes)
            if kit.chance(density) and not self.is_open(s + long / 2, long / 2 + 2.0):
                away = edge - 1.05 if inside else edge + 0.75
                yaw = np.pi * kit.chance(0.15) + kit.between(-0.03, 0.03)
                # On the right side the piece frame looks back along the street already.
                yaw = yaw + (0.0 if self.sign < 0 else np.pi) + np.pi
                self.put(shapes, s + long / 2, away, 0.0 if inside else KERB, yaw)
            s += long + kit.between(0.7, 2.5)
