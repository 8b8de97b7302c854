"""Sparse depth: drawn from a dense (or LiDAR) depth map, moved to another size, thinned.

Samplers: "bernoulli" (the release) and "exact" draw pixels of one probability each. The others
measure as devices do: "lines" as a LiDAR, "corners" as structure from motion, "window" where only
a part of the image is measured, "grid" as a coarse time-of-flight camera. "any" draws one of
them, the number and the errors of the measurements for each image anew, for a network that has to
take what it is given.
"""

from dataclasses import dataclass

import numpy as np

PATTERNS = ("lines", "corners", "window", "grid")
SAMPLERS = ("bernoulli", "exact", *PATTERNS, "any")


@dataclass(frozen=True)
class Measurements:
    """How an image is measured, by any of `SAMPLERS` but "any".

    Outliers are the depth of another pixel, or twice or half of their own.
    """

    sampler: str
    count: int  # about so many; fewer where the pattern or the depth has no more
    noise: float = 0.0  # standard deviation of a measurement, as a fraction of its depth
    outliers: float = 0.0  # fraction of the measurements
    lines: int = 16  # of the sampler "lines"

    @classmethod
    def choose(
        cls, sampler: str, n_sample: int, noise: float, outliers: float, rng: np.random.Generator
    ) -> "Measurements":
        """Return the measurements of those settings; the sampler "any" draws them."""
        if sampler == "any":
            return cls.draw(n_sample, rng)
        return cls(sampler, n_sample, noise, outliers)

    @classmethod
    def draw(cls, n_sample: int, rng: np.random.Generator) -> "Measurements":
        """Draw what "any" stands for: `n_sample` measurements of "exact" for two images in five;
        otherwise any sampler with 5 to 20,000, on 8 to 64 lines. Of all images, three in ten have
        noise of 1 to 3 %, and one in five up to 10 % outliers."""
        sampler, count = "exact", n_sample
        if rng.random() >= 0.4:
            sampler = str(rng.choice(("exact", *PATTERNS), p=(0.4, 0.2, 0.15, 0.15, 0.1)))
            fewest = {"exact": 5, "grid": 20}.get(sampler, 100)
            count = round(np.exp(rng.uniform(np.log(fewest), np.log(20_000))))
        noise = rng.uniform(0.01, 0.03) if rng.random() < 0.3 else 0.0
        outliers = rng.uniform(0.0, 0.1) if rng.random() < 0.2 else 0.0
        lines = round(np.exp(rng.uniform(*np.log((8, 64)))))
        return cls(sampler, count, noise, outliers, lines)


def measure(
    rgb: np.ndarray,
    depth: np.ndarray,
    measurements: Measurements,
    rng: np.random.Generator,
    *,
    over_valid: bool = False,
) -> np.ndarray:
    """Measure depth as `measurements` describes, for which "corners" looks at rgb (3, H, W) uint8;
    the rest as in `sample_sparse_depth`."""
    m = measurements
    if m.sampler in PATTERNS:
        pattern = {"lines": _lines, "corners": _corners, "window": _window, "grid": _grid}
        pixels = pattern[m.sampler](rgb, m, rng)
        sparse = thin_points(np.where(pixels, depth, np.float32(0)), m.count, rng)
    else:
        sparse = sample_sparse_depth(depth, m.count, m.sampler, rng, over_valid=over_valid)
    if not (m.noise or m.outliers):
        return sparse
    sparse = sparse.copy()
    measured = np.flatnonzero(sparse)
    factor = 1 + m.noise * rng.standard_normal(len(measured))
    sparse.flat[measured] *= np.clip(factor, 0.5, 1.5).astype(np.float32)
    wrong = rng.choice(measured, size=rng.binomial(len(measured), m.outliers), replace=False)
    elsewhere = rng.choice(sparse.flat[measured], size=len(wrong)) if len(wrong) else wrong
    own = sparse.flat[wrong]
    choices = np.stack((elsewhere, 2 * own, own / 2))  # (3, n)
    sparse.flat[wrong] = choices[rng.integers(3, size=len(wrong)), np.arange(len(wrong))]
    return sparse


def _lines(rgb: np.ndarray, m: Measurements, rng: np.random.Generator) -> np.ndarray:
    """Return (H, W) bool: lines at equal angles, a little inclined and curved, at random height."""
    height, width = rgb.shape[1:]
    columns = np.linspace(-1, 1, width)
    tilt, bend = rng.uniform(-0.03, 0.03) * height, rng.uniform(0, 0.05) * height
    tops = (np.arange(m.lines) + rng.random()) * (height / m.lines)
    rows = tops[:, None] + tilt * columns + bend * columns**2
    pixels = np.zeros(rgb.shape[1:], bool)
    pixels[np.floor(rows).astype(int) % height, np.arange(width)] = True
    return pixels


