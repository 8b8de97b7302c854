"""A sample set: what it is made of, the manifest that marks its folder, and its generation."""

import json
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dataloaders.errors import DataError
from dataloaders.hdf5 import is_complete, write_frame
from dataloaders.processes import cores, parallel_map
from engine.files import replace_text

# The number of a split in the random streams.
SPLITS = {"train": 0, "val": 1}


@dataclass(frozen=True)
class SampleSet:
    """One kind of sample set, made of module-level functions so that workers can receive it.

    `render(seed, split, index, frames_per_scene=...)` returns rgb (3, H, W) uint8 and depth (H, W)
    float32 [m], 0 for "not measured".
    """

    name: str  # what the frames show, e.g. "sample rooms", for messages and the progress bar
    package: str  # where the command lives, e.g. "sample_data.rooms"
    layout: str  # the published data set whose layout it has, for the help text
    manifest: str  # name of the file that marks a folder as this kind
    version: int  # raised whenever a change alters the frames
    n_train: int  # frames of a new folder
    n_val: int
    frames_per_scene: int  # train frames that show one scene
    val_frames_per_scene: int
    frame_path: Callable[[Path, str, int, int], Path]  # (root, split, index, frames_per_scene)
    render: Callable[..., tuple[np.ndarray, np.ndarray]]
    farthest: float  # end of the colour scale of contact sheets [m]
    columns: int = 3  # frames beside each other in a contact sheet
    is_sparse: bool = False  # depth is a scan, drawn with larger points in a contact sheet

    def locate(self, split: str, index: int, frames_per_scene: int) -> tuple[int, int, int]:
        """Return the number of a frame's scene, its own number in it, and the scene's frames.

        `index` is of the split, from 0; `frames_per_scene` is that of train.
        """
        frames = frames_per_scene if split == "train" else self.val_frames_per_scene
        return *divmod(index, frames), frames

    def generate(
        self,
        root: str | Path,
        *,
        n_train: int | None = None,
        n_val: int | None = None,
        frames_per_scene: int | None = None,
        seed: int = 0,
        workers: int | None = None,
        progress: bool = True,
    ) -> int:
        """Make the missing frames of a set and return how many were written.

        Args:
            root: folder of the set; new, empty, or a set of this kind with the same settings.
            n_train, n_val: frames of the splits; frames beyond them that exist are kept. None is
                what the folder was begun with, the kind's own numbers for a new one.
            frames_per_scene: train frames of one scene; None is the kind's own number.
            seed: of the whole set, at least 0. workers: processes; None means one per CPU core.
            progress: whether to show a progress bar on stderr.

        Raises:
            DataError: the folder holds something else, or a number is out of range.
        """
        root, workers = Path(root), cores() if workers is None else workers
        per_scene = self.frames_per_scene if frames_per_scene is None else frames_per_scene
        settings = {"version": self.version, "seed": seed, "frames_per_scene": per_scene}
        begun = self._read_manifest(root, settings)
        counts = {"n_train": n_train, "n_val": n_val}
        for name, count in counts.items():
            counts[name] = begun.get(name, getattr(self, name)) if count is None else count
        at_least_one = {"frames_per_scene": per_scene, "workers": workers}
        for name, value in {**counts, "seed": seed, **at_least_one}.items():
            if value < (least := int(name in at_least_one)):
                raise DataError(f"{name} must be at least {least}, got {value}")
        root.mkdir(parents=True, exist_ok=True)
        # Written first, so that a folder left by an interruption is recognised.
        largest = {name: max(count, begun.get(name, 0)) for name, count in counts.items()}
        manifest = {"generator": self.package, **settings, **largest}
        replace_text(root / self.manifest, json.dumps(manifest, indent=2) + "\n")

        jobs = [
            (self, seed, split, per_scene, index, path)
            for split in SPLITS
            for index in range(counts[f"n_{split}"])
            if not is_complete(path := self.frame_path(root, split, index, per_scene))
        ]
        # A scene's frames go to one process, which keeps the scene.
        with closing(parallel_map(_make, jobs, workers, chunk=per_scene)) as made:
            bar = tqdm(made, self.name, len(jobs), unit="frame", disable=not progress)
            deque(bar, maxlen=0)  # runs through it
        return len(jobs)

    def _read_manifest(self, root: Path, settings: dict[str, int]) -> dict[str, int]:
        """Return the manifest of a folder, {} for a new one; raise if it is another set."""
        manifest = root / self.manifest
        if root.exists() and not root.is_dir():
            raise DataError(f"{root} is a file; --root must name a folder")
        if not manifest.is_file():
            if root.exists() and any(not entry.name.startswith(".") for entry in root.iterdir()):
                raise DataError(
                    f"{root} holds something else than {self.name} (no {self.manifest}); "
                    "choose an empty or new folder"
                )
            return {}
        try:
            found = json.loads(manifest.read_text(encoding="utf-8"))
            differing = [key for key, value in settings.items() if found[key] != value]
            found |= {name: int(found[name]) for name in ("n_train", "n_val")}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{manifest} is damaged; choose another folder") from error
        if differing:
            details = ", ".join(f"{key} {found[key]}, not {settings[key]}" for key in differing)
            raise DataError(f"{root} was made with {details}; choose another folder")
        return found


def _make(kind: SampleSet, seed: int, split: str, per_scene: int, index: int, path: Path) -> None:
    """Render and write a frame."""
    write_frame(path, *kind.render(seed, split, index, frames_per_scene=per_scene))
