"""Scores of every epoch for TensorBoard, written where the package `tensorboard` is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


class TensorBoard:
    """Scalars of a run, a point an epoch; does nothing where `tensorboard` is not installed.

        board = TensorBoard.open(folder, purge_after_epoch=0)
        board.write(1, train_scores, scores, lr)
        board.close()

    `tensorboard --logdir output` then shows every run folder under its name.
    """

    def __init__(self, writer):
        self._writer = writer

    @classmethod
    def open(cls, folder: Path, purge_after_epoch: int = 0) -> TensorBoard:
        """Start writing event files in `folder`.

        Args:
            folder: the run folder, made where it does not exist.
            purge_after_epoch: the last epoch that the run keeps: 0 for a new run, a resumed run's
                epoch otherwise. Points after it, which the run is going to write again, are
                hidden by TensorBoard.
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
        for group, values in (("train", train_scores), ("validation", scores)):
            for metric, value in values.items():
                self._writer.add_scalar(f"{group}/{metric}", value, epoch)
        self._writer.add_scalar("lr", lr, epoch)
        self._writer.flush()

    def close(self) -> None:
        """End the event file."""
        if self._writer is not None:
            self._writer.close()
