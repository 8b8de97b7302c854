"""The scan-line baseline against a loop over pixels."""

import numpy as np
import pytest
import torch

from models import build_model
from models.spn import propagate_spn


def scan_loop(gates, coarse, sparse, anchor, direction):
    """One direction, one pixel at a time, in float64."""
    height, width = coarse.shape
    step = {0: (0, 1), 1: (0, -1), 2: (1, 0), 3: (-1, 0)}[direction]
    hidden = np.zeros((height, width))
    columns = range(width) if step[1] >= 0 else range(width - 1, -1, -1)
    rows = range(height) if step[0] >= 0 else range(height - 1, -1, -1)
    order = (
        [(i, j) for j in columns for i in rows]
        if direction < 2
        else [(i, j) for i in rows for j in columns]
    )
    for i, j in order:
        raw = gates[:, i, j]
        total = sum(abs(gate) for gate in raw)
        weights = [gate / total if total > 1 else gate for gate in raw]
        value = (1 - sum(weights)) * coarse[i, j]
        for weight, offset in zip(weights, (-1, 0, 1), strict=True):
            a = (i + offset, j - step[1]) if direction < 2 else (i - step[0], j + offset)
            if 0 <= a[0] < height and 0 <= a[1] < width:
                value += weight * hidden[a]
        if sparse is not None and sparse[i, j] > 0:
            value = coarse[i, j] if anchor == "coarse" else sparse[i, j]
        hidden[i, j] = value
    return hidden


@pytest.mark.parametrize("anchor", ["coarse", "sparse"])
@pytest.mark.parametrize("with_sparse", [True, False])
def test_it_equals_a_loop_over_pixels(anchor, with_sparse):
    rng = np.random.default_rng(0)
    guidance = rng.normal(0, 0.6, (1, 12, 6, 9))
    coarse = rng.uniform(1, 5, (6, 9))
    sparse = np.where(rng.random((6, 9)) < 0.2, rng.uniform(1, 5, (6, 9)), 0)
    sparse = sparse if with_sparse else None
    expected = np.max(
        [scan_loop(guidance[0, 3 * d : 3 * d + 3], coarse, sparse, anchor, d) for d in range(4)],
        axis=0,
    )
    out = propagate_spn(
        torch.from_numpy(guidance),
        torch.from_numpy(coarse)[None, None],
        None if sparse is None else torch.from_numpy(sparse)[None, None],
        anchor=anchor,
    )
    np.testing.assert_allclose(out[0, 0].numpy(), expected, rtol=1e-12)


def test_gradients_are_those_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    guidance = torch.randn(1, 12, 3, 4, generator=generator, dtype=torch.float64)
    coarse = torch.rand(1, 1, 3, 4, generator=generator, dtype=torch.float64) + 1
    assert torch.autograd.gradcheck(
        propagate_spn, (guidance.requires_grad_(), coarse.requires_grad_())
    )


def test_zero_gates_keep_the_coarse_depth():
    coarse = torch.rand(2, 1, 5, 6)
    assert torch.equal(propagate_spn(torch.zeros(2, 12, 5, 6), coarse), coarse)


def test_wrong_arguments_get_a_sentence():
    with pytest.raises(ValueError, match=r"guidance must be \(1, 12, 4, 4\) here"):
        propagate_spn(torch.zeros(1, 8, 4, 4), torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match="anchor must be one of"):
        propagate_spn(torch.zeros(1, 12, 4, 4), torch.zeros(1, 1, 4, 4), anchor="both")


def test_a_network_refined_by_it_trains_every_parameter():
    torch.manual_seed(0)
    model = build_model("resnet18", refine="spn")
    rgbd = torch.rand(2, 4, 32, 48)
    model(rgbd).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
