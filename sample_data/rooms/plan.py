"""Floor plan of a room under construction: what stands or hangs where."""

import numpy as np

from sample_data.rooms.furniture import Piece
from sample_data.scene import Kit
from sample_data.shapes import Shape, corners, rotation

# A rectangle (x0, y0, x1, y1) on the floor [m].
Area = tuple[float, float, float, float]


class Plan:
    """Places pieces so that they touch neither each other nor the structure of the room."""

    def __init__(self, kit: Kit, size: np.ndarray) -> None:
        self.kit, self.size = kit, size  # (3,) inner size of the room [m]
        self.shapes: list[Shape] = []
        self.lamps: list[tuple[str, np.ndarray]] = []  # (name of the piece, world position)
        self.solid: list[Area] = []  # inner walls, columns, openings: closed to everything
        self.floor: list[Area] = []  # taken by furniture, or kept free before a door
        self.tall: list[Area] = []  # furniture that would hide a picture
        self.hung: list[Area] = []  # taken on walls
        self.bright: list[Area] = []  # windows, which tall furniture does not hide
        self.roof: tuple[np.ndarray, np.ndarray] | None = None  # point and normal of a slope

    def against_wall(self, piece: Piece, zone: Area, name: str = "") -> None:
        """Try a few spots along the walls of a zone, the back of the piece to the wall.

        Doors, windows and pictures (`name` "door", "window" or "hung") hang, others stand.
        """
        x0, y0, x1, y1 = zone
        walls = [
            (x0, y0, 1, 0, x1 - x0, 0.0),
            (x1, y0, 0, 1, y1 - y0, np.pi / 2),
            (x1, y1, -1, 0, x1 - x0, np.pi),
            (x0, y1, 0, -1, y1 - y0, -np.pi / 2),
        ]
        width, depth = piece.size
        for _ in range(6):
            x, y, dx, dy, length, yaw = walls[self.kit.count(0, 3)]
            if width > length:
                continue
            along = self.kit.between(width / 2, length - width / 2)
            off = depth / 2 + (0.0 if name else self.kit.between(0.01, 0.06))
            centre = np.array([x + dx * along - dy * off, y + dy * along + dx * off, 0.0])
            # The origin of a hanging piece is at the wall, of a standing one in its middle.
            origin = centre + (np.array([dy, -dx, 0.0]) * off if name else 0.0)
            if self._put(piece, yaw, centre, origin, zone, name):
                return

    def anywhere(self, piece: Piece, zone: Area) -> None:
        """Try a few spots of a zone at any angle."""
        for _ in range(8):
            spot = np.array([self.kit.between(zone[k], zone[k + 2]) for k in (0, 1)] + [0.0])
            if self._put(piece, self.kit.between(0, 2 * np.pi), spot, spot, zone):
                return

    def _put(self, piece, yaw, centre, origin, zone, name="") -> bool:
        """Add a piece if its turned footprint about `centre` is inside the zone and free."""
        reach = np.abs(rotation(yaw)[:2, :2]) @ np.array(piece.size) / 2
        area = (*(centre[:2] - reach), *(centre[:2] + reach))
        if any(area[k] < zone[k] - 1e-6 or area[k + 2] > zone[k + 2] + 1e-6 for k in (0, 1)):
            return False
        shapes = [shape.moved(yaw, origin) for shape in piece.shapes]
        points = corners(shapes)
        tall = not name and points[..., 2].max() > 1.0
        taken = self.hung + self.tall if name else self.floor + (self.bright if tall else [])
        if any(_overlap(area, other) for other in taken + self.solid):
            return False
        if self.roof is not None and ((points - self.roof[0]) @ self.roof[1]).max() > 0:
            return False
        self.shapes += shapes
        self.lamps += [(name, rotation(yaw) @ lamp + origin) for lamp in piece.lamps]
        (self.hung if name else self.floor).append(area)
        if tall:
            self.tall.append(area)
        if name == "door":
            self.floor.append(_grown(area, 0.4))
        if name == "window":
            self.bright.append(_grown(area, 0.1))
        return True


def _grown(area: Area, margin: float) -> Area:
    return area[0] - margin, area[1] - margin, area[2] + margin, area[3] + margin


def _overlap(a: Area, b: Area, gap: float = 0.02) -> bool:
    return all(a[k] < b[k + 2] + gap and b[k] < a[k + 2] + gap for k in (0, 1))
