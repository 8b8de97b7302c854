"""Convolutional spatial propagation (CSPN, ECCV 2018): the operator alone.

    from cspn import CSPN, propagate

needs nothing but PyTorch and NumPy: no network, no data. Copy this folder into another project, or
`pip install .`, and hand it any map to refine with an affinity that your network predicts.

    propagation   the method, `propagate`, the layer `CSPN`, the table of implementations
    reference     the equations term by term
    backends/     op (the operator cspn::propagate, differentiable), computed by one of
                  triton_gpu, numba_cpu (numba_kernels, numba_rows, simd) and eager; convolution
                  for export
"""

from cspn.propagation import ANCHORS, CSPN, IMPLEMENTATIONS, propagate
from cspn.reference import NORM_TYPES, neighbour_offsets, normalized_affinity

__all__ = [
    "ANCHORS",
    "CSPN",
    "IMPLEMENTATIONS",
    "NORM_TYPES",
    "neighbour_offsets",
    "normalized_affinity",
    "propagate",
]
