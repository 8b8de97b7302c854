"""Rendering of the frames of a set of sample streets, and where they are filed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from sample_data import SPLITS, SampleSet
from sample_data.rooms.render import cast
from sample_data.rooms.scene import Scene
from sample_data.rooms.sensor import develop
from sample_data.rooms.shade import geometry
from sample_data.streets import lidar
from sample_data.streets.foliage import drape, fray
from sample_data.streets.rig import CAMERAS, FX, Rig
from sample_data.streets.scene import Street, sample_street
from sample_data.streets.sunlight import shade_street

# Frames are counted by file: two cameras a moment.
TRAIN_FRAMES_PER_SCENE = 16
VAL_FRAMES_PER_SCENE = 8
# The published split: sequences 00 to 10 for training, 11 to 21 for validation.
_SEQUENCES = 11


def frame_path(root: Path, split: str, index: int, frames_per_scene: int) -> Path:
    """File of a frame, e.g. train/00/00003-L.h5, left and right camera by turns.

    The streets are dealt out to the eleven sequences of the split, so a sequence of a large set
    passes through several streets.
    """
    share = STREETS.share(split, frames_per_scene)
    number, frame = divmod(index, share)
    moment, side = divmod(frame, 2)
    moment += number // _SEQUENCES * _moments(share)
    sequence = number % _SEQUENCES + SPLITS[split] * _SEQUENCES
    return root / split / f"{sequence:02d}" / f"{moment:05d}-{CAMERAS[side]}.h5"


def _moments(share: int) -> int:
    """Moments of a street with `share` frames."""
    return (share + 1) // 2


@lru_cache(maxsize=2)
def _street(seed: int, split: str, number: int, moments: int) -> Street:
    return sample_street(seed, SPLITS[split], number, moments)


@lru_cache(maxsize=1)
def _moment(
    seed: int, split: str, number: int, moments: int, moment: int
) -> tuple[Scene, Rig, np.ndarray]:
    """What both cameras share at a moment: traffic, poses and the points (N, 3) of the scan."""
    street = _street(seed, split, number, moments)
    scene, rig = street.at(moment)
    rng = np.random.default_rng([seed, SPLITS[split], number, 6, moment])
    return scene, rig, lidar.scan(scene, *rig.lidar(), rng, street.green)


def render_frame(
    seed: int, split: str, index: int, *, frames_per_scene: int = TRAIN_FRAMES_PER_SCENE
) -> tuple[np.ndarray, np.ndarray]:
    """Renders one frame of the set.

    Args:
        seed: seed of the set.
        split: "train" or "val"; their streets differ, their frames are alike.
        index: number of the frame in its split, from 0; odd ones are the right camera.
        frames_per_scene: frames that share a train street; a val street always has 8.

    Returns:
        rgb: (3, 375, 1242) uint8;
        depth: (375, 1242) float32 z-depth [m] of one LiDAR scan, 0 where no point fell.
    """
    share = STREETS.share(split, frames_per_scene)
    number, frame = divmod(index, share)
    moment, side = divmod(frame, 2)
    street = _street(seed, split, number, _moments(share))
    scene, rig, points = _moment(seed, split, number, _moments(share), moment)
    key = [seed, SPLITS[split], number]
    camera = rig.camera(CAMERAS[side])
    hits = cast(scene, camera)
    fray(scene, hits, street.green, FX, np.random.default_rng([*key, 7, frame]))
    geo = geometry(scene, camera, hits)
    drape(scene, geo, street.green)
    light = shade_street(scene, street.daylight, geo, hits, street.green)
    # The exposure is that of a fixed camera in this weather; the noise is new in every picture.
    gain = _exposure(light, np.random.default_rng([*key, 4]))
    rgb = develop(light, gain, np.random.default_rng([*key, 5, frame]))
    return np.ascontiguousarray(rgb.transpose(2, 0, 1)), lidar.project(points, camera)


def _exposure(light: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(3,) gain that gives the lower two thirds of the picture a fixed mean brightness."""
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
    frames_per_scene=TRAIN_FRAMES_PER_SCENE,
    val_frames_per_scene=VAL_FRAMES_PER_SCENE,
    frame_path=frame_path,
    render=render_frame,
    farthest=lidar.FARTHEST,
    panel=(1242, 188),
    columns=2,
    dots=True,
)
