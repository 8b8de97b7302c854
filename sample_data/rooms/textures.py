"""Procedural textures of the sample rooms: wood, tiles, plaster, fabrics, pictures, ...

Every texture is a (S, S, 3) uint8 sRGB tile with S = SIZE that repeats without a seam unless its
material covers a face exactly once. `Atlas` packs the tiles of a scene with their mip levels.
"""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

SIZE = 512
LEVELS = 9  # 512, 256, ..., 2


def noise(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """(S, S) float32 smooth noise in [0, 1] that wraps around, with `rows` x `columns` cells."""
    grid = np.pad(rng.random((rows, columns), dtype=np.float32), 2, mode="wrap")
    size = (SIZE * (columns + 4) // columns, SIZE * (rows + 4) // rows)
    wide = cv2.resize(grid, size, interpolation=cv2.INTER_LINEAR)
    top, left = 2 * SIZE // rows, 2 * SIZE // columns
    return wide[top : top + SIZE, left : left + SIZE]


def fractal(rng: np.random.Generator, cells: int, octaves: int = 3) -> np.ndarray:
    """(S, S) float32 sum of noises with halving amplitude, in [0, 1]."""
    layers = [noise(rng, cells << k, cells << k) * 0.5**k for k in range(octaves)]
    return sum(layers) / np.float32(2 - 0.5 ** (octaves - 1))


def colour(
    rng: np.random.Generator,
    value: tuple[float, float],
    saturation: tuple[float, float] = (0.05, 0.5),
    hue: tuple[float, float] | None = None,
) -> np.ndarray:
    """(3,) float32 random RGB in [0, 255] with HSV components in the given ranges.

    Without a hue range most colours are the warm ones of real rooms; strong colours are rare.
    """
    if hue is None:
        hue = (0.01, 0.15) if rng.random() < 0.55 else (0.0, 1.0)
    share = rng.random() ** 1.25
    s = saturation[0] + (saturation[1] - saturation[0]) * share
    h, v = rng.uniform(*hue), rng.uniform(*value)
    return np.array(colorsys.hsv_to_rgb(h % 1, s, v), dtype=np.float32) * 255


def _paint(base: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """A colour (3,) or picture (S, S, 3) times a grey gain (S, S), as uint8."""
    return np.clip(base * gain[..., None], 0, 255).astype(np.uint8)


def _mix(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return first + (second - first) * weight[..., None]


def _ramp() -> np.ndarray:
    return np.arange(SIZE, dtype=np.float32) / SIZE


def plaster(rng: np.random.Generator) -> np.ndarray:
    """Painted wall: nearly one colour with faint blotches and grain."""
    base = colour(rng, (0.5, 0.95), (0.0, 0.35))
    gain = 0.93 + 0.08 * fractal(rng, 4) + 0.05 * noise(rng, 128, 128)
    return _paint(base, gain)


def wallpaper(rng: np.random.Generator) -> np.ndarray:
    """Wall paper: stripes, dots or a diamond pattern of two related colours."""
    base = colour(rng, (0.55, 0.92), (0.05, 0.35))
    other = base * rng.uniform(0.62, 0.88) if rng.random() < 0.75 else colour(rng, (0.4, 0.9))
    u, v = np.meshgrid(_ramp(), _ramp())
    count = int(rng.integers(3, 9))
    kind = rng.integers(3)
    if kind == 0:
        wave = np.sin(2 * np.pi * count * u)
    elif kind == 1:
        wave = np.sin(2 * np.pi * count * u) * np.sin(2 * np.pi * count * v) - 0.45
    else:
        wave = np.sin(2 * np.pi * count * (u + v)) + np.sin(2 * np.pi * count * (u - v)) - 0.6
    pattern = _mix(base, other, np.clip(wave * 4 + 0.5, 0, 1))
    return _paint(pattern, 0.94 + 0.1 * noise(rng, 96, 96))


def brick(rng: np.random.Generator) -> np.ndarray:
    """Running-bond bricks with light joints."""
    brick_colour = colour(rng, (0.35, 0.8), (0.1, 0.65), (0.0, 0.09))
    return _blocks(rng, brick_colour, rows=12, columns=4, joint=0.05, shift=0.5)


def tiles(rng: np.random.Generator) -> np.ndarray:
    """Square floor or wall tiles, plain or as a chequerboard."""
    base = colour(rng, (0.35, 0.92), (0.0, 0.3))
    count = 2 * int(rng.integers(1, 4))
    other = colour(rng, (0.15, 0.6), (0.0, 0.3)) if rng.random() < 0.4 else None
    return _blocks(rng, base, rows=count, columns=count, joint=0.02, shift=0.0, other=other)


def _blocks(rng, base, *, rows, columns, joint, shift, other=None):
    """Blocks in rows with joints; every second row is shifted by a share of a block."""
    v, u = np.meshgrid(_ramp() * rows, _ramp() * columns, indexing="ij")
    row = v.astype(np.int32)
    u = u + shift * (row % 2)
    column = u.astype(np.int32) % columns
    shade = 0.82 + 0.3 * rng.random((rows, columns), dtype=np.float32)
    picture = np.broadcast_to(base, (SIZE, SIZE, 3))
    if other is not None:
        picture = _mix(base, other, ((row + column) % 2).astype(np.float32))
    gain = shade[row, column] * (0.86 + 0.2 * fractal(rng, 8))
    aspect = columns / rows
    edge = np.minimum(np.minimum(v % 1, 1 - v % 1), np.minimum(u % 1, 1 - u % 1) / aspect)
    seam = (edge < joint).astype(np.float32)
    joint_colour = np.full(3, rng.uniform(70, 200), np.float32)
    return _mix(picture * gain[..., None], joint_colour, seam).clip(0, 255).astype(np.uint8)


def _grain(rng: np.random.Generator) -> np.ndarray:
    """(S, S) float32 wood grain running along u, in [0, 1]."""
    bend = noise(rng, 6, 2)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (bend * rng.uniform(3, 7) + 3 * noise(rng, 24, 2)))
    return 0.6 * rings + 0.4 * noise(rng, 256, 8)


def _wood_colour(rng: np.random.Generator) -> np.ndarray:
    return colour(rng, (0.28, 0.85), (0.3, 0.7), (0.04, 0.11))


def wood(rng: np.random.Generator) -> np.ndarray:
    """Solid wood or veneer, grain along u."""
    return _paint(_wood_colour(rng), 0.68 + 0.42 * _grain(rng))


def planks(rng: np.random.Generator) -> np.ndarray:
    """Floor boards along u with dark seams and a shade of their own."""
    rows = int(rng.choice([4, 8, 16]))
    v = _ramp() * rows
    row = v.astype(np.int32)
    shade = (0.75 + 0.4 * rng.random(rows, dtype=np.float32))[row][:, None]
    starts = rng.integers(0, SIZE, rows)[row][:, None]
    along = (np.arange(SIZE)[None] + starts) % SIZE
    gain = shade * (0.72 + 0.36 * np.take_along_axis(_grain(rng), along, axis=1))
    dark = (np.minimum(v % 1, 1 - v % 1)[:, None] * SIZE / rows < 1.2) | (along < 3)
    return _paint(_wood_colour(rng), np.where(dark, 0.4 * gain, gain))


def carpet(rng: np.random.Generator) -> np.ndarray:
    """Pile carpet: one colour, strong fine grain, faint stains."""
    base = colour(rng, (0.25, 0.75), (0.05, 0.5))
    gain = 0.55 + 0.4 * rng.random((SIZE, SIZE), dtype=np.float32) + 0.25 * fractal(rng, 4)
    return _paint(base, gain)


def fabric(rng: np.random.Generator) -> np.ndarray:
    """Cloth: plain weave, stripes or plaid."""
    base, other = colour(rng, (0.2, 0.9), (0.1, 0.8)), colour(rng, (0.15, 0.95), (0.1, 0.8))
    kind = rng.integers(4)
    count = int(rng.integers(3, 12))
    stripe = (np.sin(2 * np.pi * count * _ramp()) > rng.uniform(-0.4, 0.7)).astype(np.float32)
    weight = np.zeros((SIZE, SIZE), np.float32)
    if kind in (1, 2):
        weight = weight + 0.5 * stripe[None]
    if kind == 2:
        weight = weight + 0.5 * stripe[:, None]
    weave = 0.8 + 0.2 * noise(rng, 256, 256) + 0.15 * fractal(rng, 4)
    return _paint(_mix(base, other, weight), weave)


def plain(rng: np.random.Generator) -> np.ndarray:
    """Painted or moulded surface of one, often vivid, colour."""
    base = colour(rng, (0.12, 0.95), (0.0, 0.85))
    return _paint(base, 0.92 + 0.1 * fractal(rng, 4))


def white(rng: np.random.Generator) -> np.ndarray:
    """Off-white paint for ceilings, skirting and frames."""
    return _paint(colour(rng, (0.82, 0.97), (0.0, 0.08)), 0.95 + 0.05 * noise(rng, 64, 64))


def metal(rng: np.random.Generator) -> np.ndarray:
    """Brushed or lacquered metal."""
    base = colour(rng, (0.2, 0.75), (0.0, 0.1))
    return _paint(base, 0.8 + 0.3 * noise(rng, 256, 4))


def leaf(rng: np.random.Generator) -> np.ndarray:
    """Foliage: mottled greens."""
    base = colour(rng, (0.25, 0.6), (0.4, 0.8), (0.2, 0.38))
    return _paint(base, 0.3 + 1.1 * noise(rng, 64, 64) * (0.5 + noise(rng, 16, 16)))


def screen(rng: np.random.Generator) -> np.ndarray:
    """A switched-off display: almost black."""
    return _paint(np.full(3, rng.uniform(14, 34), np.float32), 0.8 + 0.4 * noise(rng, 2, 2))


def glow(rng: np.random.Generator) -> np.ndarray:
    """Lamp shade or globe."""
    return _paint(
        colour(rng, (0.92, 1.0), (0.02, 0.25), (0.08, 0.15)), 0.95 + 0.05 * noise(rng, 4, 4)
    )


class Atlas:
    """All tiles of one scene with their mip levels, looked up by nearest texel.

    Args:
        pictures: (S, S, 3) uint8 sRGB tiles by material number.
    """

    def __init__(self, pictures: dict[int, np.ndarray]) -> None:
        self.sizes = np.array([SIZE >> level for level in range(LEVELS)], dtype=np.int32)
        ends = np.cumsum(self.sizes**2)
        self.levels = (ends - self.sizes**2).astype(np.int32)
        # Linear light in float32; sRGB is close to a power of 2.2.
        self._linear = ((np.arange(256) / 255) ** 2.2).astype(np.float32)
        # Materials without a tile are never looked up; they point at the first one.
        self._starts = np.zeros(max(pictures) + 1, np.int32)
        self._texels = np.empty(len(pictures) * int(ends[-1]), np.uint32)
        for order, (material, picture) in enumerate(pictures.items()):
            start = self._starts[material] = order * int(ends[-1])
            rgba = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)
            for end, size in zip(ends, self.sizes, strict=True):
                if size < SIZE:
                    rgba = cv2.resize(rgba, (int(size),) * 2, interpolation=cv2.INTER_AREA)
                self._texels[start + end - size**2 : start + end] = rgba.view(np.uint32).ravel()

    def lookup(
        self, material: np.ndarray, u: np.ndarray, v: np.ndarray, texels: np.ndarray
    ) -> list[np.ndarray]:
        """Linear albedo at texture coordinates.

        Args:
            material: (N,) int32 tile number.
            u, v: (N,) float32 coordinates; one unit is one tile, whole parts are ignored.
            texels: (N,) float32 footprint of a pixel in texels of level 0.

        Returns:
            three (N,) float32 arrays, red, green and blue albedo in [0, 1].
        """
        level = np.log2(np.maximum(texels, 1)).astype(np.int32)
        np.minimum(level, LEVELS - 1, out=level)
        size = self.sizes.take(level)
        column = ((u - np.floor(u)) * size).astype(np.int32)
        row = ((v - np.floor(v)) * size).astype(np.int32)
        # float32 rounding can lift a fraction just below one to exactly one.
        np.minimum(column, size - 1, out=column)
        np.minimum(row, size - 1, out=row)
        index = self._starts.take(material) + self.levels.take(level) + row * size + column
        rgba = self._texels.take(index).view(np.uint8).reshape(-1, 4)
        return [self._linear.take(rgba[:, channel]) for channel in range(3)]
