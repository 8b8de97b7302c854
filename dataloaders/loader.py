"""Batches of a data set in an order that the seed and the epoch decide alone."""

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Sampler, default_collate

from dataloaders.datasets import DepthDataset
from dataloaders.transforms import encode_rgb, unit_rgb


class EpochSampler(Sampler):
    """Yields (index, epoch) keys, shuffled by (seed, epoch) where asked for.

    The epoch travels with each index, so workers that outlive an epoch still draw anew, and a
    resumed run sees what the uninterrupted one would have.
    """

    def __init__(self, length: int, shuffle: bool, seed: int):
        self.length = length
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        if not self.shuffle:
            return iter([(index, self.epoch) for index in range(self.length)])
        # One 64-bit seed for each (seed, epoch); the multiplier keeps neighbours apart.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.length, generator=generator)
        return iter([(index, self.epoch) for index in order.tolist()])


def make_loader(
    dataset: DepthDataset,
    batch_size: int,
    *,
    shuffle: bool = False,
    num_workers: int = 2,
    seed: int = 0,
) -> DataLoader:
    """A loader over `dataset`; set `loader.sampler.epoch` before each epoch.

    Batches hold what an item holds with a leading B. In training (`shuffle`) an incomplete last
    batch is dropped, since it would weigh more than the others, and so is `rgb`, which only
    pictures need.
    """
    packs = num_workers > 0
    kind = _UnpackingLoader if packs else DataLoader
    collate = _without_rgb if shuffle else default_collate
    return kind(
        dataset,
        batch_size=batch_size,
        sampler=EpochSampler(len(dataset), shuffle, seed),
        num_workers=num_workers,
        collate_fn=_pack if packs else collate,
        drop_last=shuffle and len(dataset) >= batch_size,
        pin_memory=torch.cuda.is_available() and not packs,
        persistent_workers=packs,
    )


def _without_rgb(items: list[dict]) -> dict:
    return default_collate([{k: v for k, v in item.items() if k != "rgb"} for item in items])


def _pack(items: list[dict]) -> dict:
    """A batch as a worker hands it over: bytes of the colours and the few measurements, in place of
    floats for each pixel of both. New memory that two processes share is what a batch costs most.
    """
    colours = [item.pop("rgb").mul_(255).round_().to(torch.uint8) for item in items]
    sparse_depth = torch.stack([item.pop("rgbd")[3] for item in items])  # (B, h, w)
    places = sparse_depth.view(-1).nonzero()[:, 0]
    measured = {"places": places.int(), "metres": sparse_depth.view(-1)[places]}
    return default_collate(items) | measured | {"colours": torch.stack(colours)}


class _UnpackingLoader(DataLoader):
    """Makes the batches of `make_loader` from what `_pack` hands over, to the last bit."""

    def __iter__(self) -> Iterator[dict]:
        for batch in super().__iter__():
            yield self._unpack(batch)

    def _unpack(self, batch: dict) -> dict:
        colours, places, metres = (batch.pop(key) for key in ("colours", "places", "metres"))
        count, _, *size = colours.shape
        pinned = {"pin_memory": torch.cuda.is_available()}
        rgbd = torch.empty(count, 4, *size, **pinned)
        for image, into in zip(colours.numpy(), rgbd.numpy(), strict=True):
            encode_rgb(image, self.dataset.rgb_encoding, out=into[:3])
        sparse_depth = torch.zeros(count, *size)
        sparse_depth.view(-1)[places.long()] = metres
        rgbd[:, 3] = sparse_depth
        batch = {"rgbd": rgbd} | batch
        if pinned["pin_memory"]:
            batch["depth"] = batch["depth"].pin_memory()
        if not self.sampler.shuffle:
            batch["rgb"] = torch.stack([torch.from_numpy(unit_rgb(c)) for c in colours.numpy()])
        return batch
