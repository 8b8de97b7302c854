"""CSPN as a layer: the propagation's settings held in a parameter-free `nn.Module`."""

from torch import Tensor, nn

from cspn.propagation import ANCHORS, propagate
from cspn.reference import NORM_TYPES, neighbour_offsets


class CSPN(nn.Module):
    """Refine a map with a predicted affinity; see `cspn.propagation` for the method.

    Args:
        steps: propagation steps; the published networks use 24.
        kernel_size: 3 (published), 5 or 7; the guidance then has 8, 24 or 48 channels.
        norm_type: "8sum" or "8sum_abs".
        anchor: "coarse" (released code) or "sparse" (the paper's text).
        impl: see `cspn.propagate`.

    Raises:
        ValueError: an option that does not exist.
    """

    def __init__(
        self,
        steps: int = 24,
        kernel_size: int = 3,
        norm_type: str = "8sum",
        anchor: str = "coarse",
        impl: str = "auto",
    ):
        super().__init__()
        if kernel_size not in (3, 5, 7):
            raise ValueError(f"kernel_size must be 3, 5 or 7, got {kernel_size}")
        if norm_type not in NORM_TYPES:
            raise ValueError(f"norm_type must be one of {', '.join(NORM_TYPES)}, got {norm_type!r}")
        if anchor not in ANCHORS:
            raise ValueError(f"anchor must be one of {', '.join(ANCHORS)}, got {anchor!r}")
        self.steps = steps
        self.kernel_size = kernel_size
        self.norm_type = norm_type
        self.anchor = anchor
        self.impl = impl

    @property
    def guidance_channels(self) -> int:
        """Channels K that the network must predict: 8, 24 or 48."""
        return len(neighbour_offsets(self.kernel_size))

    def forward(
        self, guidance: Tensor, coarse_depth: Tensor, sparse_depth: Tensor | None = None
    ) -> Tensor:
        """Guidance (B, K, H, W), coarse depth (B, C, H, W) in metres, sparse depth (B, 1, H, W)
        in metres with 0 = no measurement, or None; returns the refined depth (B, C, H, W)."""
        if guidance.dim() == 4 and guidance.shape[1] != self.guidance_channels:
            raise ValueError(
                f"a {self.kernel_size}x{self.kernel_size} CSPN needs {self.guidance_channels} "
                f"guidance channels, got {guidance.shape[1]}"
            )
        return propagate(
            guidance,
            coarse_depth,
            sparse_depth,
            steps=self.steps,
            norm_type=self.norm_type,
            anchor=self.anchor,
            impl=self.impl,
        )

    def extra_repr(self) -> str:
        return (
            f"steps={self.steps}, kernel_size={self.kernel_size}, "
            f"norm_type={self.norm_type!r}, anchor={self.anchor!r}"
        )
