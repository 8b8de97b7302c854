"""Convolutions whose weights are laid out once for many images, for inference on a CPU.

A convolution's weight reaches the CPU's convolution library (oneDNN) as it lies in memory, and the
library lays it out anew for its kernels at every call; under autocast it is first cast anew. For
one image through the network on ResNet-50, 218 million weights, that is a third of the time.

So a layer in evaluation mode keeps its weight packed from its first call without gradients on, for
the precision and the image size of that call; other sizes work and may be slower. The packed
weights take as much memory as the weights, half of it in bfloat16, until `release_packed` or until
the layer goes. They belong to no state dict, copy or pickle, and are made anew when the weight has
changed: is another tensor, moved, or was written to. (PyTorch counts writes, but neither a fused
optimiser's nor those through `.data`, which are seen in `PROBES` numbers spread over the weight.)

Everything runs as in PyTorch where gradients are recorded, in training, on another device, in
another dtype than float32, and inside of `torch.compile`, `torch.export` and other tracing.
"""

import weakref
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

PROBES = 64


class _Packed(NamedTuple):
    weight: weakref.ref  # of the parameter
    state: tuple[int, int]  # its writes and its place in memory when it was packed
    probe: Tensor  # some of its numbers then
    by_dtype: dict[torch.dtype, Tensor]


_packed: weakref.WeakKeyDictionary[nn.Module, _Packed] = weakref.WeakKeyDictionary()


class Conv2d(nn.Conv2d):
    """PyTorch's layer with a packed weight."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W), with the packed weight where it serves."""
        geometry = self.padding, self.stride, self.dilation, self.groups
        pack = torch.ops.mkldnn._reorder_convolution_weight
        weight = packed_weight(self, x, lambda weight, size: pack(weight, *geometry, size))
        if weight is None or self.padding_mode != "zeros":
            return super().forward(x)
        convolve = torch.ops.mkldnn._convolution_pointwise
        return convolve(x.to(weight.dtype), weight, self.bias, *geometry, "none", [], "")


def double_by_transposed_convolution(layer: nn.Module, x: Tensor) -> Tensor:
    """Return the transposed convolution of stride 2 of (B, I, h, w) with `layer.weight` (I, O, k,
    k) -> (B, O, 2h, 2w), where it can with the weight packed."""
    padding = layer.weight.shape[-1] // 2
    # padding, output_padding, stride, dilation, groups
    geometry = (padding, padding), (1, 1), (2, 2), (1, 1), 1
    pack = torch.ops.mkldnn._reorder_convolution_transpose_weight
    weight = packed_weight(layer, x, lambda weight, size: pack(weight, *geometry, size))
    if weight is None:
        return nn.functional.conv_transpose2d(
            x, layer.weight, stride=2, padding=padding, output_padding=1
        )
    convolve = torch.ops.mkldnn._convolution_transpose_pointwise
    return convolve(x.to(weight.dtype), weight, None, *geometry, "none", [], "")


def packed_weight(
    layer: nn.Module, x: Tensor, pack: Callable[[Tensor, torch.Size], Tensor]
) -> Tensor | None:
    """Return `layer.weight` as `pack` lays it out in the dtype to compute in, for an input like
    `x` (B, C, H, W); None where the call must go PyTorch's way."""
    weight = layer._parameters.get("weight")
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
    if layer.training or not _can_pack(weight, x, dtype):
        return None
    # One less than a divisor of most shapes, so that channels and kernel positions take turns.
    step = max(weight.numel() // PROBES - 1, 1)
    probe = weight.detach().as_strided((min(weight.numel(), PROBES),), (step,))
    state = weight._version, weight.data_ptr()
    found = _packed.get(layer)
    if (
        found is None
        or found.weight() is not weight
        or found.state != state
        or not torch.equal(found.probe, probe)
    ):
        found = _packed[layer] = _Packed(weakref.ref(weight), state, probe.clone(), {})
    if dtype not in found.by_dtype:
        # Of several threads that come here at once each packs, and the last one's stays.
        found.by_dtype[dtype] = pack(weight.detach().to(dtype), x.shape)
    return found.by_dtype[dtype]


def release_packed(model: nn.Module) -> None:
    """Free the packed weights of a network's layers; the next inference packs them anew."""
    for layer in model.modules():
        _packed.pop(layer, None)


def _can_pack(weight: Tensor | None, x: Tensor, dtype: torch.dtype) -> bool:
    return (
        not torch.is_grad_enabled()
        # Not what stands for a parameter: a parametrization's result, a fake or traced tensor.
        and type(weight) is nn.Parameter
        and type(x) is Tensor
        and (weight.dtype, weight.device.type, x.device.type) == (torch.float32, "cpu", "cpu")
        and not weight.is_inference()  # whose writes are not counted
        and (weight.is_contiguous() or weight.is_contiguous(memory_format=torch.channels_last))
        and x.dtype in (torch.float32, dtype)
        and x.dim() == 4
        and x.numel() > 0
        and _library_takes(dtype)
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
    )


def _library_takes(dtype: torch.dtype) -> bool:
    """bfloat16 needs a CPU with instructions for it; PyTorch's own convolutions then do without."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return False
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32