def _window(rgb: np.ndarray, m: Measurements, rng: np.random.Generator) -> np.ndarray:
    """Return (H, W) bool: a rectangle of 30 to 70 % of both sides, anywhere in the image."""
    pixels = np.zeros(rgb.shape[1:], bool)
    part = []
    for length in pixels.shape:
        extent = round(length * rng.uniform(0.3, 0.7))
        start = rng.integers(length - extent + 1)
        part.append(slice(start, start + extent))
    pixels[tuple(part)] = True
    return pixels


def _grid(rgb: np.ndarray, m: Measurements, rng: np.random.Generator) -> np.ndarray:
    """Return (H, W) bool: about m.count pixels at equal distances, at a random offset."""
    pixels = np.zeros(rgb.shape[1:], bool)
    step = max(1.0, (pixels.size / max(m.count, 1)) ** 0.5)
    rows, columns = (np.arange(rng.random() * step, n, step).astype(int) for n in pixels.shape)
    pixels[np.ix_(rows, columns)] = True
    return pixels


def _corners(rgb: np.ndarray, m: Measurements, rng: np.random.Generator) -> np.ndarray:
    """Return (H, W) bool: the m.count strongest corners of the image (Shi and Tomasi)."""
    # Here, since it takes longer to import than a data set to open.
    from skimage.feature import corner_peaks, corner_shi_tomasi

    grey = rgb.astype(np.float32).mean(axis=0) / 255
    pixels = np.zeros(grey.shape, bool)
    # The image goes on outside as it ends, or its border would look like an edge.
    margin = 4
    strength = corner_shi_tomasi(np.pad(grey, margin, mode="edge"), sigma=1)
    strength = strength[margin:-margin, margin:-margin]
    found = corner_peaks(
        strength, min_distance=2, threshold_rel=1e-4, num_peaks=m.count, exclude_border=False
    )
    pixels[tuple(found.T)] = True
    return pixels


def sample_sparse_depth(
    depth: np.ndarray,
    n_sample: int,
    sampler: str,
    rng: np.random.Generator,
    *,
    over_valid: bool = False,
) -> np.ndarray:
    """Keep about (or exactly) `n_sample` measurements, 500 as published, of a depth map: (H, W)
    float32 metres, 0 = no measurement -> the same.

    Args:
        sampler: "bernoulli" (the release) keeps each pixel independently, so 500 means 500 give
            or take 22 (one standard deviation) and fewer where depth is missing; "exact" draws
            `n_sample` valid pixels, or all of them where there are fewer.
        over_valid: p = n / number of valid pixels (the release on KITTI) instead of n / (H W).
    """
    if sampler == "exact":
        pixels = np.flatnonzero(depth > 0)
        count = min(n_sample, len(pixels))
    else:
        # Independent draws of every pixel are a binomial number of them, all choices alike.
        pixels = np.flatnonzero(depth > 0) if over_valid else depth.size
        candidates = len(pixels) if over_valid else depth.size
        count = rng.binomial(candidates, min(n_sample / max(candidates, 1), 1))
    sparse = np.zeros_like(depth)
    if count:
        kept = rng.choice(pixels, size=count, replace=False, shuffle=False)
        sparse.flat[kept] = depth.flat[kept]
    return sparse


def resize_points(sparse_depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Move the measurements of an image that is resized to `size`, (h, w); none is averaged with
    the holes: (H, W) metres, 0 = no measurement -> (h, w) float32 metres.

    A measurement goes to the pixel that its own pixel's centre falls into. Where several meet, the
    one closest to the new pixel's centre stays.
    """
    pixels, points = [], np.nonzero(sparse_depth)
    off_centre = np.zeros(len(points[0]))
    for at, length, new_length in zip(points, sparse_depth.shape, size, strict=True):
        exact = (at + 0.5) * (new_length / length)
        pixel = np.minimum(exact.astype(np.int64), new_length - 1)
        off_centre += (exact - pixel - 0.5) ** 2
        pixels.append(pixel)
    resized = np.zeros(size, np.float32)
    order = np.argsort(-off_centre, kind="stable")  # of points in one pixel the last one stays
    resized[pixels[0][order], pixels[1][order]] = sparse_depth[points][order]
    return resized


def thin_points(sparse_depth: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Keep `count` measurements drawn at random of (H, W) float32 metres, 0 = no measurement;
    return the same array where there are no more."""
    if np.count_nonzero(sparse_depth) <= count:
        return sparse_depth
    return sample_sparse_depth(sparse_depth, count, "exact", rng)
