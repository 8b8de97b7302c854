"""Convolutional spatial propagation (CSPN, ECCV 2018): the operator alone.

    from cspn import CSPN, propagate

needs nothing but PyTorch and NumPy: no network, no data. Copy this folder into another project, or
`pip install .`, and hand it any map to refine with an affinity that your network predicts.
"""

from cspn.module import CSPN
from cspn.propagation import ANCHORS, IMPLEMENTATIONS, propagate
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
