"""NYU Depth v2 and KITTI odometry as data sets of RGB and sparse depth, with all their facts."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch.utils.data import Dataset

from dataloaders.errors import DataError
from dataloaders.hdf5 import read_frame
from dataloaders.sampling import SAMPLERS, Measurements, measure
from dataloaders.shards import ShardFrames
from dataloaders.splits import SPLITS, list_frames
from dataloaders.transforms import (
    CROPS,
    DEPTH_RESIZES,
    RGB_ENCODINGS,
    Augmentation,
    encode_rgb,
    resized_size,
    transform_frame,
    unit_rgb,
)

BAD_FRAMES = ("stop", "skip")


def most_skipped(frames: int) -> int:
    """Return how many of an epoch's `frames` may be left out: 1 %, but one at least."""
    return max(1, frames // 100)


@dataclass(eq=False)
class DepthDataset(Dataset):
    """Frames of one split, transformed as the release does; use a subclass.

    An item is made in two steps, and a subclass may change either: `load` reads, transforms and
    samples a frame, in a loader process where there are any; `item` makes tensors of that.

    Item i is a dict of
        rgbd: (4, h, w) float32, the encoded RGB, then sparse depth in metres, 0 = none;
        depth: (1, h, w) float32 metres, 0 = no ground truth;
        rgb: (3, h, w) float32 in [0, 1], before encoding;
        index: i; name: the file, relative to the root;
        skipped: with `bad_frames="skip"`, one sentence for each frame left out before this one.

    The draw of item i (samples, and augmentation in training) depends on (seed, i) alone, and on
    the epoch in training: never on workers, batch size or what was read before. Index with
    `(i, epoch)` for another epoch than 0.

    Args:
        root: folder with `train/<scene>/*.h5` and `val/**/*.h5`, or several of them, whose frames
            are one set; the attribute is the first.
        split: "train" augments, "val" does not.
        file_list: CSV of paths with the header `Name`; None walks the folder.
        n_sample: sparse measurements per image; 500 as published.
        sampler: "bernoulli" (release) or another; see `dataloaders.sampling`.
        noise, outliers: see `dataloaders.sampling.Measurements`; "any" draws its own.
        rgb_encoding: "released" or "normalized"; see `transforms.encode_rgb`.
        depth_resize: "released" or "hole_aware"; None takes the data set's own default.
        augment: override the split's own choice.
        crop: "centre" (release), or "random" in training.
        bad_frames: what a frame that cannot be read or used does. "stop" raises its DataError;
            "skip", for training alone, gives the next frame in file order with that frame's own
            draw, so that what an item holds still depends on nothing but its key.
        seed: of every random draw.

    Attributes:
        roots: all of them. frames: path of each frame, in a fixed order.
        on_frame: called with the index of each frame that begins, None after a batch; or None.

    Raises:
        DataError: missing root, empty list, an option that does not exist.
    """

    # The facts of a data set, which a subclass states.
    crop_size: ClassVar[tuple[int, int]]  # (height, width) of an item
    box: ClassVar[tuple[int, int, int, int] | None] = None  # top, left, bottom, right: cut first
    short_side: ClassVar[int] = 240  # pixels after resizing, in training times the random scale
    resizes_in_validation: ClassVar[bool] = True
    samples_over_valid: ClassVar[bool] = False  # n_sample is a fraction of these pixels, or of all
    default_depth_resize: ClassVar[str] = "released"
    folder_word: ClassVar[str]  # in the name of a folder of this data set
    published_frames: ClassVar[tuple[int, int]]  # of a complete copy's train/ and val/
    published_scenes: ClassVar[tuple[int | None, int | None]] = (None, None)  # None: not known
    max_metres: ClassVar[float]  # depth that no frame of the sensor exceeds
    cameras: ClassVar[tuple[tuple[str, str], ...]] = ()  # name, end of its files' stems

    root: str | Path | Sequence[str | Path]
    split: str
    _: KW_ONLY
    file_list: str | Path | None = None
    n_sample: int = 500
    sampler: str = "bernoulli"
    noise: float = 0.0
    outliers: float = 0.0
    rgb_encoding: str = "released"
    depth_resize: str | None = None
    augment: bool | None = None
    crop: str = "centre"
    bad_frames: str = "stop"
    seed: int = 0

    def __post_init__(self):
        self.depth_resize = self.depth_resize or self.default_depth_resize
        for name, allowed in (
            ("split", SPLITS),
            ("sampler", SAMPLERS),
            ("rgb_encoding", RGB_ENCODINGS),
            ("depth_resize", DEPTH_RESIZES),
            ("crop", CROPS),
            ("bad_frames", BAD_FRAMES),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise DataError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        if self.n_sample < 0:
            raise DataError(f"n_sample must not be negative, got {self.n_sample}")
        if self.augment is None:
            self.augment = self.split == "train"
        if self.bad_frames == "skip" and not self.augment:
            raise DataError("bad_frames skip is for training: evaluation scores every frame")
        self.roots = list(
            map(Path, [self.root] if isinstance(self.root, (str, Path)) else self.root)
        )
        self.root = self.roots[0]
        if self.file_list and len(self.roots) > 1:
            raise DataError(f"a list of frames goes with one data root, got {len(self.roots)}")
        file_list = Path(self.file_list) if self.file_list else None
        parts = [list_frames(folder, self.split, file_list) for folder in self.roots]
        self.frames = parts[0] if len(parts) == 1 else list(chain(*parts))
        self.on_frame: Callable[[int | None], None] | None = None

    def name(self, path: Path) -> str:
        """Return a frame's path below its root; of several roots, with the root's own name."""
        root = next(root for root in self.roots if path.is_relative_to(root))
        return path.relative_to(root if len(self.roots) == 1 else root.parent).as_posix()

    def names(self) -> Iterator[str]:
        """Yield the `name` of every frame."""
        if isinstance(self.frames, ShardFrames):
            return self.frames.names()
        return map(self.name, self.frames)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, key: int | tuple[int, int]) -> dict:
        return self.item(self.load_usable(key))

    def load_usable(self, key: int | tuple[int, int]) -> dict:
        """Return `load` of the frame of a key, or of the next that serves if `bad_frames` skips;
        raise DataError where none does of so many in a row that an epoch may not hold more."""
        index, epoch = key if isinstance(key, tuple) else (key, 0)
        index = range(len(self.frames))[index]
        if self.bad_frames == "stop":
            return self.load(index, epoch)
        skipped: list[str] = []
        for i in range(index, index + most_skipped(len(self.frames)) + 1):
            try:
                return self.load(i % len(self.frames), epoch) | {"skipped": skipped}
            except DataError as error:
                skipped.append(str(error))
        raise DataError(f"{skipped[0]}; {len(skipped)} frames in a row cannot be used")

    def load(self, index: int, epoch: int) -> dict:
        """Read, transform and sample one frame: rgb (3, h, w) uint8, sparse_depth and depth (h, w)
        float32 metres, 0 = none, as arrays; index and name.

        Raises:
            DataError: the frame cannot be read or used.
        """
        if self.on_frame is not None:
            self.on_frame(index)
        path = self.frames[index]
        draw = (self.seed, index, epoch) if self.augment else (self.seed, index)
        rng = np.random.default_rng(draw)
        rgb, depth = read_frame(path)
        augmentation = Augmentation.draw(rng, self.crop) if self.augment else None
        try:
            rgb, depth = self.transform(rgb, depth, augmentation)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error
        measurements = Measurements.choose(
            self.sampler, self.n_sample, self.noise, self.outliers, rng
        )
        sparse_depth = measure(rgb, depth, measurements, rng, over_valid=self.samples_over_valid)
        arrays = {"rgb": rgb, "sparse_depth": sparse_depth, "depth": depth}
        return arrays | {"index": index, "name": self.name(path)}

    def item(self, loaded: dict, *, with_rgb: bool = True, out: np.ndarray | None = None) -> dict:
        """Return the item of what `load` returned, without rgb unless `with_rgb`, since only
        pictures need it. `out`: (4, h, w) float32, memory for rgbd, a part of a batch."""
        rgb, sparse_depth, depth = loaded["rgb"], loaded["sparse_depth"], loaded["depth"]
        rgbd = np.empty((4, *depth.shape), np.float32) if out is None else out
        encode_rgb(rgb, self.rgb_encoding, out=rgbd[:3])
        rgbd[3] = sparse_depth
        item = {"rgbd": torch.from_numpy(rgbd), "depth": torch.from_numpy(depth)[None]}
        if with_rgb:
            item["rgb"] = torch.from_numpy(unit_rgb(rgb))
        made = ("rgb", "sparse_depth", "depth")
        return item | {key: value for key, value in loaded.items() if key not in made}

    def transform(
        self, rgb: np.ndarray, depth: np.ndarray, augmentation: Augmentation | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a stored frame as rgb (3, h, w) uint8 and depth (h, w) float32 metres, cropped;
        raise ValueError for a frame that is smaller than what is cut out of it."""
        self.check_size(depth.shape)
        return transform_frame(
            rgb,
            depth,
            crop_size=self.crop_size,
            short_side=self.short_side if self.augment or self.resizes_in_validation else None,
            box=self.box,
            augmentation=augmentation,
            depth_resize=self.depth_resize,
        )

    @classmethod
    def check_size(cls, size: tuple[int, int]) -> None:
        """Raise ValueError for a frame (height, width) that lacks part of `box` or of the crop.

        What lies outside of a frame would be cut out as black without a measurement.
        """
        problem = cls._too_small(size)
        if problem and size[0] > size[1] and not cls._too_small(size[::-1]):
            problem += "; it is upright, rotate rgb and depth by 90 degrees"
        if problem:
            raise ValueError(f"a frame of {size[0]}x{size[1]} pixels, height x width, {problem}")

    @classmethod
    def _too_small(cls, size: tuple[int, int]) -> str | None:
        top, left, bottom, right = cls.box or (0, 0, *size)
        if size[0] < bottom or size[1] < right:
            return f"is smaller than the {bottom}x{right} that the crop needs"
        cut, resized = (right - left, bottom - top), ""
        if cls.resizes_in_validation:
            cut = resized_size(cut, cls.short_side)
            resized = f"resized to {cut[1]}x{cut[0]} "
        height, width = cls.crop_size
        is_small = cut[1] < height or cut[0] < width
        return f"{resized}is smaller than the {height}x{width} crop" if is_small else None


class NYUDepthDataset(DepthDataset):
    """NYU Depth v2, 480x640: short side to 240, centre crop 228x304; see `DepthDataset`."""

    crop_size = (228, 304)
    folder_word = "nyu"
    published_frames = (47_584, 654)
    published_scenes = (280, None)
    max_metres = 20  # a Kinect reads to 10


class KITTIDepthDataset(DepthDataset):
    """KITTI odometry, about 375x1242: rows 130..370, columns 10..1210, centre crop 228x912; see
    `DepthDataset`. Measurements are drawn from the LiDAR's valid pixels, about 4 % of the image.

    Deviation: training resizes the image with the scale, as on NYU; the release divides depth by
    the scale and leaves the image alone. Depth is then resized hole-aware, since plain bilinear
    interpolation would mix nearly every LiDAR point with zeros.
    """

    crop_size = (228, 912)
    box = (130, 10, 370, 1210)
    resizes_in_validation = False
    samples_over_valid = True
    default_depth_resize = "hole_aware"
    folder_word = "kitti"
    published_frames = (46_402, 40_702)
    max_metres = 200  # a LiDAR reads to 120
    cameras = (("left", "-L"), ("right", "-R"))


DATA_SETS = {"nyudepth": NYUDepthDataset, "kitti": KITTIDepthDataset}


def data_set_of(root: Path) -> str | None:
    """Return the name of the data set that a folder's name suggests, None where it does not."""
    name = root.resolve().name.lower()
    return next((key for key, kind in DATA_SETS.items() if kind.folder_word in name), None)


def published_size(data_set: str, split: str) -> str:
    """Return what a complete copy of a split holds, such as "47,584 in 280 folders"."""
    kind, i = DATA_SETS[data_set], SPLITS.index(split)
    scenes = kind.published_scenes[i]
    return f"{kind.published_frames[i]:,}" + (f" in {scenes} folders" if scenes else "")


def check_measured(dataset: DepthDataset, most: int = 64) -> None:
    """Raise DataError if not one of up to `most` frames, evenly spread, has a measurement.

    Frames that cannot be read are left to the loader.
    """
    looked = 0
    for i in np.unique(np.linspace(0, len(dataset) - 1, most).astype(int)):
        with contextlib.suppress(DataError):
            if read_frame(dataset.frames[i])[1].any():
                return
            looked += 1
    if looked:
        raise DataError(
            f"{dataset.root} has no depth to train on: {looked} of {len(dataset)} frames were "
            "looked at, and depth is 0 everywhere, no measurement"
        )
