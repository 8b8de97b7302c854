"""Convolutions whose weights are laid out once for many images, for inference on a CPU.

A convolution's weight reaches the CPU's convolution library (oneDNN) as it lies in memory, and the
library lays it out anew for its kernels at every call; under autocast it is first cast anew. For
one image through the network on ResNet-50, 218 million weights, that is a third of the time. And
the batch normalisation, sum and relu that follow each read and write the whole map again.

So a layer in evaluation mode keeps its weight packed from its first call without gradients on, for
the precision and the image size of that call; other sizes work and may be slower. Where `conv_bn`
runs the layer, the batch normalisation is folded into that weight, and the library adds and takes
the relu as it writes. Packed weights take as much memory as the weights, half of it in bfloat16,
until `release_packed` or until the layer goes. They belong to no state dict, copy or pickle, and
are made anew when the weight or the normalisation has changed: is another tensor, moved, or was
written to. (PyTorch counts writes, but neither a fused optimiser's nor those through `.data`,
which are seen in `PROBES` numbers spread over the weight and in all of the normalisation.)

Everything runs as in PyTorch where gradients are recorded, in training, on another device, in
another dtype than float32, and inside of `torch.compile`, `torch.export` and other tracing.
"""

import weakref

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks

PROBES = 64
PADDINGS = ("same", "valid")  # by name, which the library does not take


class _Packed:
    """What a layer is packed from, and packed weights and biases by dtype and part."""

    def __init__(self, tensors: tuple[Tensor, ...]):
        self.tensors = tuple(map(weakref.ref, tensors))
        self.state, self.probe = _state(tensors), _probe(tensors)
        self.packed: dict[tuple[torch.dtype, int, int], tuple[Tensor, Tensor | None]] = {}

    def is_from(self, tensors: tuple[Tensor, ...]) -> bool:
        """Return whether it was packed from these tensors as they are now."""
        return (
            len(tensors) == len(self.tensors)
            and all(ref() is t for ref, t in zip(self.tensors, tensors, strict=True))
            and self.state == _state(tensors)
            and torch.equal(self.probe, _probe(tensors))
        )


def _state(tensors: tuple[Tensor, ...]) -> list[tuple[int, int]]:
    """Return the writes that PyTorch counted and the place in memory of each."""
    return [(t._version, t.data_ptr()) for t in tensors]


def _probe(tensors: tuple[Tensor, ...]) -> Tensor:
    """Return `PROBES` numbers of the weight, the first of them, and all of the others'."""
    weight, *others = tensors
    # One less than a divisor of most shapes, so that channels and kernel positions take turns.
    step = max(weight.numel() // PROBES - 1, 1)
    return torch.cat((weight.as_strided((min(weight.numel(), PROBES),), (step,)), *others))


_packed: weakref.WeakKeyDictionary[nn.Module, _Packed] = weakref.WeakKeyDictionary()


class Conv2d(nn.Conv2d):
    """PyTorch's layer with a packed weight."""

    out_axis = 0  # of the weight

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W), with the packed weight where it serves."""
        packed = packed_weight(self, None, x)
        return super().forward(x) if packed is None else self.convolve(x, *packed)

    def geometry(self) -> tuple:
        """Return padding, stride, dilation and groups, as the library's functions take them."""
        return self.padding, self.stride, self.dilation, self.groups

    def pack(self, weight: Tensor, size: torch.Size) -> Tensor:
        """Return `weight` laid out for an input of `size` (B, C, H, W)."""
        reorder = torch.ops.mkldnn._reorder_convolution_weight
        return reorder(weight, *self.geometry(), size)

    def convolve(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        add: Tensor | None = None,
        activation: str = "none",
    ) -> Tensor:
        """Convolve with a packed weight, plus `add`, through `activation` ("none" or "relu")."""
        convolve, x = torch.ops.mkldnn._convolution_pointwise, x.to(weight.dtype)
        if add is None:
            return convolve(x, weight, bias, *self.geometry(), activation, [], "")
        add = add.to(weight.dtype)
        if add.shape[1] == 1 or add.shape[2:].numel() == 1:  # PyTorch 2.11 cannot tell its layout
            x = convolve(x, weight, bias, *self.geometry(), "none", [], "").add_(add)
            return x if activation == "none" else x.relu_()
        end = "add", 1.0, None if activation == "none" else activation, [], ""
        return convolve.binary(x, add, weight, bias, *self.geometry(), *end)


