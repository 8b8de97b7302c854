"""What a loader process hands to the main one: a third of the bytes, and the same batch to the last
bit. New memory that two processes share is what a batch costs most."""

from collections.abc import Callable

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from dataloaders.datasets import DepthDataset
from dataloaders.transforms import encode_rgb, unit_rgb


def collate(items: list[dict]) -> dict:
    """Items as a batch; their `skipped` sentences become one list."""
    skipped = [item.pop("skipped") for item in items if "skipped" in item]
    batch = default_collate(items)
    if skipped:
        batch["skipped"] = [sentence for of_item in skipped for sentence in of_item]
    return batch


def collate_without_rgb(items: list[dict]) -> dict:
    """`collate` without what only pictures need."""
    return collate([{k: v for k, v in item.items() if k != "rgb"} for item in items])


class Samples(Dataset):
    """The samples that a data set's items are made of: what `pack` packs.

    Attributes:
        rgb_encoding, frames, on_frame: the data set's.
    """

    def __init__(self, dataset: DepthDataset):
        self.dataset = dataset
        self.rgb_encoding, self.frames = dataset.rgb_encoding, dataset.frames

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | tuple[int, int]) -> dict:
        return self.dataset.usable(key, self.dataset.sample)

    @property
    def on_frame(self) -> Callable[[int], None] | None:
        return self.dataset.on_frame

    @on_frame.setter
    def on_frame(self, function: Callable[[int], None] | None) -> None:
        self.dataset.on_frame = function


def pack(samples: list[dict]) -> dict:
    """A batch as bytes of the colours and the few measurements, in place of floats for each pixel
    of both."""
    colours, sparse_depth, depth = (
        np.stack([sample.pop(key) for sample in samples])
        for key in ("rgb", "sparse_depth", "depth")
    )
    places = np.flatnonzero(sparse_depth)
    packed = {
        "depth": depth[:, None],
        "places": places.astype(np.int32),
        "metres": sparse_depth.reshape(-1)[places],
        "colours": colours,
    }
    return collate(samples) | {name: torch.from_numpy(value) for name, value in packed.items()}


def unpack(batch: dict, rgb_encoding: str, *, with_rgb: bool) -> dict:
    """The batch that `collate`, or `collate_without_rgb`, makes of the items that were packed."""
    colours, places, metres = (batch.pop(key) for key in ("colours", "places", "metres"))
    count, _, *size = colours.shape
    pinned = torch.cuda.is_available()
    rgbd = torch.empty(count, 4, *size, pin_memory=pinned)
    for image, into in zip(colours.numpy(), rgbd.numpy(), strict=True):
        encode_rgb(image, rgb_encoding, out=into[:3])
    sparse_depth = torch.zeros(count, *size)
    sparse_depth.view(-1)[places.long()] = metres
    rgbd[:, 3] = sparse_depth
    batch = {"rgbd": rgbd} | batch
    if pinned:
        batch["depth"] = batch["depth"].pin_memory()
    if with_rgb:
        batch["rgb"] = torch.stack([torch.from_numpy(unit_rgb(c)) for c in colours.numpy()])
    return batch
