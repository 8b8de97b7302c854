"""What a loader process hands to the main one: a third of the bytes, and the same batch to the last
bit. New memory that two processes share is what a batch costs most."""

import torch
from torch.utils.data import default_collate

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


def pack(items: list[dict]) -> dict:
    """A batch as bytes of the colours and the few measurements, in place of floats for each pixel
    of both."""
    colours = [item.pop("rgb").mul_(255).round_().to(torch.uint8) for item in items]
    sparse_depth = torch.stack([item.pop("rgbd")[3] for item in items])  # (B, h, w)
    places = sparse_depth.view(-1).nonzero()[:, 0]
    measured = {"places": places.int(), "metres": sparse_depth.view(-1)[places]}
    return collate(items) | measured | {"colours": torch.stack(colours)}


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
