"""Weights laid out once for many images: evaluation and prediction on a CPU.

A convolution's weight reaches the CPU's convolution library (oneDNN) as it lies in memory, and the
library lays it out anew for its kernels at every call; under autocast it is first cast anew. For
one image through the network on ResNet-50, 218 million weights, that is a third of the time.

    with packed_weights(model), torch.inference_mode():
        depths = [model(rgbd) for rgbd in images]

The convolutions are the library's own in channels-last order, whatever order the weights are in.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from models.unpool import UnpoolConv


@contextlib.contextmanager
def packed_weights(model: nn.Module) -> Iterator[None]:
    """Within this context the convolutions of `model` use weights that are packed at their first
    call, for its precision and its image size; with other sizes they work and may be slower.

    The packed copies take as much memory as the weights, or half of it under bfloat16 autocast,
    until the context ends. The weights must not change inside. Where gradients are recorded, and
    for a model that is compiled, in another dtype than float32 or on another device than the CPU,
    everything runs as it would without.
    """
    replaced: list[tuple[nn.Module, str]] = []
    if torch.backends.mkldnn.is_available() and model._compiled_call_impl is None:
        for module in model.modules():
            name = _method_to_replace(module)
            if name and name not in vars(module):
                pack = _PackedTransposed if isinstance(module, UnpoolConv) else _Packed
                vars(module)[name] = pack(module, getattr(module, name))
                replaced.append((module, name))
    try:
        yield
    finally:
        for module, name in replaced:
            del vars(module)[name]


def _method_to_replace(module: nn.Module) -> str | None:
    if isinstance(module, UnpoolConv):
        covered, name = module.unpool == "fused", "conv_transpose"
    else:
        covered, name = type(module) is nn.Conv2d and module.padding_mode == "zeros", "forward"
    covered = covered and module.weight.device.type == "cpu"
    return name if covered and module.weight.dtype == torch.float32 else None


def _library_takes(dtype: torch.dtype) -> bool:
    """bfloat16 needs a CPU with instructions for it; PyTorch's own convolutions then do without."""
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32


class _Packed:
    """A convolution with weights packed at its first call in each precision."""

    def __init__(self, conv: nn.Module, unpacked: Callable[[Tensor], Tensor]):
        self.conv = conv
        self.unpacked = unpacked
        self.weights: dict[torch.dtype, Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        dtype = x.dtype
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
        if torch.is_grad_enabled() or not _library_takes(dtype):
            return self.unpacked(x)
        x = x.to(dtype)
        if dtype not in self.weights:
            self.weights[dtype] = self.pack(self.conv.weight.detach().to(dtype), x.shape)
        return self.apply(x, self.weights[dtype])

    def pack(self, weight: Tensor, size: torch.Size) -> Tensor:
        conv, op = self.conv, torch.ops.mkldnn._reorder_convolution_weight
        return op(weight, conv.padding, conv.stride, conv.dilation, conv.groups, size)

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        conv, op = self.conv, torch.ops.mkldnn._convolution_pointwise
        geometry = conv.padding, conv.stride, conv.dilation, conv.groups
        return op(x, weight, conv.bias, *geometry, "none", [], "")


class _PackedTransposed(_Packed):
    """The same for a transposed convolution of stride 2, which has no bias."""

    @property
    def geometry(self) -> tuple:
        padding = self.conv.weight.shape[-1] // 2
        return (padding, padding), (1, 1), (2, 2), (1, 1), 1  # .., output_padding, stride, ..

    def pack(self, weight: Tensor, size: torch.Size) -> Tensor:
        return torch.ops.mkldnn._reorder_convolution_transpose_weight(weight, *self.geometry, size)

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        op = torch.ops.mkldnn._convolution_transpose_pointwise
        return op(x, weight, None, *self.geometry, "none", [], "")
