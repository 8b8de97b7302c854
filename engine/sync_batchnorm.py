"""Batch normalisation whose statistics are those of the whole batch, over all processes."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


def convert_sync_batchnorm(model: nn.Module, device: torch.device) -> None:
    """Turn every `BatchNorm2d` of `model` into one that is synchronised, in place; names of
    parameters and buffers, and the parameters themselves, stay."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, _synchronised(child, device))


def _synchronised(norm: nn.BatchNorm2d, device: torch.device) -> nn.Module:
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    norm.__class__ = CPUSyncBatchNorm2d
    return norm


class CPUSyncBatchNorm2d(nn.BatchNorm2d):
    """What `torch.nn.SyncBatchNorm` does, which runs on GPUs only, by sums over processes.

    Input and output (B, C, H, W), B this process's share of the batch.
    """

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            return super().forward(features)
        # In float64: a variance as the difference of two means loses digits.
        values = features.double()
        count = values.numel() // values.shape[1] * dist.get_world_size()
        sums = torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])  # (2, C)
        mean, square = (all_reduce(sums) / count).unbind()
        variance = square - mean.square()
        with torch.no_grad():
            self.num_batches_tracked += 1
            unbiased = variance * count / (count - 1)
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return (values * scale[:, None, None] + shift[:, None, None]).to(features.dtype)
