"""A visitor's state: an image, its measured points, and the network's output for them.

The network runs when the image or the points change. Its coarse depth and guidance are kept, so
that other propagation settings cost the propagation alone.
"""

import time
from collections import deque
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cspn import propagate
from dataloaders.sampling import sample_sparse_depth
from engine.baselines import interpolate_linear
from engine.metrics import depth_metrics
from inference.predictor import Predictor

MAX_STEPS = 48
MAX_DEPTH = 100.0
UNDO_STEPS = 20


class SessionError(ValueError):
    """A request that cannot be met; the message is one sentence for the page."""


@dataclass(frozen=True)
class Frame:
    """An image at the network's input size.

    rgb: (H, W, 3) uint8. depth: (H, W) float32 metres, 0 = no ground truth; None where there is
    none at all. uploaded_size: (width, height) of the file it comes from, where that was uploaded.
    """

    name: str
    rgb: np.ndarray
    depth: np.ndarray | None = None
    uploaded_size: tuple[int, int] | None = None

    @property
    def has_truth(self) -> bool:
        """Return whether the depth of any pixel is known."""
        return self.depth is not None and bool((self.depth > 0).any())


@dataclass(frozen=True)
class Propagation:
    """Settings of `cspn.propagate`, the published ones by default."""

    steps: int = 24
    norm_type: str = "8sum"
    anchor: str = "coarse"


@dataclass(frozen=True)
class Result:
    """Depth of the frame, (H, W) float32 metres each, and what it took in milliseconds.

    linear_depth: interpolation of the same points, None without points.
    scores: method ("coarse", "refined", "linear") -> metric -> value; empty without ground truth.
    """

    coarse_depth: np.ndarray
    refined_depth: np.ndarray
    linear_depth: np.ndarray | None
    network_ms: float
    propagation_ms: float
    scores: dict[str, dict[str, float]]


@dataclass(frozen=True)
class _NetworkRun:
    """The network's output for the frame and its points, on the predictor's device."""

    coarse_depth: Tensor  # (1, 1, H, W) metres
    guidance: Tensor  # (1, K, H, W)
    sparse_depth: Tensor  # (1, 1, H, W) metres, 0 = none
    linear_depth: np.ndarray | None
    milliseconds: float