def conv_bn(
    conv: nn.Module,
    bn: nn.Module,
    x: Tensor,
    *,
    add: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """Return bn(conv(x)) (B, O, h, w), plus `add` of that shape, through a relu where asked; all in
    one operation where the normalisation can be folded into a packed weight."""
    packed = None
    if type(conv) is Conv2d and can_fold(conv, bn):
        packed = packed_weight(conv, bn, x)
    if packed is not None:
        return conv.convolve(x, *packed, add, "relu" if relu else "none")
    x = bn(conv(x))
    x = x if add is None else x.add_(add)
    return F.relu(x, inplace=True) if relu else x


def can_fold(layer: nn.Module, bn: nn.Module) -> bool:
    """Return whether nothing but arithmetic would be lost if `bn` were folded into `layer`: `bn`
    is PyTorch's with statistics of its own, in evaluation mode, and neither has hooks."""
    hooks = (
        *(layer._forward_hooks, layer._forward_pre_hooks),
        *(bn._forward_hooks, bn._forward_pre_hooks),
        *(global_hooks._global_forward_hooks, global_hooks._global_forward_pre_hooks),
    )
    return (
        type(bn) is nn.BatchNorm2d
        and not bn.training
        and bn.affine
        and bn.running_mean is not None
        and not any(hooks)
    )


def packed_weight(
    layer: nn.Module, bn: nn.Module | None, x: Tensor, part: int = 0, parts: int = 1
) -> tuple[Tensor, Tensor | None] | None:
    """Return weight and bias of `layer`, `bn` folded in where one is given, as `layer.pack` lays
    them out in the dtype to compute in for an input like `x` (B, C, H, W), for one of `parts` equal
    parts of the output channels; None where the call must go PyTorch's way."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
    weight, bias = layer._parameters.get("weight"), layer._parameters.get("bias")
    if layer.training or not _can_pack(x, dtype) or (bn is not None and bias is not None):
        return None
    if getattr(layer, "padding_mode", "zeros") != "zeros" or layer.geometry()[0] in PADDINGS:
        return None  # PyTorch pads by itself
    tensors = (weight,)
    if bn is not None:
        tensors += bn.weight, bn.bias, bn.running_mean, bn.running_var
    found = _packed.get(layer)
    if found is None or not found.is_from(tensors):
        if type(weight) is not nn.Parameter or not all(map(_is_plain, tensors)):
            return None
        found = _packed[layer] = _Packed(tensors)
    key = dtype, part, parts
    if key not in found.packed:
        # Of several threads that come here at once each packs, and the last one's stays.
        weight, folded_bias = _fold(layer, bn)
        weight = weight.chunk(parts, layer.out_axis)[part].contiguous().to(dtype)
        if folded_bias is not None:
            folded_bias = folded_bias.chunk(parts)[part].to(dtype)
        found.packed[key] = layer.pack(weight, x.shape), folded_bias
    weight, folded_bias = found.packed[key]
    return weight, bias if bn is None else folded_bias


def _fold(layer: nn.Module, bn: nn.Module | None) -> tuple[Tensor, Tensor | None]:
    """Return the weight of `layer` with `bn` folded in, and the bias that this makes."""
    weight, bias = layer.weight.detach(), None
    if bn is not None:
        scale = bn.weight.detach() / (bn.running_var + bn.eps).sqrt()
        weight = weight * scale.view([-1 if axis == layer.out_axis else 1 for axis in range(4)])
        bias = bn.bias.detach() - bn.running_mean * scale
    return weight, bias


def release_packed(model: nn.Module) -> None:
    """Free the packed weights of a network's layers; the next inference packs them anew."""
    for layer in model.modules():
        _packed.pop(layer, None)


def _is_plain(tensor: Tensor | None) -> bool:
    """Whether it is a float32 tensor on the CPU whose writes are counted, and not what stands for
    one: a parametrization's result, a fake or traced tensor."""
    return (
        type(tensor) in (nn.Parameter, Tensor)
        and (tensor.dtype, tensor.device.type) == (torch.float32, "cpu")
        and not tensor.is_inference()
        and (
            tensor.is_contiguous()
            or (tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last))
        )
    )


def _can_pack(x: Tensor, dtype: torch.dtype) -> bool:
    return (
        not torch.is_grad_enabled()
        and type(x) is Tensor
        and x.device.type == "cpu"
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
