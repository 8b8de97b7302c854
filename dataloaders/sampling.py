"""Draw the sparse depth that the network is given from a dense (or LiDAR) depth map."""

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
