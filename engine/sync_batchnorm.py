"""Batch normalisation by the statistics of the whole batch, over all processes."""

import torch
import torch.distributed as dist
from torch import Tensor, nn


def convert_sync_batchnorm(model: nn.Module, device: torch.device) -> None:
    """Turn every `BatchNorm2d` of `model` into one that is synchronised, in place; names of
    parameters and buffers, and the parameters themselves, stay."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is not nn.BatchNorm2d:
                continue
            if device.type == "cuda":
                setattr(module, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))
            else:
                child.__class__ = CPUSyncBatchNorm2d


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes. Each of them uses it, so that the gradient of one's
    part is the sum of all their gradients."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    backward = forward


class CPUSyncBatchNorm2d(nn.BatchNorm2d):
    """What `torch.nn.SyncBatchNorm` does, which runs on GPUs only, by sums over processes.

    Input and output (B, C, H, W), B this process's part of the batch.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Normalise `features` (B, C, H, W), in training by the statistics of all processes."""
        if not self.training:
            return super().forward(features)
        # In float64: a variance as the difference of two means loses digits.
        values = features.double()
        count = values.numel() // values.shape[1] * dist.get_world_size()
        sums = torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])  # (2, C)
        mean, square = (_SumOverProcesses.apply(sums) / count).unbind()
        variance = square - mean.square()
        with torch.no_grad():
            self.num_batches_tracked += 1
            unbiased = variance * count / (count - 1)
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return (values * scale[:, None, None] + shift[:, None, None]).to(features.dtype)
