"""Procedural textures of streets: asphalt, facades, shop fronts, roofs, foliage, signs, ...

Tiles are those of `sample_data.rooms.textures`: (S, S, 3) uint8 sRGB with S = SIZE. Facades show
two storeys of two windows each and repeat without a seam.
"""

from __future__ import annotations

import cv2
import numpy as np

from sample_data.rooms.textures import SIZE, brick, colour, fractal, noise, plaster, tiles


def _finish(picture: np.ndarray, gain: np.ndarray | float = 1.0) -> np.ndarray:
    """Picture (S, S, 3) or colour (3,) times a grey gain (S, S), as uint8."""
    gain = np.broadcast_to(np.asarray(gain, np.float32), (SIZE, SIZE))
    return np.clip(picture * gain[..., None], 0, 255).astype(np.uint8)


def _grey(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """(3,) float32 nearly neutral colour with values in [0, 255]."""
    tint = rng.uniform(0.95, 1.04, 3)
    return (rng.uniform(low, high) * tint).astype(np.float32)


def _bar(canvas: np.ndarray, x: float, y: float, w: float, h: float, ink) -> None:
    """A filled rectangle with corner (x, y) and size (w, h) in pixels."""
    low, high = (round(x), round(y)), (round(x + w) - 1, round(y + h) - 1)
    cv2.rectangle(canvas, low, high, tuple(float(c) for c in ink), -1)


def asphalt(rng: np.random.Generator) -> np.ndarray:
    """Road surface: grey with grain, stains, repaired patches and sealed cracks."""
    gain = 0.8 + 0.3 * fractal(rng, 4) + 0.16 * rng.standard_normal((SIZE, SIZE)).astype(np.float32)
    for _ in range(int(rng.integers(0, 4))):
        x, y = (int(v) for v in rng.integers(0, SIZE - 120, 2))
        w, h = (int(v) for v in rng.integers(40, 120, 2))
        gain[y : y + h, x : x + w] *= rng.uniform(0.8, 1.1)
    for _ in range(int(rng.integers(1, 4))):
        walk = np.cumsum(rng.normal(0, 5, (30, 2)), axis=0) + rng.integers(100, 400, 2)
        walk[:, 0] += np.linspace(-200, 200, 30)
        cv2.polylines(gain, [walk.astype(np.int32)], False, 0.62, 2)
    return _finish(_grey(rng, 105, 155), gain)


def paving(rng: np.random.Generator) -> np.ndarray:
    """Pavement: slabs or small stones, grey or reddish."""
    picture = cv2.resize(tiles(rng), (SIZE // 2, SIZE // 2), interpolation=cv2.INTER_AREA)
    grey = np.tile(picture.mean(axis=2, keepdims=True), (2, 2, 3)) / 255
    base = _grey(rng, 150, 200)
    if rng.random() < 0.3:
        base = base * np.array([1.05, 0.85, 0.75], np.float32)
    return _finish(base * (0.45 + 0.6 * grey), 0.85 + 0.25 * fractal(rng, 8))


def concrete(rng: np.random.Generator) -> np.ndarray:
    """Kerbs, walls, poles: pale grey with stains."""
    return _finish(_grey(rng, 140, 195), 0.75 + 0.35 * fractal(rng, 4, 5))


def grass(rng: np.random.Generator) -> np.ndarray:
    """A lawn or verge with bare and dry patches."""
    green = colour(rng, (0.34, 0.5), (0.35, 0.6), (0.18, 0.28))
    dry = colour(rng, (0.4, 0.6), (0.2, 0.4), (0.1, 0.15))
    patches = np.clip(fractal(rng, 4) * 3 - 1.2, 0, 1)[..., None]
    blades = 0.6 + 0.6 * noise(rng, 256, 256) * (0.6 + 0.8 * noise(rng, 64, 64))
    return _finish(green + (dry - green) * patches, blades)


def foliage(rng: np.random.Generator) -> np.ndarray:
    """Leaves of trees and hedges: bright clusters before dark gaps."""
    base = colour(rng, (0.36, 0.52), (0.3, 0.55), (0.16, 0.3))
    clusters = fractal(rng, 16, 4)
    low, high = np.percentile(clusters, [5, 95])
    clusters = np.clip((clusters - low) / (high - low), 0, 1)
    speck = 0.7 + 0.6 * rng.random((SIZE // 4, SIZE // 4), dtype=np.float32)
    speck = cv2.resize(speck, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    return _finish(base, (0.12 + 1.2 * clusters**1.5) * speck)


def bark(rng: np.random.Generator) -> np.ndarray:
    """Bark with furrows along the trunk."""
    base = colour(rng, (0.28, 0.45), (0.15, 0.35), (0.05, 0.1))
    return _finish(base, 0.45 + 0.8 * noise(rng, 8, 64) * (0.5 + noise(rng, 32, 32)))


def car_paint(rng: np.random.Generator) -> np.ndarray:
    """Lacquer: mostly white, silver, grey and black, at times a strong colour."""
    if rng.random() < 0.68:
        base = np.full(3, rng.choice([22, 32, 62, 110, 165, 190, 225, 235]), np.float32)
        base = base * rng.uniform(0.94, 1.06, 3).astype(np.float32)
    else:
        base = colour(rng, (0.25, 0.75), (0.55, 0.95), (0.0, 1.0))
    return _finish(base, 0.97 + 0.05 * noise(rng, 4, 4))


def glass(rng: np.random.Generator) -> np.ndarray:
    """Window panes of cars: nearly black, a little green."""
    return _finish(np.array([18, 24, 25], np.float32), 0.7 + 0.6 * noise(rng, 4, 4))


def rubber(rng: np.random.Generator) -> np.ndarray:
    """Tyres, bumpers and grilles."""
    return _finish(_grey(rng, 24, 40), 0.8 + 0.4 * noise(rng, 64, 64))


def red_lamp(rng: np.random.Generator) -> np.ndarray:
    """Rear lamps of cars."""
    return _finish(np.array([170, 18, 16], np.float32), 0.8 + 0.3 * noise(rng, 16, 16))


def white_lamp(rng: np.random.Generator) -> np.ndarray:
    """Headlamps, and the plates of cars."""
    return _finish(_grey(rng, 190, 225), 0.8 + 0.3 * noise(rng, 16, 16))


def marking(rng: np.random.Generator) -> np.ndarray:
    """Worn white road paint."""
    wear = np.clip(fractal(rng, 16) * 4 - 0.6, 0.55, 1)
    return _finish(_grey(rng, 215, 245), wear)


def roof_tiles(rng: np.random.Generator) -> np.ndarray:
    """Rows of red, brown or grey roof tiles."""
    base = colour(rng, (0.3, 0.62), (0.25, 0.7), (0.01, 0.06))
    if rng.random() < 0.3:
        base = _grey(rng, 60, 110)
    ramp = np.arange(SIZE, dtype=np.float32) / SIZE * 12
    rows = 0.7 + 0.35 * (ramp % 1)[:, None] * np.ones((1, SIZE), np.float32)
    waves = 0.9 + 0.15 * np.sin(2 * np.pi * ramp * 2)[None]
    return _finish(base, rows * waves * (0.8 + 0.3 * fractal(rng, 8)))


def _wall(rng: np.random.Generator) -> np.ndarray:
    """(S, S, 3) float32 wall of a house: rendered, or of bricks a quarter of the usual size."""
    if rng.random() < 0.25:
        small = cv2.resize(brick(rng), (SIZE // 4, SIZE // 4), interpolation=cv2.INTER_AREA)
        return np.tile(small, (4, 4, 1)).astype(np.float32)
    picture = plaster(rng).astype(np.float32)
    if rng.random() < 0.6:
        # Most house fronts are cream, white or grey.
        mean = picture.mean(axis=(0, 1))
        picture *= (0.35 * mean + 0.65 * mean.mean()) / mean
    streaks = 0.9 + 0.12 * noise(rng, 4, 64)
    return picture * streaks[..., None]


def _pane(rng: np.random.Generator, canvas: np.ndarray, x: int, y: int, w: int, h: int) -> None:
    """Glass with what it mirrors and perhaps a curtain behind it, and a cross of bars."""
    top, bottom = rng.uniform(35, 95), rng.uniform(12, 40)
    ramp = np.linspace(top, bottom, h, dtype=np.float32)[:, None, None]
    canvas[y : y + h, x : x + w] = ramp * np.array([0.85, 0.95, 1.05], np.float32)
    if rng.random() < 0.35:
        _bar(canvas, x, y, w * rng.uniform(0.2, 0.45), h, _grey(rng, 110, 190))
    if rng.random() < 0.25:
        _bar(canvas, x, y, w, h * rng.uniform(0.2, 0.9), _grey(rng, 120, 200))
    if rng.random() < 0.7:
        frame = canvas[max(y - 3, 0), min(x + w // 2, SIZE - 1)].copy()
        _bar(canvas, x + w / 2 - 2, y, 5, h, frame)


def facade(rng: np.random.Generator) -> np.ndarray:
    """Two storeys of two windows, with frames, sills and perhaps shutters or a string course."""
    canvas = np.ascontiguousarray(_wall(rng))
    half = SIZE // 2
    w, h = int(rng.uniform(0.3, 0.5) * half), int(rng.uniform(0.42, 0.6) * half)
    border = int(rng.integers(4, 12))
    trim = _grey(rng, 190, 240) if rng.random() < 0.7 else colour(rng, (0.2, 0.6), (0.2, 0.5))
    shutters = colour(rng, (0.2, 0.6), (0.2, 0.7)) if rng.random() < 0.3 else None
    course = rng.random() < 0.4
    for storey in range(2):
        if course:
            _bar(canvas, 0, storey * half + 4, SIZE, 10, canvas.mean(axis=(0, 1)) * 0.8)
        for bay in range(2):
            x = bay * half + (half - w) // 2
            y = storey * half + int(0.2 * half)
            _bar(canvas, x - border, y - border, w + 2 * border, h + 2 * border, trim)
            _pane(rng, canvas, x, y, w, h)
            _bar(canvas, x - border - 6, y + h + border, w + 2 * border + 12, 8, trim * 0.75)
            if shutters is not None:
                for side in (x - border - w // 2, x + w + border):
                    _bar(canvas, side, y, w // 2, h, shutters)
                    for slat in range(y + 4, y + h - 4, 9):
                        _bar(canvas, side + 3, slat, w // 2 - 6, 3, shutters * 0.6)
    return _finish(canvas, 0.9 + 0.15 * fractal(rng, 4))


def office(rng: np.random.Generator) -> np.ndarray:
    """Ribbon windows and panels of an office block."""
    panel = _grey(rng, 110, 215) if rng.random() < 0.7 else colour(rng, (0.35, 0.8), (0.1, 0.4))
    canvas = np.ascontiguousarray(np.broadcast_to(panel, (SIZE, SIZE, 3)).astype(np.float32))
    half, columns = SIZE // 2, int(rng.choice([4, 8]))
    width, share = SIZE // columns, rng.uniform(0.45, 0.7)
    for storey in range(2):
        for column in range(columns):
            x, y = column * width + 4, storey * half + int(half * (1 - share) / 2)
            _pane(rng, canvas, x, y, width - 8, int(half * share))
        _bar(canvas, 0, storey * half, SIZE, 4, panel * 0.6)
    return _finish(canvas, 0.92 + 0.12 * fractal(rng, 4))


def shop(rng: np.random.Generator) -> np.ndarray:
    """Ground floor of a house: shop windows below a sign, or windows, doors and a gateway."""
    canvas = np.ascontiguousarray(_wall(rng))
    shops = rng.random() < 0.5
    if shops:
        sign = colour(rng, (0.2, 0.9), (0.2, 0.9), (0.0, 1.0))
        _bar(canvas, 0, 40, SIZE, 90, sign)
        x = int(rng.integers(20, 60))
        while x < SIZE - 60:
            width = int(rng.integers(10, 45))
            _bar(canvas, x, 60, width, 45, 255 - sign if rng.random() < 0.9 else sign)
            x += width + 8
    count = int(rng.integers(3, 6))
    step = SIZE // count
    door = int(rng.integers(count))
    for k in range(count):
        inset = step // 8 if shops else step // 4
        x, w = k * step + inset, step - 2 * inset
        if k == door:
            _bar(canvas, x, 150, w, SIZE - 150, colour(rng, (0.15, 0.55), (0.2, 0.6)))
            _pane(rng, canvas, x + w // 4, 180, w // 2, 130)
        else:
            top, bottom = (150, 460) if shops else (150, 370)
            _bar(canvas, x - 5, top - 8, w + 10, bottom - top + 16, _grey(rng, 60, 230))
            _pane(rng, canvas, x, top, w, bottom - top)
    _bar(canvas, 0, 480, SIZE, 32, _grey(rng, 60, 110))
    return _finish(canvas, 0.9 + 0.15 * fractal(rng, 8))


def garage(rng: np.random.Generator) -> np.ndarray:
    """A ribbed garage door."""
    base = _grey(rng, 60, 220) if rng.random() < 0.7 else colour(rng, (0.2, 0.6), (0.3, 0.6))
    ribs = (np.arange(SIZE) % 32 > 3) * 0.3 + 0.7
    return _finish(base, ribs[None, :] * (0.9 + 0.1 * noise(rng, 8, 8)))


def sign(rng: np.random.Generator) -> np.ndarray:
    """A road sign: a coloured field with a border and a simple figure."""
    field, ink = ((225, 225, 220), (190, 20, 25)) if rng.random() < 0.5 else (
        (20, 70, 170), (230, 230, 230))  # fmt: skip
    canvas = np.ascontiguousarray(np.broadcast_to(np.float32(field), (SIZE, SIZE, 3)))
    cv2.rectangle(canvas, (0, 0), (SIZE - 1, SIZE - 1), tuple(map(float, ink)), 90)
    figure = (25.0, 25.0, 28.0) if field[0] > 100 else (230.0, 230.0, 230.0)
    kind = rng.integers(3)
    if kind == 0:
        corners = np.array([[256, 120], [390, 330], [122, 330]], np.int32)
        cv2.fillPoly(canvas, [corners], figure)
    elif kind == 1:
        _bar(canvas, 130, 220, 250, 70, figure)
    else:
        cv2.circle(canvas, (256, 256), 90, figure, 36)
    return _finish(canvas, 0.9 + 0.1 * noise(rng, 4, 4))


def skin(rng: np.random.Generator) -> np.ndarray:
    """Heads and hands of pedestrians."""
    return _finish(colour(rng, (0.45, 0.85), (0.3, 0.5), (0.04, 0.08)), 0.95)
