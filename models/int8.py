"""INT8 for a CPU: an exported ONNX network with its convolutions in whole numbers of 8 bits.

ONNX Runtime's static quantisation (QDQ): weights per output channel, activations per tensor in the
range that calibration frames give. In float32 stay what carries metres (filled depth, heads,
propagation), the first convolution, which reads several units, and the transposed convolutions,
for which ONNX Runtime has no kernel of whole numbers.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from torch import Tensor

from models.export import INPUT, ExportError

MIN_CHANNELS = 16  # of a convolution's input; fewer have the first one and those of the filling


def save_int8(float_path: Path, path: Path, frames: Iterable[Tensor]) -> int:
    """Quantise an .onnx file of `models.export` into another one; return the number of
    convolutions in INT8.

    Args:
        frames: inputs (B, 4, H, W) float32 to calibrate with, like those the network will get.

    Raises:
        ExportError: onnxruntime or onnx is not installed.
    """
    try:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise ExportError(
            f"INT8 needs {error.name}: pip install -r requirements-export.txt"
        ) from error

    class Frames(quantization.CalibrationDataReader):
        feeds = iter([{INPUT: frame.numpy()} for frame in frames])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"  # batch normalisation inside the convolutions
        quant_pre_process(float_path, prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        channels = {w.name: w.dims[1] for w in graph.initializer if len(w.dims) == 4}
        chosen = [
            node.name
            for node in graph.node
            if node.op_type == "Conv" and channels.get(node.input[1], 0) >= MIN_CHANNELS
        ]
        quantization.quantize_static(
            prepared,
            path,
            Frames(),
            quant_format=quantization.QuantFormat.QDQ,
            nodes_to_quantize=chosen,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    return len(chosen)
