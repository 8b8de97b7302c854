"""What an optimiser step minimises, over all processes and all batches of the step."""

from torch import Tensor

from engine import distributed
from engine.confidence import relative_loss, scored_images
from engine.metrics import depth_loss, measured


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
        if error is None:
            loss = depth_loss(pred, target, part)
        else:
            loss = relative_loss(pred, error, target, part)
        if self.first is None:
            self.first = count.clamp(min=1)
        self.weights.append(count / self.first)
        return pred, loss, loss * self.weights[-1]

    def finish_step(self) -> Tensor | None:
        """Return what to divide the gradients by, None for one batch; begin the next step."""
        total = sum(self.weights) if len(self.weights) > 1 else None
        self.weights, self.first = [], None
        return total
