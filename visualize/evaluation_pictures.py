"""Pictures of the images an evaluation passes by: result strips, depth files, affinity."""

from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from cspn import CSPN
from dataloaders import DepthDataset
from engine import distributed
from engine.evaluation import best_and_worst, evaluate
from visualize.influence import affinity_picture
from visualize.pictures import result_strip, save_depth_png


class Illustrator:
    """Draws those images of index in `wanted` that `engine.evaluation.evaluate` hands it.

    Writes `<index>_strip.png`, `<index>_depth.png` (16-bit millimetres) and, for a network that
    CSPN refines, `<index>_affinity.png` to `folder`; `drawn` holds the index and name of each.
    `model` is asked for its coarse depth too where it has a refinement.
    """

    def __init__(self, model: nn.Module, folder: Path, wanted: Collection[int]):
        self.model = model
        self.folder = folder
        self.wanted = wanted
        self.drawn: dict[int, str] = {}

    def __call__(self, batch: dict, pred: Tensor) -> None:
        """Called by `evaluate` with each batch and its prediction."""
        chosen = [(i, n) for i, n in enumerate(batch["index"].tolist()) if n in self.wanted]
        if not chosen:
            return
        coarse = guidance = None
        if self.model.refinement is not None:
            coarse, guidance = self.model.coarse_depth_and_guidance(batch["rgbd"])
        for i, index in chosen:
            rgb = batch["rgb"][i].cpu().numpy()
            maps = (batch["rgbd"][i, 3], pred[i, 0], batch["depth"][i, 0])
            strip = result_strip(
                rgb,
                *(m.cpu().numpy() for m in maps),
                None if coarse is None else coarse[i, 0].float().cpu().numpy(),
            )
            strip.save(self.folder / f"{index:04d}_strip.png")
            save_depth_png(self.folder / f"{index:04d}_depth.png", pred[i, 0].cpu().numpy())
            if isinstance(self.model.refinement, CSPN):
                one = slice(i, i + 1)
                picture = affinity_picture(
                    rgb, guidance[one], coarse[one], batch["rgbd"][one, 3:4], self.model.refinement
                )
                picture.save(self.folder / f"{index:04d}_affinity.png")
            self.drawn[index] = batch["name"][i]

    def draw_extremes(
        self, dataset: DepthDataset, rows: list[dict], device: torch.device, amp: str, count: int
    ) -> None:
        """Draw the `count` best and worst images of `rows`, what `evaluate` scored `dataset` by."""
        best, worst = best_and_worst(rows, count)
        drawn = {name for part in distributed.all_gather(self.drawn) for name in part.values()}
        names = {row["name"] for row in [*best, *worst]} - drawn
        places = [frame.relative_to(dataset.root).as_posix() for frame in dataset.frames]
        self.wanted = [index for index, name in enumerate(places) if name in names]
        self.wanted = self.wanted[distributed.rank() :: distributed.world_size()]
        batches = [default_collate([dataset[index]]) for index in self.wanted]
        evaluate(self.model, batches, device, amp=amp, on_batch=self, label="pictures")
