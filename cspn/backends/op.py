"""The custom operator `cspn::propagate`, whichever backend computes it, and its derivatives.

In a graph of `torch.compile` or `torch.export` the propagation is this one node. The backend is
chosen when the node runs, for the tensors and on the machine it runs with: the first of `BACKENDS`
that serves, or the one that is named.

Backward keeps nothing but the inputs and computes weights and depth maps again, which costs about
as much as writing and reading them would and saves 53 MB at batch 8, 228x304. Where the gradient
is differentiated itself, the reference's formula takes its place.
"""

import functools
import warnings
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from cspn.backends import Inputs
from cspn.reference import propagate_reference

# The fastest first. Each needs the package of its name, but for the last, which needs none.
BACKENDS = {"triton": "triton_gpu", "numba": "numba_cpu", "eager": "eager"}
_SCHEMA = (
    "Tensor guidance, Tensor coarse, Tensor? sparse, int steps, str norm_type, str anchor, "
    'str backend="fast"'
)


def propagate_operator(*inputs: Tensor | int | str | None, backend: str = "fast") -> Tensor:
    """Run `cspn.propagate` on the fields of `Inputs`; no gradient goes to the sparse depth.

    Raises:
        ValueError: the named backend cannot run on these tensors; with the reason, and which can.
    """
    guidance, coarse, sparse, *options = inputs
    sparse = None if sparse is None else sparse.detach()
    return _propagate(guidance, coarse, sparse, *options, backend)


def inside_a_transform(*tensors: Tensor | None) -> bool:
    """Return whether forward-mode AD or a transform of torch.func is at work on these tensors.

    The operator has no rule for those; the reference is made of operations that have.
    """
    return torch._C._are_functorch_transforms_active() or any(
        tensor is not None and unpack_dual(tensor).tangent is not None for tensor in tensors
    )


@functools.cache
def _load(backend: str) -> tuple[ModuleType | None, str]:
    """Import a backend; return None and the reason where that fails.

    Warn of a package that does not work, not of one that is not installed.
    """
    try:
        return import_module(f"cspn.backends.{BACKENDS[backend]}"), ""
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == backend:
            return None, f"{backend} is not installed"
        reason = f"{backend} cannot be imported ({type(error).__name__}: {error})"
        warnings.warn(f"propagating without {backend}: {reason}", stacklevel=2)
        return None, reason


def _choose(backend: str, direction: str, *tensors: Tensor | None) -> ModuleType:
    """Return the module that serves these tensors: the named one, or for "fast" the first."""

    def attempt(name: str) -> tuple[ModuleType | None, str]:
        module, reason = _load(name)
        return module, reason or module.why_not(direction, *tensors)

    for name in BACKENDS if backend == "fast" else (backend,):
        module, reason = attempt(name)
        if not reason:
            return module
    able = [name for name in BACKENDS if not attempt(name)[1]] + ["convolution", "reference"]
    raise ValueError(f'impl="{backend}" cannot serve here: {reason}; what can: {", ".join(able)}')


# Not `torch.library.custom_op`, which imports the whole compiler at its first call.
torch.library.define("cspn::propagate", f"({_SCHEMA}) -> Tensor", tags=torch.Tag.pt2_compliant_tag)
torch.library.define(
    "cspn::propagate_backward",
    f"(Tensor grad_refined, {_SCHEMA}) -> (Tensor, Tensor)",
    tags=torch.Tag.pt2_compliant_tag,
)
_propagate = torch.ops.cspn.propagate.default
_propagate_backward = torch.ops.cspn.propagate_backward.default


@torch.library.impl("cspn::propagate", "default")
def _(guidance, coarse, sparse, steps, norm_type, anchor, backend="fast"):
    module = _choose(backend, "forward", guidance, coarse, sparse)
    return module.forward(Inputs(guidance, coarse, sparse, steps, norm_type, anchor))


@torch.library.impl("cspn::propagate_backward", "default")
def _(grad, guidance, coarse, sparse, steps, norm_type, anchor, backend="fast"):
    module = _choose(backend, "backward", grad, guidance, coarse, sparse)
    return module.backward(grad, Inputs(guidance, coarse, sparse, steps, norm_type, anchor))


@torch.library.register_fake("cspn::propagate")
def _(guidance, coarse, *_):
    return torch.empty_like(coarse, memory_format=torch.contiguous_format)


@torch.library.register_fake("cspn::propagate_backward")
def _(grad, guidance, coarse, *_):
    keep = {"memory_format": torch.contiguous_format}
    return torch.empty_like(guidance, **keep), torch.empty_like(coarse, **keep)


def _setup_context(ctx, inputs, output) -> None:
    *tensors, ctx.steps, ctx.norm_type, ctx.anchor, ctx.backend = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad_refined: Tensor) -> tuple[Tensor | None, ...]:
    options = ctx.steps, ctx.norm_type, ctx.anchor
    again = torch.is_grad_enabled()  # with create_graph=True, to differentiate the gradient
    if again or inside_a_transform(grad_refined):
        wanted = [n for n in range(2) if ctx.needs_input_grad[n]]
        with torch.enable_grad():
            refined = propagate_reference(*ctx.saved_tensors, *options)
            sources = [ctx.saved_tensors[n] for n in wanted]
            found = torch.autograd.grad(refined, sources, grad_refined, create_graph=again)
        gradients = dict(zip(wanted, found, strict=True))
        gradients = gradients.get(0), gradients.get(1)
    else:
        gradients = _propagate_backward(grad_refined, *ctx.saved_tensors, *options, ctx.backend)
    return *gradients, None, None, None, None, None


torch.library.register_autograd("cspn::propagate", _backward, setup_context=_setup_context)
