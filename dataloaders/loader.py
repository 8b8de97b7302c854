"""Batches of a data set in an order that the seed and the epoch decide alone.

One path whatever the number of loader processes: `DepthDataset.load` makes arrays of a frame, in a
loader process where there are any; `_pack` makes few bytes of them, since new shared memory
is what a batch costs most; `_unpack` makes items and the batch in this process.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler, default_collate

from dataloaders.datasets import DepthDataset, check_measured
from dataloaders.errors import DataError
from dataloaders.workers import STALL_LIMIT, WatchedLoader

UNPACKED_AHEAD = 2  # batches in pinned memory that wait for a GPU


@dataclass(eq=False)
class EpochSampler(Sampler):
    """Yield (index, epoch) keys, with `shuffle` in an order drawn from (seed, epoch).

    Each index carries its epoch, so that workers kept over epochs draw anew, and a resumed run gets
    the batches of the uninterrupted one. Each of several processes gets its part of every batch, so
    that together they see the batches that one process would.

    Attributes:
        epoch: of the next pass. start: images of it to leave out, for a run that goes on.
    """

    length: int
    shuffle: bool
    seed: int = 0
    batch_size: int = 1
    rank: int = 0
    world_size: int = 1
    epoch: int = field(default=0, init=False)
    start: int = field(default=0, init=False)

    def __len__(self) -> int:
        return len(self._indices(np.arange(self.start, self.length)))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.length)
        if self.shuffle:
            # One 64-bit seed for each (seed, epoch); the multiplier keeps neighbours apart.
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**64)
            order = torch.randperm(self.length, generator=generator).numpy()
        epoch = self.epoch
        return ((int(index), epoch) for index in self._indices(order[self.start :]))

    def _indices(self, order: np.ndarray) -> np.ndarray:
        """Return this process's part: of each batch in training, every n-th image otherwise."""
        if self.world_size == 1:
            return order
        if not self.shuffle:
            return order[self.rank :: self.world_size]
        whole = order[: len(order) // self.batch_size * self.batch_size]
        part = self.batch_size // self.world_size
        return whole.reshape(-1, self.world_size, part)[:, self.rank].reshape(-1)


def make_loader(
    dataset: DepthDataset,
    batch_size: int,
    *,
    shuffle: bool = False,
    num_workers: int = 2,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    stall_limit: float = STALL_LIMIT,
) -> "FrameLoader":
    """Return a loader over `dataset`; set `loader.sampler.epoch` before each epoch.

    Batches hold what an item holds with a leading B; `skipped` is one list for all of them. In
    training (`shuffle`) an incomplete last batch is dropped, since it would weigh more than the
    others, and so is `rgb`, which only pictures need.

    Args:
        batch_size: images per batch; in training over all processes, in evaluation in each.
        num_workers: loader processes, of each process of the run.
        rank, world_size: of how many processes this is which; they divide each training batch.
        stall_limit: seconds without a new frame after which a batch is given up.

    Raises:
        DataError: a training batch that the processes cannot divide, or that is larger than the
            data set where they must; training frames without one measurement. While iterating: a
            frame that cannot be used, or a loader process that died, stalled or could not hand
            its batch over, with the frame it was on.
    """
    if shuffle and world_size > 1:
        if batch_size % world_size:
            raise DataError(f"a batch of {batch_size} cannot be divided by {world_size} processes")
        if len(dataset) < batch_size:
            raise DataError(f"{len(dataset)} frames are fewer than a batch of {batch_size}")
    if shuffle:
        check_measured(dataset)
    return FrameLoader(
        _LoadedFrames(dataset),
        batch_size=batch_size // world_size if shuffle else batch_size,
        sampler=EpochSampler(len(dataset), shuffle, seed, batch_size, rank, world_size),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        stall_limit=stall_limit,
        collate_fn=_pack,
        drop_last=shuffle and len(dataset) >= batch_size,
        # The loader draws a number for its workers, which nothing uses: not from the run's state.
        generator=torch.Generator().manual_seed(seed),
    )


class FrameLoader(WatchedLoader):
    """Batches of items; made by `make_loader`."""

    @cached_property
    def unpacks_in_a_thread(self) -> bool:
        """Return whether to unpack beside the thread that gives a GPU work, which never waits."""
        return torch.cuda.is_available()

    def __iter__(self) -> Iterator[dict]:
        unpack = partial(_unpack, dataset=self.dataset.dataset, with_rgb=not self.sampler.shuffle)
        if not self.unpacks_in_a_thread:
            yield from map(unpack, super().__iter__())
            return
        with ThreadPoolExecutor(max_workers=1) as thread:
            ahead = deque()
            for packed in super().__iter__():
                ahead.append(thread.submit(unpack, packed))
                if len(ahead) > UNPACKED_AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()


class _LoadedFrames(Dataset):
    """What `DepthDataset.load` returns, or the whole item of a class with its own `__getitem__`."""

    def __init__(self, dataset: DepthDataset):
        self.dataset, self.frames = dataset, dataset.frames
        plain = type(dataset).__getitem__ is DepthDataset.__getitem__
        self.fetch = dataset.load_usable if plain else dataset.__getitem__

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[dict]:
        loaded = [self.fetch(key) for key in keys]
        if self.dataset.on_frame is not None:
            self.dataset.on_frame(None)
        return loaded

    def watch(self, function: Callable[[int | None], None]) -> None:
        """Have `function` called with each frame that begins, and with None after a batch."""
        self.dataset.on_frame = function


def _pack(frames: list[dict]) -> dict:
    """Return frames with colours and depth of the batch in one array each, and the few
    measurements in place of a map."""
    if "rgbd" in frames[0]:
        return {"frames": frames}
    for frame in frames:
        sparse_depth = frame["sparse_depth"].reshape(-1)
        pixels = np.flatnonzero(sparse_depth).astype(np.int32)
        frame["sparse_depth"] = pixels, sparse_depth[pixels]
    stacked = (np.stack([frame.pop(key) for frame in frames]) for key in ("rgb", "depth"))
    rgb, depth = map(torch.from_numpy, stacked)
    return {"frames": frames, "rgb": rgb, "depth": depth}


def _unpack(packed: dict, dataset: DepthDataset, *, with_rgb: bool) -> dict:
    """Return the batch of frames that `_pack` packed, pinned where there is a GPU."""
    items, whole = packed["frames"], {}
    pinned = torch.cuda.is_available()
    if "rgb" in packed:
        rgb, depth = packed["rgb"].numpy(), packed["depth"]
        rgbd = torch.empty(len(depth), 4, *depth.shape[1:], pin_memory=pinned)
        whole = {"rgbd": rgbd, "depth": depth[:, None]}
        for i, frame in enumerate(items):
            pixels, metres = frame["sparse_depth"]
            sparse_depth = np.zeros(depth[i].shape, np.float32)
            sparse_depth.reshape(-1)[pixels] = metres
            frame |= {"rgb": rgb[i], "depth": depth[i].numpy(), "sparse_depth": sparse_depth}
            items[i] = dataset.item(frame, with_rgb=with_rgb, out=rgbd[i].numpy())
    skipped = [sentence for item in items for sentence in item.pop("skipped", ())]
    if not with_rgb:
        for item in items:
            item.pop("rgb", None)
    batch = {}
    for key in ("rgbd", "depth"):
        values = _batched([item.pop(key) for item in items], whole.get(key))
        batch[key] = values.pin_memory() if pinned else values
    batch |= default_collate(items)
    return batch | ({"skipped": skipped} if dataset.bad_frames == "skip" else {})


def _batched(parts: list[torch.Tensor], whole: torch.Tensor | None) -> torch.Tensor:
    """Return `whole` where `parts` are its images, and what a subclass made of them otherwise."""

    def layout(tensor: torch.Tensor) -> tuple:
        return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype

    if whole is not None and list(map(layout, parts)) == list(map(layout, whole)):
        return whole
    return torch.stack(parts)
