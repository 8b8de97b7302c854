"""NYU Depth v2 and KITTI odometry as data sets of RGB and sparse depth."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from dataloaders.hdf5 import DataError, list_frames, read_frame
from dataloaders.sampling import SAMPLERS, sample_sparse_depth
from dataloaders.transforms import (
    DEPTH_RESIZES,
    RGB_ENCODINGS,
    Augmentation,
    check_crop,
    encode_rgb,
    transform_frame,
    unit_rgb,
)

SPLITS = ("train", "val")
BAD_FRAMES = ("stop", "skip")


def most_skipped(frames: int) -> int:
    """How many frames of a training epoch of `frames` may be left out: 1 %, but one at least."""
    return max(1, frames // 100)


class DepthDataset(Dataset):
    """Frames of one split, transformed as the release does; use a subclass.

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
        root: folder with `train/<scene>/*.h5` and `val/**/*.h5`.
        split: "train" augments, "val" does not.
        file_list: CSV of paths with the header `Name`; None walks the folder.
        n_sample: sparse measurements an image; 500 as published.
        sampler: "bernoulli" (release) or "exact".
        rgb_encoding: "released" or "normalized"; see `transforms.encode_rgb`.
        depth_resize: "released" or "hole_aware"; None takes the data set's own default.
        augment: override the split's own choice.
        bad_frames: what a frame that cannot be read or used does. "stop" raises its DataError;
            "skip", for training alone, gives the next frame in file order instead, with that
            frame's own draw, so that what an item holds still depends on nothing but its key.
            A mean over frames must be over all of them, so evaluation always stops.
        seed: of every random draw.

    Attributes:
        on_frame: called with the index of each frame before it is read; None calls nothing.

    Raises:
        DataError: missing root, empty list, an option that does not exist.
    """

    crop_size: tuple[int, int]
    short_side: int = 240
    resizes_in_validation = True
    samples_over_valid = False
    default_depth_resize = "released"
    box: tuple[int, int, int, int] | None = None

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        file_list: str | Path | None = None,
        n_sample: int = 500,
        sampler: str = "bernoulli",
        rgb_encoding: str = "released",
        depth_resize: str | None = None,
        augment: bool | None = None,
        bad_frames: str = "stop",
        seed: int = 0,
    ):
        depth_resize = depth_resize or self.default_depth_resize
        for name, value, allowed in (
            ("split", split, SPLITS),
            ("sampler", sampler, SAMPLERS),
            ("rgb_encoding", rgb_encoding, RGB_ENCODINGS),
            ("depth_resize", depth_resize, DEPTH_RESIZES),
            ("bad_frames", bad_frames, BAD_FRAMES),
        ):
            if value not in allowed:
                raise DataError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        if n_sample < 0:
            raise DataError(f"n_sample must not be negative, got {n_sample}")
        self.root = Path(root)
        self.split = split
        self.frames = list_frames(self.root, split, Path(file_list) if file_list else None)
        self.n_sample = n_sample
        self.sampler = sampler
        self.rgb_encoding = rgb_encoding
        self.depth_resize = depth_resize
        self.augment = split == "train" if augment is None else augment
        if bad_frames == "skip" and not self.augment:
            raise DataError("bad_frames skip is for training: evaluation scores every frame")
        self.bad_frames = bad_frames
        self.seed = seed
        self.on_frame: Callable[[int], None] | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, key: int | tuple[int, int]) -> dict:
        return self.usable(key, self.item)

    def usable(self, key: int | tuple[int, int], make: Callable[[int, int], dict]) -> dict:
        """What `make(index, epoch)` says of the frame of a key, or of the next one that can be
        used where `bad_frames` skips."""
        index, epoch = key if isinstance(key, tuple) else (key, 0)
        index = range(len(self.frames))[index]
        if self.bad_frames == "stop":
            return make(index, epoch)
        # More bad frames in a row than an epoch may hold: looking further would not help.
        skipped: list[str] = []
        for i in range(index, index + most_skipped(len(self.frames)) + 1):
            try:
                item = make(i % len(self.frames), epoch)
            except DataError as error:
                skipped.append(str(error))
                continue
            return item | {"skipped": skipped}
        raise DataError(f"{skipped[0]}; {len(skipped)} frames in a row cannot be used")

    def item(self, index: int, epoch: int) -> dict:
        """The item of one frame; raises DataError where the frame cannot be read or used."""
        sample = self.sample(index, epoch)
        rgb, sparse_depth, depth = (sample.pop(key) for key in ("rgb", "sparse_depth", "depth"))
        rgbd = np.empty((4, *depth.shape), np.float32)
        encode_rgb(rgb, self.rgb_encoding, out=rgbd[:3])
        rgbd[3] = sparse_depth
        return {
            "rgbd": torch.from_numpy(rgbd),
            "depth": torch.from_numpy(depth)[None],
            "rgb": torch.from_numpy(unit_rgb(rgb)),
        } | sample

    def sample(self, index: int, epoch: int) -> dict:
        """What an item is made of: rgb (3, h, w) uint8, sparse_depth and depth (h, w) float32
        metres, 0 = none, as arrays, index and name. Loader processes hand this over in place of the
        item, which is made of it afterwards (`dataloaders.packing`). Same errors as `item`."""
        if self.on_frame is not None:
            self.on_frame(index)
        path = self.frames[index]
        draw = (self.seed, index, epoch) if self.augment else (self.seed, index)
        rng = np.random.default_rng(draw)
        rgb, depth = read_frame(path)
        try:
            rgb, depth = self.transform(
                rgb, depth, Augmentation.draw(rng) if self.augment else None
            )
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error
        sparse_depth = sample_sparse_depth(
            depth, self.n_sample, self.sampler, rng, over_valid=self.samples_over_valid
        )
        return {
            "rgb": rgb,
            "sparse_depth": sparse_depth,
            "depth": depth,
            "index": index,
            "name": path.relative_to(self.root).as_posix(),
        }

    def transform(
        self, rgb: np.ndarray, depth: np.ndarray, augmentation: Augmentation | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """A stored frame to rgb (3, h, w) uint8 and depth (h, w) float32 metres of `crop_size`.

        Raises:
            ValueError: the frame is smaller than what is cut out of it.
        """
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
        """Raises ValueError for a frame (height, width) that lacks part of `box` or of the crop.

        What lies outside of a frame would be cut out as black without a measurement.
        """
        needed = cls.box[2:] if cls.box else (1, 1)
        short_side = cls.short_side if cls.resizes_in_validation else None
        if size[0] < needed[0] or size[1] < needed[1]:
            raise ValueError(
                f"a frame of {size[0]}x{size[1]} pixels is smaller than the "
                f"{needed[0]}x{needed[1]} that the crop needs"
            )
        check_crop(size, cls.crop_size, short_side, cls.box)


class NYUDepthDataset(DepthDataset):
    """NYU Depth v2, 480x640: short side to 240, centre crop 228x304; see `DepthDataset`."""

    crop_size = (228, 304)


class KITTIDepthDataset(DepthDataset):
    """KITTI odometry, about 375x1242: rows 130..370, columns 10..1210, centre crop 228x912.

    Measurements are drawn from the LiDAR's valid pixels, about 4 % of the image; see
    `DepthDataset`.

    Deviation: training resizes the image with the scale, as on NYU; the release divides depth by
    the scale and leaves the image alone. Depth is then resized hole-aware, since plain bilinear
    interpolation would mix nearly every LiDAR point with zeros.
    """

    crop_size = (228, 912)
    box = (130, 10, 370, 1210)
    resizes_in_validation = False
    samples_over_valid = True
    default_depth_resize = "hole_aware"


DATA_SETS: dict[str, type[DepthDataset]] = {
    "nyudepth": NYUDepthDataset,
    "kitti": KITTIDepthDataset,
}
