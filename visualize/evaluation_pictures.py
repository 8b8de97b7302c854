"""Pictures of the images that an evaluation scores: strips, depth files, influence maps."""

from collections import ChainMap
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from cspn import CSPN
from dataloaders import DepthDataset
from engine import distributed
from engine.evaluation import best_and_worst, evaluate
from visualize.influence_picture import influence_picture
from visualize.pictures import result_strip, save_depth_png, save_picture


@dataclass
class PictureWriter:
    """Write pictures of chosen images that `engine.evaluation.evaluate` scores.

    Writes `<index>_strip.png`, `<index>_depth.png` (16-bit millimetres) and, for a network that
    CSPN refines, `<index>_affinity.png`.
    """

    model: nn.Module  # runs once more for its coarse depth where it has a refinement
    folder: Path
    wanted: Collection[int]  # indices of images
    drawn: dict[int, str] = field(default_factory=dict)  # index -> name

    def __call__(self, batch: dict, pred: Tensor) -> None:
        """Write the pictures of a batch of `evaluate`, given its prediction (B, 1, H, W) metres."""
        chosen = [(i, n) for i, n in enumerate(batch["index"].tolist()) if n in self.wanted]
        if not chosen:
            return
        coarse = guidance = None
        if self.model.refinement is not None:
            coarse, guidance = self.model.coarse_depth_and_guidance(batch["rgbd"])
        for i, index in chosen:
            rgb = batch["rgb"][i].cpu().numpy()
            maps = [batch["rgbd"][i, 3], pred[i, 0], batch["depth"][i, 0]]
            maps += [] if coarse is None else [coarse[i, 0]]
            sparse_depth, depth, *rest = (m.float().cpu().numpy() for m in maps)
            strip = result_strip(rgb, sparse_depth, depth, *rest)
            save_picture(self.folder / f"{index:04d}_strip.png", strip)
            save_depth_png(self.folder / f"{index:04d}_depth.png", depth)
            if isinstance(self.model.refinement, CSPN):
                one = slice(i, i + 1)
                inputs = (guidance[one], coarse[one], batch["rgbd"][one, 3:4])
                picture = influence_picture(rgb, *inputs, self.model.refinement)
                save_picture(self.folder / f"{index:04d}_affinity.png", picture)
            self.drawn[index] = batch["name"][i]

    def draw_extremes(
        self, dataset: DepthDataset, rows: list[dict], device: torch.device, amp: str, count: int
    ) -> dict[int, str]:
        """Draw the `count` best and worst images that are not drawn yet; return index and name of
        all that are drawn, by any process. Every process must call it.

        `rows` is what `engine.evaluation.evaluate` returned for `dataset`; `amp` is as there.
        """
        best, worst = best_and_worst(rows, count)
        drawn = {name for part in distributed.all_gather(self.drawn) for name in part.values()}
        names = {row["name"] for row in [*best, *worst]} - drawn
        files = list(dataset.names())
        self.wanted = [index for index, name in enumerate(files) if name in names]
        self.wanted = self.wanted[distributed.rank() :: distributed.world_size()]
        batches = [default_collate([dataset[index]]) for index in self.wanted]
        evaluate(self.model, batches, device, amp=amp, on_batch=self, label="pictures")
        return dict(sorted(ChainMap(*distributed.all_gather(self.drawn)).items()))
