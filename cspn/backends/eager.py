"""The propagation in PyTorch operations, for any device and float type.

The T steps are the linear recursion d_{t+1} = c + sum_k w_k * shift_k(d_t), with the sparse rule
folded into the constant c: the value that is kept where s > 0, the centre term elsewhere. A step is
K multiply-adds on shifted views of one zero-bordered buffer: no padded copies, no K-channel volume.
On a CPU images are taken one at a time, so that an image's weights stay in cache for all steps.

b images of a pass, K neighbours, C channels of the refined map, H W image, r radius.
"""

import torch
from torch import Tensor

from cspn.backends import Inputs
from cspn.reference import neighbour_offsets, shift


def why_not(direction: str, *tensors: Tensor | None) -> str:
    """Return "": this backend serves all tensors."""
    return ""


def forward(inputs: Inputs) -> Tensor:
    """Return the refined depth (B, C, H, W)."""
    refined = torch.empty_like(inputs.coarse, memory_format=torch.contiguous_format)
    for images in _passes(inputs.coarse):
        step = _Recursion(inputs.images(images))
        buffers = step.padded_zeros(2)  # they take turns
        step.inside(buffers[0]).copy_(inputs.coarse[images])
        for t in range(inputs.steps - 1):
            step(buffers[t % 2], step.inside(buffers[(t + 1) % 2]))
        step(buffers[(inputs.steps - 1) % 2], refined[images])
    return refined


def backward(grad_refined: Tensor, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Return the gradients to guidance (B, K, H, W) and coarse depth (B, C, H, W)."""
    grad_guidance = torch.empty_like(inputs.guidance, memory_format=torch.contiguous_format)
    grad_coarse = torch.empty_like(inputs.coarse, memory_format=torch.contiguous_format)
    for images in _passes(inputs.coarse):
        step = _Recursion(inputs.images(images))
        maps = step.padded_zeros(inputs.steps)  # d_0 .. d_{T-1}
        step.inside(maps[0]).copy_(inputs.coarse[images])
        for t in range(inputs.steps - 1):
            step(maps[t], step.inside(maps[t + 1]))
        grad_guidance[images], grad_coarse[images] = step.backward(grad_refined[images], maps)
    return grad_guidance, grad_coarse


def _passes(batch: Tensor) -> list[slice]:
    """Return one image after the other on the CPU, else all at once."""
    size = 1 if batch.device.type == "cpu" else max(1, len(batch))
    return [slice(start, start + size) for start in range(0, len(batch), size)]


class _Recursion:
    """One step of the propagation of some images, and the way back through all of them."""

    def __init__(self, inputs: Inputs):
        guidance, self.coarse, sparse, _, norm_type, self.anchor = self.inputs = inputs
        self.offsets = neighbour_offsets(round((guidance.shape[1] + 1) ** 0.5))
        self.radius = self.offsets[0][0]
        # The gates read at the neighbours, q_k(p) = g_k(p + o_k) or its absolute value.
        self.weights = torch.empty_like(guidance)  # (b, K, H, W)
        for k, o_k in enumerate(self.offsets):
            self.weights[:, k] = shift(guidance[:, k], *o_k)
        if norm_type == "8sum_abs":
            self.weights.abs_()
        self.total = self.weights.abs().sum(dim=1, keepdim=True)  # (b, 1, H, W)
        self.weights /= self.total.masked_fill_(self.total == 0, 1)
        self.centre = 1 - self.weights.sum(dim=1, keepdim=True)
        self.constant = self.centre * self.coarse  # (b, C, H, W)
        self.known = None if sparse is None else sparse > 0  # (b, 1, H, W)
        if sparse is not None:
            kept = self.coarse if self.anchor == "coarse" else sparse
            self.constant = torch.where(self.known, kept, self.constant)

    def inside(self, padded: Tensor, dy: int = 0, dx: int = 0) -> Tensor:
        """Return the (..., H, W) view whose pixel p is the image's pixel p + (dy, dx)."""
        height, width = self.coarse.shape[2:]
        top, left = self.radius + dy, self.radius + dx
        return padded[..., top : top + height, left : left + width]

    def padded_zeros(self, count: int) -> Tensor:
        """Return `count` empty maps in their borders, (count, b, C, H + 2r, W + 2r)."""
        *lead, height, width = self.coarse.shape
        border = 2 * self.radius
        return self.coarse.new_zeros(count, *lead, height + border, width + border)

    def __call__(self, depth: Tensor, following: Tensor) -> None:
        """Write d_{t+1} (b, C, H, W) to `following`, from `depth` (b, C, H + 2r, W + 2r)."""
        source = self.constant
        for k, o_k in enumerate(self.offsets):
            neighbour = self.inside(depth, *o_k)
            torch.addcmul(source, self.weights[:, k : k + 1], neighbour, out=following)
            source = following
        if self.known is not None:
            torch.where(self.known, self.constant, following, out=following)

    def backward(self, grad_depth: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients to guidance and coarse depth from those to d_T (b, C, H, W)."""
        grad_weights, grad_constant = torch.zeros_like(self.weights), torch.zeros_like(grad_depth)
        pushed = self.padded_zeros(2)  # they take turns
        for t in reversed(range(len(maps))):
            grad_constant += grad_depth
            free = self._free(grad_depth)
            into = pushed[t % 2].zero_()
            for k, o_k in enumerate(self.offsets):
                neighbour = self.inside(maps[t], *o_k)
                for c in range(free.shape[1]):
                    grad_weights[:, k].addcmul_(free[:, c], neighbour[:, c])
                self.inside(into, *o_k).addcmul_(self.weights[:, k : k + 1], free)
            grad_depth = self.inside(into)

        # The constant: (1 - sum_k w_k) * coarse where nothing is known, the kept value elsewhere.
        free = self._free(grad_constant)
        grad_coarse = grad_depth + self.centre * free
        if self.anchor == "coarse":
            grad_coarse += grad_constant - free
        grad_weights = self._free(grad_weights - (free * self.coarse).sum(dim=1, keepdim=True))

        # The normalisation: w_k = q_k / sum_j |q_j|; the total's 1 for all-zero gates is constant.
        common = (grad_weights * self.weights).sum(dim=1, keepdim=True)
        grad_gates = grad_weights.addcmul_(self.weights.sign(), common, value=-1).div_(self.total)
        grad_guidance = torch.stack(
            [shift(grad_gates[:, k], -dy, -dx) for k, (dy, dx) in enumerate(self.offsets)], dim=1
        )
        if self.inputs.norm_type == "8sum_abs":
            grad_guidance *= self.inputs.guidance.sign()
        return grad_guidance, grad_coarse

    def _free(self, gradient: Tensor) -> Tensor:
        """Return a gradient where it is not stopped by a measurement, 0 where it is."""
        return gradient if self.known is None else gradient.masked_fill(self.known, 0)