class Session:
    """One visitor's frame, without points at first, and the output of the network in `predictor`,
    which sessions share."""

    def __init__(self, predictor: Predictor, frame: Frame):
        self.predictor = predictor
        self.open(frame)

    def open(self, frame: Frame) -> None:
        """Replace the image, without points."""
        self.frame = frame
        self.sparse_depth = np.zeros(frame.rgb.shape[:2], np.float32)
        self._before: deque[np.ndarray] = deque(maxlen=UNDO_STEPS)
        self._run: _NetworkRun | None = None

    def set_truth(self, depth: np.ndarray) -> None:
        """Give the frame a ground truth, (H, W) float32 metres with 0 = none; points stay."""
        self.frame = replace(self.frame, depth=depth)

    @property
    def n_points(self) -> int:
        """Return the number of measurements."""
        return int(np.count_nonzero(self.sparse_depth))

    def add_point(self, row: int, column: int, depth: float | None = None) -> float:
        """Measure one pixel, in place of what it had, with `depth` metres or, if None, the ground
        truth's; return it. Raise SessionError outside the image, where the ground truth has a hole,
        or for an impossible depth."""
        height, width = self.sparse_depth.shape
        if not (0 <= row < height and 0 <= column < width):
            raise SessionError(
                f"Row {row}, column {column} is outside the image of {height}x{width} pixels."
            )
        if depth is None:
            if self.frame.depth is None:
                raise SessionError("This image has no ground truth: set the point's depth.")
            depth = float(self.frame.depth[row, column])
            if depth <= 0:
                raise SessionError("The ground truth has a hole there: set the point's depth.")
        if not 0 < depth <= MAX_DEPTH:
            raise SessionError(f"A depth must lie in 0..{MAX_DEPTH:g} m, got {depth:g}.")
        changed = self.sparse_depth.copy()
        changed[row, column] = depth
        self._change(changed)
        return depth

    def sample_points(self, n: int, seed: int) -> int:
        """Replace the points by `n` drawn from the ground truth; return how many there are, fewer
        than `n` where it has fewer pixels. Raise SessionError without one, or for negative numbers.
        """
        if self.frame.depth is None:
            raise SessionError("There is no depth map to sample from: upload one.")
        if n < 0 or seed < 0:
            raise SessionError(f"Points and seed must not be negative, got {n} and {seed}.")
        rng = np.random.default_rng(seed)
        self._change(sample_sparse_depth(self.frame.depth, n, "exact", rng))
        return self.n_points

    def clear_points(self) -> None:
        """Remove every point."""
        self._change(np.zeros_like(self.sparse_depth))

    def undo(self) -> None:
        """Undo the last change of the points, of up to twenty; raise SessionError without one."""
        if not self._before:
            raise SessionError("There is nothing to undo.")
        self.sparse_depth = self._before.pop()
        self._run = None

    def _change(self, sparse_depth: np.ndarray) -> None:
        self._before.append(self.sparse_depth)
        self.sparse_depth = sparse_depth
        self._run = None

    @torch.inference_mode()
    def result(self, settings: Propagation) -> Result:
        """Return the depth under these settings; run the network where image or points are new.

        A network without CSPN has nothing to set: its own refinement runs, or none. Raise
        SessionError for a number of steps out of range.
        """
        if not 0 <= settings.steps <= MAX_STEPS:
            raise SessionError(f"Steps must lie in 0..{MAX_STEPS}, got {settings.steps}.")
        if self._run is None:
            self._run = self._run_network()
        run, start = self._run, time.perf_counter()
        refined = self._refine(run, settings)
        maps = [m[0, 0].float().cpu().numpy() for m in (run.coarse_depth, refined)]
        elapsed = 1000 * (time.perf_counter() - start)
        scores = self._scores({"coarse": maps[0], "refined": maps[1], "linear": run.linear_depth})
        return Result(*maps, run.linear_depth, run.milliseconds, elapsed, scores)

    def _run_network(self) -> _NetworkRun:
        start = time.perf_counter()
        rgbd = self.predictor.network_input(self.frame.rgb, self.sparse_depth)
        coarse_depth, guidance = self.predictor.model.coarse_depth_and_guidance(rgbd)
        if rgbd.is_cuda:
            torch.cuda.synchronize(rgbd.device)
        elapsed = 1000 * (time.perf_counter() - start)
        linear = interpolate_linear(self.sparse_depth) if self.n_points else None
        return _NetworkRun(coarse_depth, guidance, rgbd[:, 3:4], linear, elapsed)

    def _refine(self, run: _NetworkRun, settings: Propagation) -> Tensor:
        inputs = (run.guidance, run.coarse_depth, run.sparse_depth)
        if has_settings(self.predictor):
            return propagate(*inputs, **asdict(settings))
        refinement = self.predictor.model.refinement
        return run.coarse_depth if refinement is None else refinement(*inputs)

    def _scores(self, maps: dict[str, np.ndarray | None]) -> dict[str, dict[str, float]]:
        if not self.frame.has_truth:
            return {}
        maps = {method: depth for method, depth in maps.items() if depth is not None}
        pred = torch.from_numpy(np.stack(list(maps.values())))[:, None]  # (methods, 1, H, W)
        target = torch.from_numpy(self.frame.depth).expand_as(pred)
        scores = {metric: values.tolist() for metric, values in depth_metrics(pred, target).items()}
        return pd.DataFrame(scores, index=list(maps)).to_dict("index")


def has_settings(predictor: Predictor) -> bool:
    """Return whether the network ends in a CSPN, whose propagation can be set."""
    return hasattr(predictor.model.refinement, "norm_type")


def own_settings(predictor: Predictor) -> Propagation:
    """Return the checkpoint's own propagation; the published one without CSPN."""
    if not has_settings(predictor):
        return Propagation()
    cspn = predictor.model.refinement
    return Propagation(min(cspn.steps, MAX_STEPS), cspn.norm_type, cspn.anchor)
