"""Description of one kind of sample set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# The number of a split in the random streams.
SPLITS = {"train": 0, "val": 1}


@dataclass(frozen=True)
class SampleSet:
    """One kind of sample set, made of module-level functions so that workers can receive it.

    Args:
        name: what the frames show, e.g. "sample rooms", for messages and the progress bar.
        package: where the command lives, e.g. "sample_data.rooms".
        layout: the published data set whose layout it has, for the help text.
        manifest: name of the file that marks a folder as this kind.
        version: raised whenever a change alters the frames.
        n_train, n_val: frames of a new folder.
        frames_per_scene: train frames that share a scene.
        val_frames_per_scene: val frames that share a scene.
        frame_path: (root, split, index, frames_per_scene) -> file of a frame.
        render: (seed, split, index, frames_per_scene=...) -> rgb (3, H, W) uint8 and depth
            (H, W) float32 [m], 0 for "not measured".
        farthest: end of the colour scale of contact sheets [m].
        panel: (width, height) of rgb beside depth in a contact sheet [pixels].
        columns: panels beside each other in a contact sheet.
        dots: depth is a sparse scan, drawn with larger points in a contact sheet.
    """

    name: str
    package: str
    layout: str
    manifest: str
    version: int
    n_train: int
    n_val: int
    frames_per_scene: int
    val_frames_per_scene: int
    frame_path: Callable[[Path, str, int, int], Path]
    render: Callable[..., tuple[np.ndarray, np.ndarray]]
    farthest: float
    panel: tuple[int, int] = (480, 180)
    columns: int = 3
    dots: bool = False

    def share(self, split: str, frames_per_scene: int) -> int:
        """Frames of the split that show one scene."""
        return frames_per_scene if split == "train" else self.val_frames_per_scene
