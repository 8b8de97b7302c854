"""Batches of a data set in an order that the seed and the epoch decide alone."""

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Sampler, default_collate

from dataloaders.datasets import DepthDataset
from dataloaders.workers import WatchedLoader


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

    Batches hold what an item holds with a leading B; `skipped` is one list for all of them. In
    training (`shuffle`) an incomplete last batch is dropped, since it would weigh more than the
    others, and so is `rgb`, which only pictures need and which is a third of what a worker hands
    over.

    Raises (when iterated):
        DataError: a frame that cannot be used, or a process that died, with the frame it was on.
    """
    return WatchedLoader(
        dataset,
        batch_size=batch_size,
        sampler=EpochSampler(len(dataset), shuffle, seed),
        num_workers=num_workers,
        collate_fn=_collate_without_rgb if shuffle else _collate,
        drop_last=shuffle and len(dataset) >= batch_size,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
    )


def _collate_without_rgb(items: list[dict]) -> dict:
    return _collate([{k: v for k, v in item.items() if k != "rgb"} for item in items])


def _collate(items: list[dict]) -> dict:
    skipped = [item.pop("skipped") for item in items if "skipped" in item]
    batch = default_collate(items)
    if skipped:
        batch["skipped"] = [sentence for of_item in skipped for sentence in of_item]
    return batch
