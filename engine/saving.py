"""Keeping a run on disk: its checkpoints, tables and curves, on a disk that may be full."""

import sys
import time
from collections.abc import Callable

from engine import distributed
from engine.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from engine.errors import RunError
from engine.run_folder import RunFolder
from engine.training import Training
from visualize.pictures import save_curves
from visualize.tensorboard import TensorBoard

LAST, PREVIOUS, BEST = "last.pth", "previous.pth", "best_model.pth"


class Saver:
    """Writes a run to its folder; what cannot be written is said, and the run goes on.

    Writes `last.pth` (everything a run needs to go on; the one before stays as `previous.pth`),
    `best_model.pth` (weights of the lowest validation RMSE), the tables, `curves.png` and, where
    TensorBoard is installed, its event files.

    Args:
        args: the run's settings, stored in every checkpoint.
        minutes: between checkpoints within an epoch.
    """

    def __init__(self, folder: RunFolder, args: dict, minutes: float):
        self.folder = folder
        self.args = args
        self.seconds = 60 * minutes
        self.saved_at = time.monotonic()
        self.failure: str | None = None
        self.board: TensorBoard | None = None

    def is_due(self) -> bool:
        """Whether the last checkpoint is older than wanted."""
        return time.monotonic() - self.saved_at > self.seconds

    def save(self, run: Training) -> None:
        """Write where the run is; every process must call it, the main one writes."""
        state = run.state_dict()
        self.saved_at = time.monotonic()
        if not distributed.is_main():
            return
        state |= {"args": self.args, "scores": (run.rows["eval"] or [{}])[-1]}
        path = self.folder.path / LAST
        self.failure = self._try(
            lambda: save_checkpoint(path, state, keep_as=path.with_name(PREVIOUS))
        )

    def save_epoch(self, run: Training, is_best: bool) -> None:
        """Write a finished epoch. The checkpoint holds the rows, and the tables are written from
        them, so a run that is killed between the two loses and doubles none."""
        if is_best and distributed.is_main():
            weights = {
                "args": self.args,
                "epoch": run.epoch,
                "scores": run.rows["eval"][-1],
                "model": run.model.state_dict(),
            }
            if self._try(lambda: save_checkpoint(self.folder.path / BEST, weights)):
                run.best_rmse = self.best_on_disk(run)
        self.save(run)
        if distributed.is_main():
            self.write_tables(run)
            self._try(lambda: self._draw_curves(run))
            self._try(lambda: self._show_on_board(run))

    def _show_on_board(self, run: Training) -> None:
        if self.board is None:
            self.board = TensorBoard.open(self.folder.path, purge_after_epoch=run.epoch - 1)
        train, scores = run.rows["train"][-1], run.rows["eval"][-1]
        metrics = [key for key in scores if key not in ("epoch", "lr", "is_best")]
        self.board.write(
            run.epoch,
            {key: train[key] for key in ("LOSS", *metrics)},
            {key: scores[key] for key in metrics},
            train["lr"],
        )

    def _draw_curves(self, run: Training) -> None:
        save_curves(self.folder.path / "curves.png", run.rows["train"], run.rows["eval"])

    def write_tables(self, run: Training) -> None:
        """Write train.csv and eval.csv as the run knows them."""
        for table, rows in run.rows.items():
            self._try(lambda table=table, rows=rows: self.folder.write_rows(table, rows))

    def best_on_disk(self, run: Training) -> float:
        """Best validation RMSE before the epoch whose weights could not be written, so that the
        next epoch that beats the file's is written again."""
        earlier = [row["RMSE"] for row in run.rows["eval"][:-1] if row["is_best"]]
        run.rows["eval"][-1]["is_best"] = run.rows["train"][-1]["is_best"] = 0
        return min(earlier, default=float("inf"))

    def check_written(self) -> None:
        """Nothing where it was.

        Raises:
            RunError: the last checkpoint could not be written.
        """
        if not self.failure:
            return
        kept = [n for n in (LAST, PREVIOUS) if (self.folder.path / n).exists()]
        rest = f"--resume auto goes on from the one before, {kept[0]}" if kept else "there is none"
        raise RunError(f"the last checkpoint could not be written ({self.failure}); {rest}")

    def _try(self, write: Callable[[], object]) -> str | None:
        """Why it could not be written, None where it was."""
        try:
            write()
        except OSError as error:
            reason = str(error)
            print(f"\nwarning: {reason}; the files before stay, training goes on", file=sys.stderr)
            self.folder.log("not written", reason=reason)
            return reason
        return None


def load_newest(folder: RunFolder) -> Checkpoint | None:
    """The run's newest good checkpoint, None where it has none yet. A damaged `last.pth` is put
    aside with a sentence, and the one before it is used.

    Raises:
        CheckpointError: there are files, and none of them is good.
    """
    last, previous = folder.path / LAST, folder.path / PREVIOUS
    if not last.exists():
        return load_checkpoint(previous) if previous.exists() else None
    try:
        return load_checkpoint(last)
    except CheckpointError as error:
        if not previous.exists():
            raise
        checkpoint = load_checkpoint(previous)
        if distributed.is_main():
            print(f"{error}; going on from {PREVIOUS}, it stays as damaged.pth", file=sys.stderr)
            last.replace(folder.path / "damaged.pth")
            folder.log("damaged checkpoint", reason=str(error))
        return checkpoint
