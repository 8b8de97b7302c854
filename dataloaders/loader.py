"""Batches of a data set in an order that the seed and the epoch decide alone."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Sampler

from dataloaders.datasets import DepthDataset
from dataloaders.hdf5 import DataError
from dataloaders.packing import Samples, collate, collate_without_rgb, pack, unpack
from dataloaders.workers import WatchedLoader


class EpochSampler(Sampler):
    """Yields (index, epoch) keys, shuffled by (seed, epoch) where asked for.

    The epoch travels with each index, so workers that outlive an epoch still draw anew, and a
    resumed run sees what the uninterrupted one would have. Of several processes each gets its own
    share of every batch, so that together they see the batches that one process would.

    Attributes:
        epoch: of the next pass. start: images of it to leave out, for a run that goes on.
    """

    def __init__(
        self,
        length: int,
        *,
        shuffle: bool,
        seed: int = 0,
        batch_size: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.length = length
        self.shuffle = shuffle
        self.seed = seed
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return len(self._indices(range(self.start, self.length)))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = list(range(self.length))
        if self.shuffle:
            # One 64-bit seed for each (seed, epoch); the multiplier keeps neighbours apart.
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**64)
            order = torch.randperm(self.length, generator=generator).tolist()
        return iter([(index, self.epoch) for index in self._indices(order[self.start :])])

    def _indices(self, order: Sequence[int]) -> Sequence[int]:
        """This process's share: of each batch in training, every n-th image in evaluation."""
        if self.world_size == 1:
            return order
        if not self.shuffle:
            return order[self.rank :: self.world_size]
        share = self.batch_size // self.world_size
        starts = range(0, len(order) - self.batch_size + 1, self.batch_size)
        mine = [s + self.rank * share for s in starts]
        return [order[i] for first in mine for i in range(first, first + share)]


def make_loader(
    dataset: DepthDataset,
    batch_size: int,
    *,
    shuffle: bool = False,
    num_workers: int = 2,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader:
    """A loader over `dataset`; set `loader.sampler.epoch` before each epoch.

    Batches hold what an item holds with a leading B; `skipped` is one list for all of them. In
    training (`shuffle`) an incomplete last batch is dropped, since it would weigh more than the
    others, and so is `rgb`, which only pictures need.

    Args:
        batch_size: images a batch; in training over all processes, in evaluation in each.
        num_workers: loader processes, of each process of the run.
        rank, world_size: of how many processes this is which; they share each training batch.

    Raises:
        DataError: a training batch that the processes cannot share, or that is larger than the
            data set where they must. While iterating: a frame that cannot be used, or a worker
            that died, with the frame it was on.
    """
    if shuffle and world_size > 1:
        if batch_size % world_size:
            raise DataError(f"a batch of {batch_size} cannot be shared by {world_size} processes")
        if len(dataset) < batch_size:
            raise DataError(f"{len(dataset)} frames are fewer than a batch of {batch_size}")
    sampler = EpochSampler(
        len(dataset),
        shuffle=shuffle,
        seed=seed,
        batch_size=batch_size,
        rank=rank,
        world_size=world_size,
    )
    packs = num_workers > 0
    kind = _UnpackingLoader if packs else WatchedLoader
    plain = collate_without_rgb if shuffle else collate
    return kind(
        Samples(dataset) if packs else dataset,
        batch_size=batch_size // world_size if shuffle else batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=pack if packs else plain,
        drop_last=shuffle and len(dataset) >= batch_size,
        pin_memory=torch.cuda.is_available() and not packs,
        persistent_workers=packs,
        # The loader draws a number for its workers, which nothing uses: not from the run's state.
        generator=torch.Generator().manual_seed(seed),
    )


class _UnpackingLoader(WatchedLoader):
    """Unpacks what its processes packed."""

    def __iter__(self) -> Iterator[dict]:
        encoding = self.dataset.rgb_encoding
        for batch in super().__iter__():
            yield unpack(batch, encoding, with_rgb=not self.sampler.shuffle)
