"""Procedural textures: noise, colours, the painters that both sets use, and the atlas of a scene.

A painter draws from a random stream and returns a (S, S, 3) uint8 sRGB tile with S = SIZE, which
repeats without a seam unless its material covers a face exactly once.
"""

import colorsys
from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

SIZE = 512
LEVELS = 9  # 512, 256, ..., 2
RAMP = np.arange(SIZE, dtype=np.float32) / SIZE

Range = tuple[float, float]
Painter = Callable[[Generator], np.ndarray]


def noise(rng: Generator, rows: int, columns: int) -> np.ndarray:
    """Return (S, S) float32 smooth noise in [0, 1] that wraps, with `rows` x `columns` cells."""
    grid = np.pad(rng.random((rows, columns), dtype=np.float32), 2, mode="wrap")
    size = (SIZE * (columns + 4) // columns, SIZE * (rows + 4) // rows)
    wide = cv2.resize(grid, size, interpolation=cv2.INTER_LINEAR)
    top, left = 2 * SIZE // rows, 2 * SIZE // columns
    return wide[top : top + SIZE, left : left + SIZE]


def fractal(rng: Generator, cells: int, octaves: int = 3) -> np.ndarray:
    """Return the (S, S) float32 sum of noises with halving amplitude, in [0, 1]."""
    layers = [noise(rng, cells << k, cells << k) * 0.5**k for k in range(octaves)]
    return sum(layers) / np.float32(2 - 0.5 ** (octaves - 1))


def colour(
    rng: Generator, value: Range, saturation: Range = (0.05, 0.5), hue: Range | None = None
) -> np.ndarray:
    """Draw a (3,) float32 RGB in [0, 255] with HSV components in the given ranges.

    Without a hue range most colours are the warm ones of real rooms; strong colours are rare.
    """
    if hue is None:
        hue = (0.01, 0.15) if rng.random() < 0.55 else (0.0, 1.0)
    s = saturation[0] + (saturation[1] - saturation[0]) * rng.random() ** 1.25
    h, v = rng.uniform(*hue), rng.uniform(*value)
    return np.array(colorsys.hsv_to_rgb(h % 1, s, v), dtype=np.float32) * 255


def canvas_of(rgb: np.ndarray) -> np.ndarray:
    """Return a (S, S, 3) float32 picture to draw on, of a colour (3,) or a gradient (S, 1, 3)."""
    return np.array(np.broadcast_to(rgb, (SIZE, SIZE, 3)), np.float32, order="C")


def paint(picture: np.ndarray, gain: np.ndarray | float = 1.0) -> np.ndarray:
    """Return a colour (3,) or picture (S, S, 3) times a grey gain (S, S) as a uint8 tile."""
    gain = np.broadcast_to(np.asarray(gain, np.float32), (SIZE, SIZE))
    return np.clip(picture * gain[..., None], 0, 255).astype(np.uint8)


def mix(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Blend two colours or pictures; `weight` (S, S) is that of the second."""
    return first + (second - first) * weight[..., None]


def flat(base: Painter, offset: float | Painter, *layers: tuple) -> Painter:
    """Return the painter of a surface of one colour with a grey grain.

    Args:
        base: draws the (3,) colour. offset: grey gain, or what draws it; 1 is the colour itself.
        layers: added to it, (amplitude, rows, columns) of `noise` or (amplitude, cells) of
            `fractal`.
    """

    def painter(rng: Generator) -> np.ndarray:
        rgb = base(rng)
        gain = offset(rng) if callable(offset) else offset
        for amplitude, *cells in layers:
            gain = gain + amplitude * (fractal if len(cells) == 1 else noise)(rng, *cells)
        return paint(rgb, gain)

    return painter


def hsv(*ranges: Range) -> Painter:
    """Return what draws a colour with HSV components in the ranges, see `colour`."""
    return lambda rng: colour(rng, *ranges)


# Painted walls, nearly of one colour with faint blotches and grain; moulded surfaces of one, often
# vivid, colour; brushed or lacquered metal.
plaster = flat(hsv((0.5, 0.95), (0.0, 0.35)), 0.93, (0.08, 4), (0.05, 128, 128))
plain = flat(hsv((0.12, 0.95), (0.0, 0.85)), 0.92, (0.1, 4))
metal = flat(hsv((0.2, 0.75), (0.0, 0.1)), 0.8, (0.3, 256, 4))

wood_colour = hsv((0.28, 0.85), (0.3, 0.7), (0.04, 0.11))


def grain(rng: Generator) -> np.ndarray:
    """Return (S, S) float32 wood grain running along u, in [0, 1]."""
    bend = noise(rng, 6, 2)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (bend * rng.uniform(3, 7) + 3 * noise(rng, 24, 2)))
    return 0.6 * rings + 0.4 * noise(rng, 256, 8)


def planks(rng: Generator) -> np.ndarray:
    """Paint floor boards along u with dark seams and a shade of their own."""
    rows = int(rng.choice([4, 8, 16]))
    v = RAMP * rows
    row = v.astype(np.int32)
    shade = (0.75 + 0.4 * rng.random(rows, dtype=np.float32))[row][:, None]
    starts = rng.integers(0, SIZE, rows)[row][:, None]
    along = (np.arange(SIZE)[None] + starts) % SIZE
    gain = shade * (0.72 + 0.36 * np.take_along_axis(grain(rng), along, axis=1))
    dark = (np.minimum(v % 1, 1 - v % 1)[:, None] * SIZE / rows < 1.2) | (along < 3)
    return paint(wood_colour(rng), np.where(dark, 0.4 * gain, gain))


def brick(rng: Generator) -> np.ndarray:
    """Paint running-bond bricks with light joints."""
    base = colour(rng, (0.35, 0.8), (0.1, 0.65), (0.0, 0.09))
    return _blocks(rng, base, rows=12, columns=4, joint=0.05, shift=0.5)


def tiles(rng: Generator) -> np.ndarray:
    """Paint square floor or wall tiles, plain or as a chequerboard."""
    base = colour(rng, (0.35, 0.92), (0.0, 0.3))
    count = 2 * int(rng.integers(1, 4))
    other = colour(rng, (0.15, 0.6), (0.0, 0.3)) if rng.random() < 0.4 else None
    return _blocks(rng, base, rows=count, columns=count, joint=0.02, other=other)


def _blocks(rng, base, *, rows, columns, joint, shift=0.0, other=None):
    """Paint blocks in rows with joints; every second row is shifted by a fraction of a block."""
    v, u = np.meshgrid(RAMP * rows, RAMP * columns, indexing="ij")
    row = v.astype(np.int32)
    u = u + shift * (row % 2)
    column = u.astype(np.int32) % columns
    shade = 0.82 + 0.3 * rng.random((rows, columns), dtype=np.float32)
    picture = base if other is None else mix(base, other, ((row + column) % 2).astype(np.float32))
    gain = shade[row, column] * (0.86 + 0.2 * fractal(rng, 8))
    aspect = columns / rows
    edge = np.minimum(np.minimum(v % 1, 1 - v % 1), np.minimum(u % 1, 1 - u % 1) / aspect)
    seam = (edge < joint).astype(np.float32)
    joint_colour = np.full(3, rng.uniform(70, 200), np.float32)
    return paint(mix(picture * gain[..., None], joint_colour, seam))


def fabric(rng: Generator) -> np.ndarray:
    """Paint cloth: plain weave, stripes or plaid."""
    base, other = colour(rng, (0.2, 0.9), (0.1, 0.8)), colour(rng, (0.15, 0.95), (0.1, 0.8))
    kind = rng.integers(4)
    count = int(rng.integers(3, 12))
    stripe = (np.sin(2 * np.pi * count * RAMP) > rng.uniform(-0.4, 0.7)).astype(np.float32)
    across, along = 0.5 * stripe * (kind in (1, 2)), 0.5 * stripe * (kind == 2)
    weight = across[None] + along[:, None]
    weave = 0.8 + 0.2 * noise(rng, 256, 256) + 0.15 * fractal(rng, 4)
    return paint(mix(base, other, weight), weave)


class Atlas:
    """All tiles of one scene with their mip levels, looked up by nearest texel.

    `pictures` are (S, S, 3) uint8 sRGB tiles by material number.
    """

    def __init__(self, pictures: dict[int, np.ndarray]) -> None:
        self.sizes = np.array([SIZE >> level for level in range(LEVELS)], dtype=np.int32)
        ends = np.cumsum(self.sizes**2)
        self.levels = (ends - self.sizes**2).astype(np.int32)
        # Linear light in float32; sRGB is close to a power of 2.2.
        self._linear = ((np.arange(256) / 255) ** 2.2).astype(np.float32)
        # Of materials without a tile, which are never looked up, 0.
        self._starts = np.zeros(max(pictures) + 1, np.int32)
        self._texels = np.empty(len(pictures) * int(ends[-1]), np.uint32)
        for order, (material, picture) in enumerate(pictures.items()):
            start = self._starts[material] = order * int(ends[-1])
            rgba = cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA)
            for end, size in zip(ends, self.sizes, strict=True):
                if size < SIZE:
                    rgba = cv2.resize(rgba, (int(size),) * 2, interpolation=cv2.INTER_AREA)
                self._texels[start + end - size**2 : start + end] = rgba.view(np.uint32).ravel()

    def lookup(self, material: np.ndarray, uv: np.ndarray, texels: np.ndarray) -> np.ndarray:
        """Return (3, N) float32 linear albedo in [0, 1].

        `material` (N,) int32 are tiles; `uv` (2, N) float32 coordinates, of which one unit is one
        tile and whole parts are ignored; `texels` (N,) float32 the footprint of a pixel in the
        finest level.
        """
        level = np.log2(np.maximum(texels, 1)).astype(np.int32)
        np.minimum(level, LEVELS - 1, out=level)
        size = self.sizes.take(level)
        # float32 rounding can lift a fraction just below one to exactly one.
        column, row = np.minimum(((uv - np.floor(uv)) * size).astype(np.int32), size - 1)
        index = self._starts.take(material) + self.levels.take(level) + row * size + column
        rgba = self._texels.take(index).view(np.uint8).reshape(-1, 4)
        return self._linear.take(rgba[:, :3].T)
