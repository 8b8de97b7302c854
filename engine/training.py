"""What a training run consists of, as one thing that a checkpoint holds and a process puts back.

The order of images is decided by (seed, epoch) and every random draw by (seed, image, epoch), so a
run is where it was once weights, optimiser, schedule, the position in the epoch and the sums of its
scores are. It then goes on bit for bit as if nothing had happened.
"""

import math
import random
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from dataloaders.datasets import most_skipped
from engine import distributed
from engine.checkpoint import Checkpoint, load_weights
from engine.confidence import relative_loss, scored_images
from engine.errors import CheckpointError, RunError
from engine.metrics import EpochScores, depth_loss, measured
from engine.schedule import Schedule, complete_state


class Objective:
    """The loss of the batches whose gradients make one optimiser step: that of one large batch, the
    sum of all errors over the number of all measured pixels.

    A batch's own mean therefore weighs as many times the first one's as it has more pixels, and the
    step divides its gradients by the sum of the weights.

    Args:
        confidence: whether the network estimates its error too. Each image is then weighed by its
            own error (`engine.confidence.relative_loss`), and images are counted, not pixels.

    Attributes:
        options: keyword arguments of the network's call.
    """

    def __init__(self, confidence: bool):
        self.confidence = confidence
        self.options = {"with_error": True} if confidence else {}
        self.weights: list[Tensor] = []
        self.first: Tensor | None = None  # pixels (or images) of the step's first batch

    def __call__(
        self, output: Tensor | tuple[Tensor, Tensor], target: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Add a batch to the step; every process must call it.

        Args:
            output: of the network: depth (B, 1, H, W) in metres, with `confidence` its error too.
            target: (B, 1, H, W) metres, 0 = no ground truth.

        Returns:
            The depth; the mean loss, times the number of processes, whose gradients DDP averages;
            and that loss times the batch's weight, to call `backward` of.
        """
        pred, error = output if self.confidence else (output, None)
        count = distributed.all_reduce_sum((scored_images if self.confidence else measured)(target))
        part = count / distributed.world_size()
        if self.confidence:
            loss = relative_loss(pred, error, target, part)
        else:
            loss = depth_loss(pred, target, part)
        self.first = count.clamp(min=1) if self.first is None else self.first
        self.weights.append(count / self.first)
        return pred, loss, loss * self.weights[-1]

    def finish_step(self) -> Tensor | None:
        """Return what to divide the gradients by, None for one batch; begin the next step."""
        total = sum(self.weights) if len(self.weights) > 1 else None
        self.weights, self.first = [], None
        return total


@dataclass
class SkippedFrames:
    """The bad frames of one epoch that `--bad_frames skip` left out, over all processes.

    Each counts once however often it was met. An epoch of n frames may leave out 1 % of n, and one
    frame at least; the limit is that of the whole epoch, so that it depends neither on the order
    of the frames nor on the number of processes.

    frames: frames of the training set.
    sentences: one per frame, naming it; the same in every process.
    """

    frames: int
    sentences: list[str] = field(default_factory=list)

    def add(self, batch: dict, device: torch.device | str = "cpu") -> list[str]:
        """Count what `batch["skipped"]` names; every process must call it, where the data set
        skips. Return the sentences that are new in this epoch, in any process; raise RunError for
        more than the limit."""
        if "skipped" not in batch:
            return []
        found = list(batch["skipped"])
        if distributed.any_rank(bool(found), device=device)[0]:
            found = [sentence for part in distributed.all_gather(found) for sentence in part]
        new = [s for s in dict.fromkeys(found) if s not in self.sentences]
        self.sentences += new
        limit = most_skipped(self.frames)
        if len(self.sentences) > limit:
            raise RunError(
                f"{len(self.sentences)} of {self.frames} training frames cannot be used in this "
                f"epoch, more than {limit} (1 %, at least one), the last: {self.sentences[-1]}"
            )
        return new

    def state_dict(self) -> dict:
        """Return plain values, for a checkpoint in the middle of an epoch."""
        return {"frames": self.frames, "sentences": list(self.sentences)}

    def load_state_dict(self, state: dict) -> None:
        """Go on from `state_dict()`, whatever the number of processes that wrote it."""
        self.sentences = list(state["sentences"])


@dataclass(eq=False)
class Training:
    """A run: what is trained, by what, and how far it is."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    device: torch.device
    frames: dict[str, dict]  # of "train" and "val"; see `engine.resume.frames_record`

    def __post_init__(self):
        self.epoch = 0  # epochs finished
        self.step = 0  # batches trained on in all
        self.position = 0  # images of the present epoch trained on, over all processes
        self.best_rmse = math.inf  # lowest validation RMSE so far, in metres
        self.rows: dict[str, list[dict]] = {"train": [], "eval": []}  # of both tables, by epoch
        self.scores = EpochScores(self.device)  # of the present epoch so far
        self.skipped = SkippedFrames(self.frames["train"]["count"])  # by --bad_frames skip

    def optimizer_step(self, clip_grad: float | None, weight: Tensor | None = None) -> Tensor:
        """Update the weights; return the gradients' norm before clipping.

        Under fp16 the scaler skips a step whose norm is not finite.

        Args:
            clip_grad: largest norm of all gradients together, None for no limit.
            weight: what the gradients are divided by first, None for 1.
        """
        self.schedule.before_step(self.step)
        self.scaler.unscale_(self.optimizer)
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        gradients = [p.grad for p in parameters]
        if weight is not None:
            torch._foreach_div_(gradients, weight.clamp(min=1e-12))  # 0 where nothing is measured
        norm = nn.utils.get_total_norm(gradients)
        if clip_grad is not None:
            nn.utils.clip_grads_with_norm_(parameters, clip_grad, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def count_batch(self, loss: Tensor, pred: Tensor, target: Tensor) -> None:
        """Note a batch that was trained on: its mean loss over all processes' pixels times their
        number, its prediction and ground truth, both (B, 1, H, W) metres."""
        processes = distributed.world_size()
        self.step += 1
        self.position += len(pred) * processes
        self.scores.update(loss / processes, pred, target)

    def finish_epoch(self, scores: dict[str, float]) -> bool:
        """Add the epoch's rows, given its validation scores; return whether it is the best one."""
        self.epoch += 1
        is_best = scores["RMSE"] < self.best_rmse
        self.best_rmse = min(self.best_rmse, scores["RMSE"])
        lr = self.optimizer.param_groups[0]["lr"]
        row = {"epoch": self.epoch, "lr": lr, "is_best": int(is_best)}
        self.rows["train"].append(row | self.scores.over_processes().means())
        self.rows["eval"].append(row | scores)
        self.schedule.step(scores["MAE"])
        self.position = 0
        self.scores = EpochScores(self.device)
        self.skipped.sentences.clear()
        return is_best

    def forget_best(self) -> None:
        """Have the next epoch be the best so far."""
        self.best_rmse = math.inf
        for row in self.rows["train"] + self.rows["eval"]:
            row["is_best"] = 0

    def state_dict(self) -> dict:
        """Return everything, as tensors and builtins; every process must call it."""
        plain = ("epoch", "step", "position", "best_rmse", "rows", "frames")
        parts = ("skipped", "model", "optimizer", "schedule", "scaler")
        return {
            **{name: getattr(self, name) for name in plain},
            **{name: getattr(self, name).state_dict() for name in parts},
            "epoch_scores": self.scores.over_processes().state_dict(),
            "rng": random_states(),
        }

    def resume(self, checkpoint: Checkpoint, *, lr: float | None = None) -> None:
        """Go on from a checkpoint that holds training, with the rate `lr` unless that is None.

        What the optimiser was made with (momentum, weight decay, Nesterov) stays, its state and its
        rate are the checkpoint's. Raise CheckpointError where the file belongs to another network,
        or a part does not fit.
        """
        load_weights(self.model, checkpoint)
        state, part = checkpoint.training, "progress"
        made_with = [
            {k: v for k, v in group.items() if k not in ("params", "lr", "initial_lr")}
            for group in self.optimizer.param_groups
        ]
        try:
            self.epoch, self.step = int(state["epoch"]), int(state["step"])
            self.position, self.best_rmse = int(state["position"]), float(state["best_rmse"])
            self.rows = {table: [dict(row) for row in state["rows"][table]] for table in self.rows}
            self.scores.load_state_dict(state["epoch_scores"])
            self.skipped.load_state_dict(state["skipped"])
            for part in ("optimizer", "schedule", "scaler"):
                if state[part]:
                    getattr(self, part).load_state_dict(state[part])
                if part == "optimizer":
                    for group, own in zip(self.optimizer.param_groups, made_with, strict=True):
                        group |= own
            if lr is not None:
                self.schedule.set_lr(lr)
            complete_state(self.optimizer)
            part = "rng"
            set_random_states(state["rng"])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            raise CheckpointError(
                f"{checkpoint.path} cannot be resumed: its {part} is missing or does not fit"
            ) from error


def seed_everything(seed: int) -> None:
    """Start every global random state from `seed`."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


def random_states() -> dict:
    """Return every global random state, as tensors and builtins that a checkpoint can hold."""
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, keys.tolist(), int(position), int(has_gauss), float(cached)],
        "python": list(random.getstate()),
    }


def set_random_states(states: dict) -> None:
    """Go on from `random_states()`; a GPU's state is left alone where their number differs."""
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), position, has_gauss, cached))  # noqa: NPY002
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
