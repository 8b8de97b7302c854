"""Rendering of the frames of a set of sample rooms, and where they are filed."""

from pathlib import Path

import numpy as np

from sample_data.render import surfaces
from sample_data.rooms import sensor
from sample_data.rooms.light import shade
from sample_data.rooms.scene import sample_scene
from sample_data.rooms.view import find_view
from sample_data.sample_set import SPLITS, SampleSet

FRAMES_PER_SCENE = 8  # of train


def frame_path(root: Path, split: str, index: int, frames_per_scene: int) -> Path:
    """Return the file of a frame, train/room_0000/00001.h5 or val/official/00001.h5."""
    if split == "val":
        return root / "val" / "official" / f"{index + 1:05d}.h5"
    number, frame = divmod(index, frames_per_scene)
    return root / "train" / f"room_{number:04d}" / f"{frame + 1:05d}.h5"


def render_frame(
    seed: int, split: str, index: int, *, frames_per_scene: int = FRAMES_PER_SCENE
) -> tuple[np.ndarray, np.ndarray]:
    """Render a frame by its number in the split, from 0; a val room always has 2 frames.

    Returns:
        rgb: (3, 480, 640) uint8;
        depth: (480, 640) float32 z-depth along the optical axis, 0.5 to 10 m in whole
        millimetres; 0 means "not measured" and occurs in the train split only.
    """
    number, frame, _ = ROOMS.locate(split, index, frames_per_scene)
    room = sample_scene(seed, split, number)
    rng = np.random.default_rng([seed, SPLITS[split], number, 2, frame])
    camera, hits = find_view(room, rng)
    seen, depth = surfaces(room, camera, hits), hits.depth
    light, gloss = shade(room, seen)
    rgb = sensor.expose(light, rng)
    if split == "train":
        infrared = room.materials.infrared.take(seen.material).reshape(seen.shape)
        depth = sensor.kinect(depth, seen.facing.reshape(seen.shape), infrared, gloss, rng)
    return np.ascontiguousarray(rgb.transpose(2, 0, 1)), sensor.millimetres(depth)


ROOMS = SampleSet(
    name="sample rooms",
    package="sample_data.rooms",
    layout="NYU Depth v2",
    manifest="rooms.json",
    version=1,
    n_train=480,
    n_val=48,
    frames_per_scene=FRAMES_PER_SCENE,
    val_frames_per_scene=2,
    frame_path=frame_path,
    render=render_frame,
    farthest=sensor.FARTHEST,
)
