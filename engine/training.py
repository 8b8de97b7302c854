"""What a training run consists of, as one thing that a checkpoint holds and a process puts back.

The order of images is decided by (seed, epoch) and every random draw by (seed, image, epoch), so a
run is where it was once weights, optimiser, schedule, the position in the epoch and the sums of its
scores are. It then goes on bit for bit as if nothing had happened.
"""

import math

import torch
from torch import Tensor, nn

from engine import distributed
from engine.bad_frames import SkippedFrames
from engine.checkpoint import Checkpoint, CheckpointError, load_weights
from engine.metrics import RunningMetrics
from engine.optimizer import complete_momentum
from engine.random_states import random_states, set_random_states
from engine.schedule import CosineDecay, ReduceOnPlateau


class EpochScores:
    """Loss and metrics of an epoch so far, kept on the device."""

    def __init__(self, device: torch.device):
        self.metrics = RunningMetrics(device)
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.batches = 0

    def update(self, loss: Tensor, pred: Tensor, target: Tensor) -> None:
        """Add a batch; `loss` is this process's share of the batch's mean."""
        self.loss += loss.detach()
        self.metrics.update(pred, target)
        self.batches += 1

    def over_processes(self) -> "EpochScores":
        """The sums over all processes; every process must ask."""
        total = EpochScores(self.loss.device)
        total.metrics.sums = distributed.all_reduce_sum(self.metrics.sums)
        total.metrics.count = distributed.all_reduce_sum(self.metrics.count)
        total.loss = distributed.all_reduce_sum(self.loss)
        total.batches = self.batches
        return total

    def means(self) -> dict[str, float]:
        """Mean LOSS over batches and mean metrics over images."""
        return {"LOSS": self.loss.item() / max(self.batches, 1), **self.metrics.means()}

    def state_dict(self) -> dict:
        return {
            "sums": self.metrics.sums.cpu(),
            "count": self.metrics.count.cpu(),
            "loss": self.loss.cpu(),
            "batches": self.batches,
        }

    def load_state_dict(self, state: dict) -> None:
        self.metrics.sums.copy_(state["sums"])
        self.metrics.count.copy_(state["count"])
        self.loss.copy_(state["loss"])
        self.batches = int(state["batches"])


class Training:
    """A run: what is trained, by what, and how far it is.

    Args:
        frames: how many this process trains on in an epoch.

    Attributes:
        epoch: epochs finished. step: batches trained on in all.
        position: images of the present epoch trained on, over all processes.
        best_rmse: lowest validation RMSE so far, in metres.
        rows: the rows of train.csv and eval.csv, one an epoch.
        scores: sums over the present epoch's batches so far.
        skipped: the present epoch's bad frames, under `--bad_frames skip`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: ReduceOnPlateau | CosineDecay,
        scaler: torch.amp.GradScaler,
        device: torch.device,
        frames: int,
    ):
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.scaler = scaler
        self.device = device
        self.epoch = 0
        self.step = 0
        self.position = 0
        self.best_rmse = math.inf
        self.rows: dict[str, list[dict]] = {"train": [], "eval": []}
        self.scores = EpochScores(device)
        self.skipped = SkippedFrames(frames)

    def take_step(self, clip_grad: float | None) -> Tensor:
        """Let the optimiser act on the gradients; returns their norm before clipping.

        Under fp16 a norm that is not finite is the scaler's business, which skips the step.
        """
        self.scaler.unscale_(self.optimizer)
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters])
        if clip_grad is not None:
            nn.utils.clip_grads_with_norm_(parameters, clip_grad, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def finish_epoch(self, scores: dict[str, float]) -> bool:
        """Book the epoch with its validation scores; returns whether it is the best so far."""
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
        self.skipped.start_epoch()
        return is_best

    def state_dict(self) -> dict:
        """Everything, as tensors and builtins; every process must ask."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "position": self.position,
            "best_rmse": self.best_rmse,
            "rows": self.rows,
            "epoch_scores": self.scores.over_processes().state_dict(),
            "skipped": self.skipped.state_dict(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": random_states(),
        }

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint; weights alone, as published files hold, start at epoch 0.

        Raises:
            CheckpointError: the file belongs to another network, or a part does not fit.
        """
        load_weights(self.model, checkpoint)
        state = checkpoint.training
        if not state:
            return
        part = "progress"
        try:
            self.epoch, self.step = int(state["epoch"]), int(state["step"])
            self.position, self.best_rmse = int(state["position"]), float(state["best_rmse"])
            self.rows = {table: [dict(row) for row in state["rows"][table]] for table in self.rows}
            if distributed.is_main():  # the file holds the sums over all processes
                self.scores.load_state_dict(state["epoch_scores"])
            self.scores.batches = int(state["epoch_scores"]["batches"])
            self.skipped.load_state_dict(state["skipped"])
            for part in ("optimizer", "schedule", "scaler"):
                if state[part]:
                    getattr(self, part).load_state_dict(state[part])
            complete_momentum(self.optimizer)
            part = "rng"
            set_random_states(state["rng"])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            raise CheckpointError(
                f"{checkpoint.path} cannot be resumed: its {part} is missing or does not fit"
            ) from error
