"""Packed weights give what the network gives without, and leave nothing behind."""

import pytest
import torch

from models import build_model, packed_weights


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = build_model("resnet18").eval()
    for module in model.modules():  # statistics of a trained network, not ones and zeros
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def images(*size):
    rgbd = torch.rand(size[0], 4, *size[1:], generator=torch.Generator().manual_seed(0))
    rgbd[:, 3] *= 5 * (rgbd[:, 3] < 0.02)
    return rgbd


def assert_same_depth(depth, expected):
    """Up to the order of sums in float32."""
    assert (depth - expected).abs().max() < 1e-5 * expected.abs().max()


def mkldnn_calls(model, rgbd):
    with torch.profiler.profile() as profile:
        model(rgbd)
    return [e.key for e in profile.key_averages() if e.key.startswith("mkldnn::")]


@pytest.mark.parametrize("size", [(1, 64, 96), (2, 57, 71), (1, 33, 140)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_packed_weights_give_the_networks_own_depth(model, size, layout):
    rgbd = images(*size)
    model.to(memory_format=layout)
    with torch.inference_mode():
        expected = model(rgbd)
        with packed_weights(model):
            model(images(1, 64, 64))  # packed for this size, used with another
            assert_same_depth(model(rgbd), expected)


def test_the_packed_convolutions_are_the_ones_that_run(model):
    with torch.inference_mode(), packed_weights(model):
        model(images(1, 64, 96))
        calls = mkldnn_calls(model, images(1, 64, 96))
    assert {"mkldnn::_convolution_pointwise", "mkldnn::_convolution_transpose_pointwise"} <= {
        *calls
    }
    assert not any("reorder" in call for call in calls)  # packed once, not at every call


def test_under_autocast_the_body_is_bfloat16_and_the_heads_are_float32(model):
    rgbd = images(1, 64, 96)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = model.coarse_depth_and_guidance(rgbd)
        with packed_weights(model):
            packed = model.coarse_depth_and_guidance(rgbd)
            heads = model.decoder.heads.conv_transpose.weights
            body = model.decoder.up1.conv.forward.weights
    assert [*heads] == [torch.float32] and [*body] == [torch.bfloat16]
    for ours, theirs in zip(packed, expected, strict=True):
        assert ours.dtype == torch.float32
        # Two roundings to bfloat16 of the same network; a forgotten layer would differ by more.
        assert (ours - theirs).abs().max() < 0.05 * theirs.abs().max()


def test_a_cpu_without_bfloat16_runs_as_it_would_without(model, monkeypatch):
    monkeypatch.setattr("models.packing._library_takes", lambda dtype: dtype == torch.float32)
    rgbd = images(1, 64, 64)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = model(rgbd)
        with packed_weights(model):
            assert (model(rgbd) - expected).abs().max() < 0.05 * expected.abs().max()
            assert not model.decoder.up1.conv.forward.weights


def test_gradients_and_other_precisions_go_the_usual_way(model):
    rgbd = images(1, 64, 64)
    with packed_weights(model):
        model(rgbd).mean().backward()
        assert all(p.grad is not None for p in model.parameters())
    double = build_model("resnet18").double().eval()
    with torch.inference_mode(), packed_weights(double):
        assert double(rgbd.double()).dtype == torch.float64


def test_the_context_ends_even_after_an_error_and_new_weights_are_seen(model):
    rgbd = images(1, 64, 64)
    names = [{*vars(module)} for module in model.modules()]
    with pytest.raises(ZeroDivisionError), torch.inference_mode(), packed_weights(model):
        before = model(rgbd)
        raise ZeroDivisionError
    assert [{*vars(module)} for module in model.modules()] == names
    with torch.no_grad():
        model.decoder.heads.weight.mul_(2)
    with torch.inference_mode(), packed_weights(model), packed_weights(model):
        after = model(rgbd)
    with torch.inference_mode():
        assert_same_depth(after, model(rgbd))
    assert (before - after).abs().max() > 0.1 * after.abs().max()
