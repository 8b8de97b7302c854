"""Scores of every epoch for TensorBoard, written where the package `tensorboard` is installed."""

from pathlib import Path


class TensorBoard:
    """Scalars of a run, a point for each epoch; nothing where `tensorboard` cannot be imported.

    `tensorboard --logdir output` then shows every run folder under its name.

    Args:
        folder: where event files are written; made where it does not exist.
        purge_after_epoch: the last epoch that the run keeps: 0 for a new run, a resumed run's
            epoch otherwise. TensorBoard hides points after it, which are written again.
    """

    def __init__(self, folder: Path, purge_after_epoch: int = 0):
        self._writer = None
        try:
            # Imported here: it takes a second, and the package is optional.
            from torch.utils.tensorboard import SummaryWriter
        except (ImportError, AttributeError, TypeError):
            return  # also one that does not fit its protobuf or NumPy must not stop a training
        self._writer = SummaryWriter(str(folder), purge_step=purge_after_epoch + 1)

    def write(
        self, epoch: int, train_scores: dict[str, float], scores: dict[str, float], lr: float
    ) -> None:
        """Add the point of an epoch, from 1 up, to every curve; it is on disk on return.

        Args:
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
