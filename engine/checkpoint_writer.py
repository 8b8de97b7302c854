"""Write a run's checkpoints and tables, on a disk that may be full."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from engine import distributed
from engine.checkpoint import save_checkpoint
from engine.divergence import DivergenceCheck
from engine.errors import RunError
from engine.run_folder import BEST, LAST, PREVIOUS, RunFolder
from engine.signals import Stopped, StopRequest
from engine.training import Training


class CheckpointWriter:
    """Writes a run to its folder; a file that cannot be written is a warning, and the run goes on.

    Writes `last.pth` (everything a run needs to go on; the one before stays as `previous.pth`),
    `best_model.pth` (weights of the lowest validation RMSE) and the tables.

    Args:
        settings: the run's, stored in every checkpoint.
        minutes: between checkpoints within an epoch.
    """

    def __init__(self, folder: RunFolder, settings: dict, minutes: float):
        self.folder = folder
        self.settings = settings
        self.seconds = 60 * minutes
        self.saved_at = time.monotonic()
        self.failure: str | None = None

    def is_due(self) -> bool:
        """Return whether the last checkpoint is older than `minutes`."""
        return time.monotonic() - self.saved_at > self.seconds

    def save(self, run: Training) -> None:
        """Write last.pth; every process must call it, the main one writes."""
        state = run.state_dict()
        self.saved_at = time.monotonic()
        if not distributed.is_main():
            return
        state |= {"args": self.settings, "scores": (run.rows["eval"] or [{}])[-1]}
        path = self.folder.path / LAST
        self.failure = self.attempt(
            lambda: save_checkpoint(path, state, keep_as=path.with_name(PREVIOUS))
        )

    def save_epoch(self, run: Training, is_best: bool) -> None:
        """Write a finished epoch; every process must call it. The checkpoint holds the rows, and
        the tables are written from them, so a run that is killed between the two loses and doubles
        none."""
        if is_best and distributed.is_main():
            weights = {"args": self.settings, "epoch": run.epoch, "scores": run.rows["eval"][-1]}
            weights["model"] = run.model.state_dict()
            if self.attempt(lambda: save_checkpoint(self.folder.path / BEST, weights)):
                # The next epoch that is better than the file's weights is then written.
                earlier = [row["RMSE"] for row in run.rows["eval"][:-1] if row["is_best"]]
                run.rows["eval"][-1]["is_best"] = run.rows["train"][-1]["is_best"] = 0
                run.best_rmse = min(earlier, default=float("inf"))
        self.save(run)
        if distributed.is_main():
            self.write_tables(run)

    def write_tables(self, run: Training) -> None:
        """Write train.csv and eval.csv from the run's rows."""
        for table, rows in run.rows.items():
            self.attempt(lambda table=table, rows=rows: self.folder.write_rows(table, rows))

    def check_written(self) -> None:
        """Raise RunError if the last checkpoint could not be written."""
        if not self.failure:
            return
        kept = [n for n in (LAST, PREVIOUS) if (self.folder.path / n).exists()]
        rest = f"--resume auto goes on from the one before, {kept[0]}" if kept else "there is none"
        raise RunError(f"the last checkpoint could not be written ({self.failure}); {rest}")

    def attempt(self, write: Callable[[], object]) -> str | None:
        """Call `write`; return why the file could not be written, None where it was."""
        try:
            write()
        except OSError as error:
            reason = str(error)
            print(f"\nwarning: {reason}; the files before stay, training goes on", file=sys.stderr)
            self.folder.log("not written", reason=reason)
            return reason
        return None


@dataclass
class StopOrSave:
    """Save between steps when a checkpoint is due; stop after a signal."""

    run: Training
    writer: CheckpointWriter
    request: StopRequest

    def __call__(self, divergence: DivergenceCheck) -> None:
        """Save or stop; call after the optimiser's step, not between batches that are accumulated.

        Raises:
            Stopped: after a signal; the run is saved.
            RunError: the loss or a gradient is no longer finite, so nothing is saved.
        """
        asked = self.request.signal is not None
        stop, save = distributed.any_rank(asked, self.writer.is_due(), device=self.run.device)
        if stop or save:
            divergence.check()
            self.writer.save(self.run)
        if stop:
            self._stop()

    def in_validation(self, batch: dict, pred: Tensor) -> None:
        """Stop after a signal; call with each validation batch. The epoch's training is saved, its
        validation starts anew. Several processes, whose parts are unequal, finish theirs."""
        if self.request.signal is not None and distributed.world_size() == 1:
            self.writer.save(self.run)
            self._stop()

    def _stop(self) -> None:
        self.writer.check_written()
        run, asked = self.run, self.request.signal
        name = asked.name if asked else "another process"
        if distributed.is_main():
            self.writer.folder.log("stopped", by=name, epoch=run.epoch, step=run.step)
        raise Stopped(
            f"stopped by {name} after step {run.step}; saved in {self.writer.folder.path}, "
            "go on with --resume auto"
        )
