"""Sparse depth: drawn from a dense (or LiDAR) depth map, moved to another size, thinned."""

import numpy as np

SAMPLERS = ("bernoulli", "exact")


def sample_sparse_depth(
    depth: np.ndarray,
    n_sample: int,
    sampler: str,
    rng: np.random.Generator,
    *,
    over_valid: bool = False,
) -> np.ndarray:
    """Keep about (or exactly) `n_sample` measurements of a depth map.

    Args:
        depth: (H, W) float32 metres, 0 = no measurement.
        n_sample: how many to keep; 500 as published.
        sampler: "bernoulli" (the release) keeps each pixel independently, so 500 means 500 give
            or take 22 (one standard deviation) and fewer where depth is missing; "exact" draws
            `n_sample` valid pixels, or all of them where there are fewer.
        rng: the source of the draw.
        over_valid: p = n / number of valid pixels (the release on KITTI) instead of n / (H W).

    Returns:
        (H, W) float32 metres, 0 = no measurement.
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
    """Measurements of an image that is resized: points are moved, never averaged with the holes.

    A measurement goes to the pixel that its own pixel's centre falls into. Where several meet, the
    one closest to the new pixel's centre stays.

    Args:
        sparse_depth: (H, W) metres, 0 = no measurement.
        size: the new (h, w).

    Returns:
        (h, w) float32 metres, 0 = no measurement.
    """
    places, points = [], np.nonzero(sparse_depth)
    off_centre = np.zeros(len(points[0]))
    for at, length, new_length in zip(points, sparse_depth.shape, size, strict=True):
        exact = (at + 0.5) * (new_length / length)
        place = np.minimum(exact.astype(np.int64), new_length - 1)
        off_centre += (exact - place - 0.5) ** 2
        places.append(place)
    resized = np.zeros(size, np.float32)
    order = np.argsort(-off_centre, kind="stable")  # of points in one place the last one stays
    resized[places[0][order], places[1][order]] = sparse_depth[points][order]
    return resized


def thin_points(sparse_depth: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Keep `count` measurements drawn at random, or all where there are no more.

    Args:
        sparse_depth: (H, W) float32 metres, 0 = no measurement.

    Returns:
        (H, W) float32 metres, 0 = no measurement; the same array where nothing is dropped.
    """
    if np.count_nonzero(sparse_depth) <= count:
        return sparse_depth
    return sample_sparse_depth(sparse_depth, count, "exact", rng)
