"""Rendering of the frames of a set of sample streets, and where they are filed."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from sample_data.camera import develop
from sample_data.render import cast, surfaces
from sample_data.sample_set import SPLITS, SampleSet
from sample_data.streets import lidar
from sample_data.streets.daylight import shade_street
from sample_data.streets.foliage import drape, fray
from sample_data.streets.rig import CAMERAS, Rig
from sample_data.streets.scene import Street, sample_street

FRAMES_PER_SCENE = 16  # of train, counted by file: two cameras a moment
# The published split: sequences 00 to 10 for training, 11 to 21 for validation.
_SEQUENCES = 11


def frame_path(root: Path, split: str, index: int, frames_per_scene: int) -> Path:
    """Return the file of a frame, e.g. train/00/00003-L.h5, L and R by turns.

    A sequence of a large set passes through several streets: every eleventh of the split.
    """
    number, frame, frames = STREETS.locate(split, index, frames_per_scene)
    moment, side = divmod(frame, 2)
    moment += number // _SEQUENCES * _moments(frames)
    sequence = number % _SEQUENCES + SPLITS[split] * _SEQUENCES
    return root / split / f"{sequence:02d}" / f"{moment:05d}-{CAMERAS[side]}.h5"


def _moments(frames: int) -> int:
    return (frames + 1) // 2  # two cameras


@lru_cache(maxsize=1)
def _moment(
    seed: int, split: str, number: int, moments: int, moment: int
) -> tuple[Street, Rig, np.ndarray]:
    """Return what is the same for both cameras: traffic, poses and points (N, 3) of the scan."""
    street, rig = sample_street(seed, split, number, moments).at(moment)
    rng = np.random.default_rng([seed, SPLITS[split], number, 6, moment])
    return street, rig, lidar.scan(street, *rig.lidar(), rng)


def render_frame(
    seed: int, split: str, index: int, *, frames_per_scene: int = FRAMES_PER_SCENE
) -> tuple[np.ndarray, np.ndarray]:
    """Render a frame by its number in the split, from 0; odd ones are of the right camera.

    A val street always has 8 frames.

    Returns:
        rgb: (3, 375, 1242) uint8;
        depth: (375, 1242) float32 z-depth [m] of one LiDAR scan, 0 where no point fell.
    """
    number, frame, frames = STREETS.locate(split, index, frames_per_scene)
    moment, side = divmod(frame, 2)
    street, rig, points = _moment(seed, split, number, _moments(frames), moment)
    key, camera = [seed, SPLITS[split], number], rig.camera(CAMERAS[side])
    hits = cast(street, camera)
    fray(street, hits, np.random.default_rng([*key, 7, frame]))
    seen = surfaces(street, camera, hits)
    drape(street, seen)
    light = shade_street(street, street.daylight, seen, hits)
    # The exposure is that of a fixed camera in this weather; the noise is new in every picture.
    gain = _exposure(light, np.random.default_rng([*key, 4]))
    rgb = develop(light, gain, np.random.default_rng([*key, 5, frame]))
    return np.ascontiguousarray(rgb.transpose(2, 0, 1)), lidar.project(points, camera)


def _exposure(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the (3,) gain that gives the lower two thirds of a picture a fixed brightness."""
    part = light[len(light) // 3 :: 4, ::4]
    target = rng.uniform(0.09, 0.15)
    tint = np.array([rng.uniform(0.95, 1.05), 1.0, rng.uniform(0.95, 1.08)])
    return target / max(float(np.minimum(part, 1.5).mean()), 1e-3) * tint


STREETS = SampleSet(
    name="sample streets",
    package="sample_data.streets",
    layout="KITTI odometry",
    manifest="streets.json",
    version=1,
    n_train=64,
    n_val=16,
    frames_per_scene=FRAMES_PER_SCENE,
    val_frames_per_scene=8,
    frame_path=frame_path,
    render=render_frame,
    farthest=lidar.FARTHEST,
    columns=2,
    is_sparse=True,
)
