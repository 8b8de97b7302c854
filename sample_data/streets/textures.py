"""Textures of streets: asphalt, facades, shop fronts, roofs, foliage, signs, ...

Facades show two storeys of two windows each and repeat without a seam.
"""

import cv2
import numpy as np

from sample_data.textures import (
    RAMP,
    SIZE,
    Painter,
    brick,
    canvas_of,
    colour,
    flat,
    fractal,
    hsv,
    noise,
    paint,
    plaster,
    tiles,
)


def _grey(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """Draw a (3,) float32 nearly neutral colour with values in [0, 255]."""
    tint = rng.uniform(0.95, 1.04, 3)
    return (rng.uniform(low, high) * tint).astype(np.float32)


def _greys(low: float, high: float) -> Painter:
    """Return what draws a nearly neutral colour, see `_grey`."""
    return lambda rng: _grey(rng, low, high)


def _fixed(*rgb: float) -> Painter:
    """Return what draws always the same colour."""
    return lambda rng: np.array(rgb, np.float32)


def _lacquer(rng: np.random.Generator) -> np.ndarray:
    """Draw a car's colour: mostly white, silver, grey or black, at times a strong one."""
    if rng.random() < 0.68:
        base = np.full(3, rng.choice([22, 32, 62, 110, 165, 190, 225, 235]), np.float32)
        return base * rng.uniform(0.94, 1.06, 3).astype(np.float32)
    return colour(rng, (0.25, 0.75), (0.55, 0.95), (0.0, 1.0))


# Kerbs, walls and poles, pale grey with stains; bark with furrows along the trunk; window panes of
# cars, nearly black, a little green; tyres, bumpers and grilles; lamps and plates of cars; heads
# and hands of pedestrians.
concrete = flat(_greys(140, 195), lambda rng: 0.75 + 0.35 * fractal(rng, 4, 5))
bark = flat(
    hsv((0.28, 0.45), (0.15, 0.35), (0.05, 0.1)),
    lambda rng: 0.45 + 0.8 * noise(rng, 8, 64) * (0.5 + noise(rng, 32, 32)),
)
car_paint = flat(_lacquer, 0.97, (0.05, 4, 4))
glass = flat(_fixed(18, 24, 25), 0.7, (0.6, 4, 4))
rubber = flat(_greys(24, 40), 0.8, (0.4, 64, 64))
red_lamp = flat(_fixed(170, 18, 16), 0.8, (0.3, 16, 16))
white_lamp = flat(_greys(190, 225), 0.8, (0.3, 16, 16))
skin = flat(hsv((0.45, 0.85), (0.3, 0.5), (0.04, 0.08)), 0.95)


def asphalt(rng: np.random.Generator) -> np.ndarray:
    """Paint a road surface: grey with grain, stains, repaired patches and sealed cracks."""
    gain = 0.8 + 0.3 * fractal(rng, 4) + 0.16 * rng.standard_normal((SIZE, SIZE)).astype(np.float32)
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.integers(0, SIZE - 120, 2).tolist()
        w, h = rng.integers(40, 120, 2).tolist()
        gain[y : y + h, x : x + w] *= rng.uniform(0.8, 1.1)
    for _ in range(int(rng.integers(1, 4))):
        walk = np.cumsum(rng.normal(0, 5, (30, 2)), axis=0) + rng.integers(100, 400, 2)
        walk[:, 0] += np.linspace(-200, 200, 30)
        cv2.polylines(gain, [walk.astype(np.int32)], False, 0.62, 2)
    return paint(_grey(rng, 105, 155), gain)


def paving(rng: np.random.Generator) -> np.ndarray:
    """Paint a pavement: slabs or small stones, grey or reddish."""
    picture = cv2.resize(tiles(rng), (SIZE // 2, SIZE // 2), interpolation=cv2.INTER_AREA)
    grey = np.tile(picture.mean(axis=2, keepdims=True), (2, 2, 3)) / 255
    base = _grey(rng, 150, 200)
    if rng.random() < 0.3:
        base = base * np.array([1.05, 0.85, 0.75], np.float32)
    return paint(base * (0.45 + 0.6 * grey), 0.85 + 0.25 * fractal(rng, 8))


def grass(rng: np.random.Generator) -> np.ndarray:
    """Paint a lawn or verge with bare and dry patches."""
    green = colour(rng, (0.34, 0.5), (0.35, 0.6), (0.18, 0.28))
    dry = colour(rng, (0.4, 0.6), (0.2, 0.4), (0.1, 0.15))
    patches = np.clip(fractal(rng, 4) * 3 - 1.2, 0, 1)[..., None]
    blades = 0.6 + 0.6 * noise(rng, 256, 256) * (0.6 + 0.8 * noise(rng, 64, 64))
    return paint(green + (dry - green) * patches, blades)


def foliage(rng: np.random.Generator) -> np.ndarray:
    """Paint leaves of trees and hedges: bright clusters before dark gaps."""
    base = colour(rng, (0.36, 0.52), (0.3, 0.55), (0.16, 0.3))
    clusters = fractal(rng, 16, 4)
    low, high = np.percentile(clusters, [5, 95])
    clusters = np.clip((clusters - low) / (high - low), 0, 1)
    speck = 0.7 + 0.6 * rng.random((SIZE // 4, SIZE // 4), dtype=np.float32)
    speck = cv2.resize(speck, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    return paint(base, (0.12 + 1.2 * clusters**1.5) * speck)


def marking(rng: np.random.Generator) -> np.ndarray:
    """Paint worn white road marks."""
    wear = np.clip(fractal(rng, 16) * 4 - 0.6, 0.55, 1)
    return paint(_grey(rng, 215, 245), wear)


def roof_tiles(rng: np.random.Generator) -> np.ndarray:
    """Paint rows of red, brown or grey roof tiles."""
    base = colour(rng, (0.3, 0.62), (0.25, 0.7), (0.01, 0.06))
    if rng.random() < 0.3:
        base = _grey(rng, 60, 110)
    ramp = RAMP * 12
    rows = 0.7 + 0.35 * (ramp % 1)[:, None]
    waves = 0.9 + 0.15 * np.sin(2 * np.pi * ramp * 2)
    return paint(base, rows * waves * (0.8 + 0.3 * fractal(rng, 8)))


def garage(rng: np.random.Generator) -> np.ndarray:
    """Paint a ribbed garage door."""
    base = _grey(rng, 60, 220) if rng.random() < 0.7 else colour(rng, (0.2, 0.6), (0.3, 0.6))
    ribs = (np.arange(SIZE) % 32 > 3) * 0.3 + 0.7
    return paint(base, ribs * (0.9 + 0.1 * noise(rng, 8, 8)))


def sign(rng: np.random.Generator) -> np.ndarray:
    """Paint a road sign: a coloured field with a border and a simple figure."""
    warning = rng.random() < 0.5
    field, border, figure = (
        ((225, 225, 220), (190.0, 20.0, 25.0), (25.0, 25.0, 28.0)) if warning else
        ((20, 70, 170), (230.0, 230.0, 230.0), (230.0, 230.0, 230.0))
    )  # fmt: skip
    canvas = canvas_of(np.float32(field))
    cv2.rectangle(canvas, (0, 0), (SIZE - 1, SIZE - 1), border, 90)
    kind = rng.integers(3)
    if kind == 0:
        cv2.fillPoly(canvas, [np.array([[256, 120], [390, 330], [122, 330]], np.int32)], figure)
    elif kind == 1:
        _bar(canvas, 130, 220, 250, 70, figure)
    else:
        cv2.circle(canvas, (256, 256), 90, figure, 36)
    return paint(canvas, 0.9 + 0.1 * noise(rng, 4, 4))


def _bar(canvas: np.ndarray, x: float, y: float, w: float, h: float, ink) -> None:
    """Draw a filled rectangle with corner (x, y) and size (w, h) [pixels]."""
    low, high = (round(x), round(y)), (round(x + w) - 1, round(y + h) - 1)
    cv2.rectangle(canvas, low, high, tuple(float(c) for c in ink), -1)


def _wall(rng: np.random.Generator) -> np.ndarray:
    """Return a (S, S, 3) float32 house wall: rendered, or of bricks of a quarter of their size."""
    if rng.random() < 0.25:
        small = cv2.resize(brick(rng), (SIZE // 4, SIZE // 4), interpolation=cv2.INTER_AREA)
        return np.tile(small, (4, 4, 1)).astype(np.float32)
    picture = plaster(rng).astype(np.float32)
    if rng.random() < 0.6:
        # Most house fronts are cream, white or grey.
        mean = picture.mean(axis=(0, 1))
        picture *= (0.35 * mean + 0.65 * mean.mean()) / mean
    return picture * (0.9 + 0.12 * noise(rng, 4, 64))[..., None]


def _pane(rng: np.random.Generator, canvas: np.ndarray, x: int, y: int, w: int, h: int) -> None:
    """Draw glass with what it mirrors and perhaps a curtain behind it, and a cross of bars."""
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
    """Paint two storeys of two windows with frames and sills, perhaps shutters or a course."""
    canvas, half = _wall(rng), SIZE // 2
    w, h = int(rng.uniform(0.3, 0.5) * half), int(rng.uniform(0.42, 0.6) * half)
    border = int(rng.integers(4, 12))
    trim = _grey(rng, 190, 240) if rng.random() < 0.7 else colour(rng, (0.2, 0.6), (0.2, 0.5))
    shutters = colour(rng, (0.2, 0.6), (0.2, 0.7)) if rng.random() < 0.3 else None
    course = rng.random() < 0.4
    for storey in (0, half):
        if course:
            _bar(canvas, 0, storey + 4, SIZE, 10, canvas.mean(axis=(0, 1)) * 0.8)
        for bay in (0, half):
            x, y = bay + (half - w) // 2, storey + int(0.2 * half)
            _bar(canvas, x - border, y - border, w + 2 * border, h + 2 * border, trim)
            _pane(rng, canvas, x, y, w, h)
            _bar(canvas, x - border - 6, y + h + border, w + 2 * border + 12, 8, trim * 0.75)
            if shutters is None:
                continue
            for side in (x - border - w // 2, x + w + border):
                _bar(canvas, side, y, w // 2, h, shutters)
                for slat in range(y + 4, y + h - 4, 9):
                    _bar(canvas, side + 3, slat, w // 2 - 6, 3, shutters * 0.6)
    return paint(canvas, 0.9 + 0.15 * fractal(rng, 4))


def office(rng: np.random.Generator) -> np.ndarray:
    """Paint ribbon windows and panels of an office block."""
    panel = _grey(rng, 110, 215) if rng.random() < 0.7 else colour(rng, (0.35, 0.8), (0.1, 0.4))
    canvas, half = canvas_of(panel), SIZE // 2
    width, filled = SIZE // int(rng.choice([4, 8])), rng.uniform(0.45, 0.7)
    for storey in (0, half):
        for x in range(0, SIZE, width):
            y = storey + int(half * (1 - filled) / 2)
            _pane(rng, canvas, x + 4, y, width - 8, int(half * filled))
        _bar(canvas, 0, storey, SIZE, 4, panel * 0.6)
    return paint(canvas, 0.92 + 0.12 * fractal(rng, 4))


def shop(rng: np.random.Generator) -> np.ndarray:
    """Paint a ground floor: shop windows below a sign, or windows, doors and a gateway."""
    canvas, has_shops = _wall(rng), rng.random() < 0.5
    if has_shops:
        ink = colour(rng, (0.2, 0.9), (0.2, 0.9), (0.0, 1.0))
        _bar(canvas, 0, 40, SIZE, 90, ink)
        x = int(rng.integers(20, 60))
        while x < SIZE - 60:
            width = int(rng.integers(10, 45))
            _bar(canvas, x, 60, width, 45, 255 - ink if rng.random() < 0.9 else ink)
            x += width + 8
    count = int(rng.integers(3, 6))
    step = SIZE // count
    door = int(rng.integers(count))
    inset, top, bottom = (step // 8, 150, 460) if has_shops else (step // 4, 150, 370)
    for k in range(count):
        x, w = k * step + inset, step - 2 * inset
        if k == door:
            _bar(canvas, x, 150, w, SIZE - 150, colour(rng, (0.15, 0.55), (0.2, 0.6)))
            _pane(rng, canvas, x + w // 4, 180, w // 2, 130)
        else:
            _bar(canvas, x - 5, top - 8, w + 10, bottom - top + 16, _grey(rng, 60, 230))
            _pane(rng, canvas, x, top, w, bottom - top)
    _bar(canvas, 0, 480, SIZE, 32, _grey(rng, 60, 110))
    return paint(canvas, 0.9 + 0.15 * fractal(rng, 8))
