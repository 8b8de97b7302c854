"""Counts the training frames that `--bad_frames skip` left out, and stops when they are many."""

from dataloaders.datasets import most_skipped
from engine.errors import RunError


class SkippedFrames:
    """The bad frames of one epoch, each counted once however often it was met.

    An epoch of n frames may leave out 1 % of n, and one frame at least; the limit is that of the
    whole epoch, so that it does not depend on the order of the frames.

    Args:
        frames: frames of the training set.
    """

    def __init__(self, frames: int):
        self.frames = frames
        self.sentences: list[str] = []  # one a frame, naming it, in the order they were met

    def add(self, batch: dict) -> list[str]:
        """Count what `batch["skipped"]` names; returns the sentences not seen before this epoch.

        Raises:
            RunError: more than the limit.
        """
        new = [s for s in dict.fromkeys(batch.get("skipped", ())) if s not in self.sentences]
        self.sentences += new
        limit = most_skipped(self.frames)
        if len(self.sentences) > limit:
            raise RunError(
                f"{len(self.sentences)} of {self.frames} training frames cannot be used in this "
                f"epoch, more than {limit} (1 %, at least one), the last: {self.sentences[-1]}"
            )
        return new

    def start_epoch(self) -> None:
        """Count anew."""
        self.sentences = []

    def state_dict(self) -> dict:
        """Plain values, for a checkpoint in the middle of an epoch."""
        return {"frames": self.frames, "sentences": list(self.sentences)}

    def load_state_dict(self, state: dict) -> None:
        """Go on from `state_dict()`."""
        self.frames, self.sentences = int(state["frames"]), list(state["sentences"])
