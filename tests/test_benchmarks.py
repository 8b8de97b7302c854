"""What the benchmarks compare with computes the same, and docs/benchmarks.md shows the results."""

import pytest
import torch

from benchmarks.plain import PlainNetwork, propagate_plain
from benchmarks.tables import PAGES
from cspn import propagate
from models import build_model, convert_released_state_dict


def test_the_plain_propagation_is_the_same_function():
    generator = torch.Generator().manual_seed(0)
    guidance = torch.randn(2, 8, 13, 17, generator=generator)
    coarse = torch.rand(2, 1, 13, 17, generator=generator) * 5
    sparse = coarse * (torch.rand(coarse.shape, generator=generator) < 0.1)
    torch.testing.assert_close(
        propagate_plain(guidance, coarse, sparse), propagate(guidance, coarse, sparse)
    )


def test_the_plain_network_is_the_same_function():
    torch.manual_seed(0)
    plain = PlainNetwork("resnet50").eval()
    ours = build_model("resnet50").eval()
    ours.load_state_dict(convert_released_state_dict(plain.state_dict()))
    rgbd = torch.rand(1, 4, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(rgbd), plain(rgbd), rtol=1e-4, atol=1e-4)


def test_the_plain_network_has_the_same_gradients_in_training():
    torch.manual_seed(0)
    plain = PlainNetwork("resnet18").double()
    ours = build_model("resnet18").double()
    ours.load_state_dict(convert_released_state_dict(plain.state_dict()))
    rgbd = torch.rand(2, 4, 64, 96, dtype=torch.float64)
    for network in (plain, ours):
        network(rgbd).square().mean().backward()
    expected = plain.conv1_1.weight.grad
    torch.testing.assert_close(ours.encoder.conv1_1.weight.grad, expected, rtol=1e-6, atol=1e-9)
    expected = plain.gud_up_proj_layer2.conv1_1.weight.grad
    torch.testing.assert_close(ours.decoder.up2.skip_conv.weight.grad, expected)


@pytest.mark.parametrize(("page", "make"), PAGES.items())
def test_the_pages_show_the_tables_of_the_results_files(page, make):
    assert make() in page.read_text(encoding="utf-8")
