"""A network as a file that other runtimes read: ONNX, or a PyTorch program (.pt2).

Input `rgbd` (B, 4, H, W) float32: encoded RGB, then sparse depth in metres with 0 = no
measurement. Output `depth` (B, 1, H, W) float32 metres, and `error` of the same shape where the
program is of a network that estimates it. Batch, height and width are free, from 1x32x32 up, odd
sizes too. The propagation is inside, as standard operations (impl="portable");
nothing of this project is needed to run either file. A .pt2 holds ATen operations alone and loads
with `torch.export.load(path).module()`.

This file turns a module into a file and knows no checkpoints; the command is `tools.export`.
"""

import copy
import importlib.util
import json
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as shape_config

from cspn import CSPN
from models.network import MIN_SIZE, DepthCompletionNet
from models.unpool import UnpoolConv

INPUT, OUTPUT, ERROR = "rgbd", "depth", "error"
# What writing ONNX takes beyond requirements.txt; onnxruntime runs the result.
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# The oldest that holds every operation here: the runtimes of robots and pinned servers are old.
ONNX_OPSET, ONNX_IR = 18, 8
ONNX_FORMAT = f"opset {ONNX_OPSET}, IR {ONNX_IR}: onnxruntime 1.14 or newer"


class ExportError(ValueError):
    """A network that cannot be exported here; the message is one sentence."""


class _DepthAndError(nn.Module):
    """A network that returns its depth and the expected error of it."""

    def __init__(self, network: DepthCompletionNet):
        super().__init__()
        self.network = network

    def forward(self, rgbd: Tensor) -> tuple[Tensor, Tensor]:
        return self.network(rgbd, with_error=True)


def export_program(model: DepthCompletionNet, *, with_error: bool = False) -> ExportedProgram:
    """Trace `model` for evaluation, batch and image size left open; `model` stays as it is.

    Args:
        with_error: return the expected error after the depth; the network must estimate it.

    Raises:
        ExportError: a refinement that does not export.
    """
    if not (model.refinement is None or isinstance(model.refinement, CSPN)):
        raise ExportError(
            f"{type(model.refinement).__name__} takes one step a column, so its graph would hold "
            "for one image size; cspn and none can be exported"
        )
    # Neither size nor batch of the example ends up in the program.
    example = torch.zeros(2, 4, 45, 67, device=next(model.parameters()).device)
    height, width = Dim("height", min=MIN_SIZE), Dim("width", min=MIN_SIZE)
    sizes = {0: Dim("batch", min=1), 2: height, 3: width}
    # Tracing would decide by the example's sizes whether a crop crops and whether an axis has
    # length 1. Both settings keep such decisions out of the program.
    with (
        torch.no_grad(),
        _portable(model) as portable,
        shape_config.patch(backed_size_oblivious=True),
    ):
        program = torch.export.export(
            _DepthAndError(portable) if with_error else portable,
            (example,),
            dynamic_shapes={INPUT: sizes},
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    _drop_size_checks(program)
    return program


def save_program(program: ExportedProgram, path: Path, metadata: dict[str, str]) -> None:
    """Write a .pt2; `metadata` goes into its extra file metadata.json."""
    torch.export.save(program, path, extra_files={"metadata.json": json.dumps(metadata, indent=2)})


def save_onnx(program: ExportedProgram, path: Path, metadata: dict[str, str]) -> None:
    """Write one .onnx file of `ONNX_FORMAT` with its weights inside; `metadata` goes into
    metadata_props.

    Raises:
        ExportError: the packages of requirements-export.txt are not installed.
    """
    missing = [name for name in ONNX_PACKAGES[:2] if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(
            f"writing ONNX needs {' and '.join(missing)}: pip install -r requirements-export.txt "
            "(a .pt2 needs nothing more)"
        )
    with _quiet():
        onnx_program = torch.onnx.export(
            program,
            (),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT, ERROR][: len(program.graph_signature.user_outputs)],
            opset_version=ONNX_OPSET,
            verbose=False,
        )
    model = onnx_program.model
    model.ir_version = ONNX_IR
    _name_axes(model.graph)
    model.metadata_props.update(metadata)
    onnx_program.save(path, external_data=False)


@contextmanager
def _portable(model: DepthCompletionNet) -> Iterator[nn.Module]:
    """`model` in evaluation mode with the propagation in standard operations and the fused
    unpooling (one result for all three); its own settings come back afterwards."""
    layers = [module for module in model.modules() if isinstance(module, UnpoolConv)]
    unpools = [layer.unpool for layer in layers]
    was_training, refinement = model.training, model.refinement
    try:
        for layer in layers:
            layer.unpool = "fused"
        if refinement is not None:
            model.refinement = copy.copy(refinement)
            model.refinement.impl = "portable"
        yield model.eval()
    finally:
        for layer, unpool in zip(layers, unpools, strict=True):
            layer.unpool = unpool
        model.refinement = refinement
        model.train(was_training)


def _drop_size_checks(program: ExportedProgram) -> None:
    """Remove the checks that tracing leaves where it could not prove a statement about sizes.

    They say that a crop never exceeds its map, which holds for every size and which `narrow`
    checks itself. One that torch 2.11 adds says that the image is odd or even where the example
    was, because the shape function of max pooling asks before it gives the same answer.
    """
    for node in list(program.graph.nodes):
        if node.target is torch.ops.aten._assert_scalar.default:
            program.graph.erase_node(node)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes on its own deprecations and on what it tried."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _name_axes(graph) -> None:
    """Call the free axes of an ONNX graph batch, height and width instead of s5, s31 and s26."""
    batch, _, height, width = (str(size) for size in graph.inputs[0].shape)
    names = {batch: "batch", height: "height", width: "width"}
    pattern = re.compile(rf"\b({'|'.join(names)})\b")
    values = list(graph.inputs)
    for node in graph:
        values += node.outputs
    for value in values:
        for axis, size in enumerate(value.shape or ()):
            if not isinstance(size, int) and str(size) != "None":
                value.shape[axis] = pattern.sub(lambda match: names[match[0]], str(size))
