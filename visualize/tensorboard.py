"""Scores of every epoch for TensorBoard, written where the package `tensorboard` is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


class TensorBoard:
    """Scalars of a run, a point for each epoch; nothing where `tensorboard` is not installed.

        board = TensorBoard.open(folder, purge_after_epoch=0)
        board.write(1, train_scores, scores, lr)

    `tensorboard --logdir output` then shows every run folder under its name.
    """

    def __init__(self, writer):
        self._writer = writer

    @classmethod
    def open(cls, folder: Path, purge_after_epoch: int = 0) -> TensorBoard:
        """Start writing event files in `folder`, which is made where it does not exist.

        Args:
            purge_after_epoch: the last epoch that the run keeps: 0 for a new run, a resumed run's
                epoch otherwise. TensorBoard hides points after it, which are written again.
        """
        if find_spec("tensorboard") is None:
            return cls(None)
        try:
            # Imported here: it takes a second, and the package is optional.
            from torch.utils.tensorboard import SummaryWriter
        except (ImportError, AttributeError, TypeError):
            # A tensorboard that does not fit its protobuf or NumPy must not stop a training.
            return cls(None)
        return cls(SummaryWriter(str(folder), purge_step=purge_after_epoch + 1))

    def write(
        self, epoch: int, train_scores: dict[str, float], scores: dict[str, float], lr: float
    ) -> None:
        """Add an epoch's point to every curve; it is on disk on return.

        Args:
            epoch: from 1 up.
            train_scores, scores: metric -> value over the training and the validation images.
            lr: the learning rate of that epoch.
        """
        if self._writer is None:
            return
        points = {f"train/{metric}": value for metric, value in train_scores.items()}
        points |= {f"validation/{metric}": value for metric, value in scores.items()}
        for tag, value in (points | {"lr": lr}).items():
            self._writer.add_scalar(tag, value, epoch)
        self._writer.flush()

    def close(self) -> None:
        """End the event file."""
        if self._writer is not None:
            self._writer.close()
