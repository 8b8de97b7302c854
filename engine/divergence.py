"""Finding the batch and files at which the loss or a gradient is no longer finite."""

import json
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.errors import RunError
from engine.files import replace_text
from engine.run_folder import RunFolder


@dataclass
class DivergenceCheck:
    """Check loss and gradients, without a synchronisation of the device at every step.

    Args:
        folder: where `divergence.json` goes. label: the epoch's name in the sentence.
        gradients: whether a gradient that is not finite is a failure; under fp16 it is not, the
            scaler skips such steps by itself.
    """

    folder: RunFolder
    label: str
    gradients: bool = True
    pending: list[tuple[int, list[str], Tensor]] = field(default_factory=list, init=False)

    def add(self, step: int, names: list[str], loss: Tensor, norm: Tensor | None) -> None:
        """Note a batch: its step in the epoch, its files, its loss and, where the optimiser took
        a step, the norm of the gradients."""
        norm = loss.new_zeros(()) if norm is None or not self.gradients else norm.to(loss)
        self.pending.append((step, list(names), torch.stack([loss.detach(), norm])))

    def check(self) -> None:
        """Raise RunError if one of the batches noted since the last call has a loss or gradient
        that is not finite; the files of the first are in the sentence and in `divergence.json`."""
        pending, self.pending = self.pending, []
        values = torch.stack([v for _, _, v in pending]).tolist() if pending else []
        for (step, names, _), (loss, norm) in zip(pending, values, strict=True):
            if math.isfinite(loss) and math.isfinite(norm):
                continue
            what = f"gradient is {norm}" if math.isfinite(loss) else f"loss is {loss}"
            record = {"when": self.label, "step": step, "loss": str(loss), "gradient": str(norm)}
            record["files"] = names
            self.folder.log("divergence", **record)
            path = self.folder.path / "divergence.json"
            replace_text(path, json.dumps(record, indent=2) + "\n")
            raise RunError(
                f"the {what} at step {step} of {self.label}, on {', '.join(names)}; "
                f"nothing was saved over the last good checkpoint (see {path}; "
                "try a smaller --lr or --clip_grad)"
            )
