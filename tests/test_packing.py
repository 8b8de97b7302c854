"""A network without gradients packs its weights at its first call; nobody can tell but by the time.

Every test of a change compares with `plain`: the same network where nothing is packed.
"""

import contextlib
import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from models import build_model, packing, release_packed


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = build_model("resnet10_half").eval()
    for module in model.modules():  # statistics of a trained network, not ones and zeros
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def images(*size):
    rgbd = torch.rand(size[0], 4, *size[1:], generator=torch.Generator().manual_seed(0))
    rgbd[:, 3] *= 5 * (rgbd[:, 3] < 0.02)
    return rgbd


RGBD = images(1, 64, 96)
LAYERS = 25  # convolutions and transposed convolutions of the network below


def plain(model, rgbd=RGBD):
    """The network's depth by PyTorch's own convolutions."""
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(packing, "_can_pack", lambda *_: False)
        return model(rgbd)


@torch.inference_mode()
def fast(model, rgbd=RGBD):
    return model(rgbd)


def layers(model):
    """How many layers of the network are packed, and in which dtypes."""
    found = [packing._packed[m].packed for m in model.modules() if m in packing._packed]
    return len(found), {dtype for packed in found for dtype, *_ in packed}


def assert_same(depth, expected):
    """Up to the order of sums in float32."""
    assert (depth - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("size", [(1, 64, 96), (2, 57, 71), (1, 33, 140)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("no_grad", [torch.no_grad, torch.inference_mode])
def test_a_plain_call_gives_the_networks_depth_with_packed_weights(model, size, layout, no_grad):
    rgbd = images(*size)
    model.to(memory_format=layout)
    with no_grad():
        model(images(1, 64, 64))  # packed for this size, used with another
        assert_same(model(rgbd), plain(model, rgbd))
    assert layers(model) == (LAYERS, {torch.float32})


def test_the_packed_convolutions_are_the_ones_that_run(model):
    fast(model)
    with torch.profiler.profile() as profile:
        fast(model)
    calls = [e.key for e in profile.key_averages() if e.key.startswith("mkldnn::")]
    assert {"mkldnn::_convolution_pointwise", "mkldnn::_convolution_transpose_pointwise"} <= {
        *calls
    }
    assert not any("reorder" in call for call in calls)  # packed once, not at every call


def optimizer_step(model, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, **options)
    model(RGBD).mean().backward()
    optimizer.step()


@torch.no_grad()
def write(model):
    model.decoder.up1.conv.weight[0, 3] += 1


@torch.inference_mode()
def write_in_inference_mode(model):
    model.decoder.up1.conv.weight[0, 3] += 1


def load(model, **options):
    state = {k: v * 1.5 if v.is_floating_point() else v for k, v in model.state_dict().items()}
    model.load_state_dict(state, **options)


def replace_data(model):
    for parameter in model.parameters():
        parameter.data = 2 * parameter.data


@torch.no_grad()
def write_normalisation(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.mul_(1.1)


def write_normalisation_through_data(model):
    model.encoder.layer1[0].bn2.bias.data[-1] += 1


def run_statistics(model):
    model.train()
    with torch.no_grad():
        model(RGBD)


def reset_statistics(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()


def round_to_half(model):
    model.half().float()


def write_through_data(model):
    for parameter in model.parameters():
        parameter.data.mul_(1.01)


def replace_parameter(model):
    weight = model.decoder.heads.weight
    model.decoder.heads.weight = nn.Parameter(2 * weight.detach())


@pytest.mark.parametrize(
    "change",
    [
        optimizer_step,
        lambda model: optimizer_step(model, fused=True),
        lambda model: optimizer_step(model, foreach=True),
        write,
        write_in_inference_mode,
        load,
        lambda model: load(model, assign=True),
        replace_data,
        write_through_data,
        write_normalisation,
        write_normalisation_through_data,
        run_statistics,
        reset_statistics,
        round_to_half,
        replace_parameter,
        lambda model: model.to(memory_format=torch.channels_last),
        lambda model: model.apply(lambda m: m.reset_parameters() if hasattr(m, "bias") else None),
    ],
)
def test_weights_that_have_changed_are_packed_anew(model, change):
    fast(model)
    change(model)
    model.eval()
    assert_same(fast(model), plain(model))
    assert layers(model)[0] == LAYERS


def test_a_changed_dtype_goes_the_usual_way(model):
    fast(model)
    assert fast(model.double(), RGBD.double()).dtype == torch.float64
    assert_same(fast(model.float()), plain(model))


def test_copies_pickles_and_state_dicts_hold_no_packed_weights(model):
    fast(model)
    names, sizes = [*model.state_dict()], len(pickle.dumps(model.state_dict()))
    assert not any("pack" in name for name in names)
    stream = io.BytesIO()
    torch.save(model, stream)
    assert stream.tell() < 1.3 * sizes
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert layers(twin)[0] == 0
        with torch.no_grad():
            twin.decoder.heads.weight.mul_(2)
        assert_same(fast(twin), plain(twin))
        assert_same(fast(model), plain(model))


@pytest.mark.parametrize("forget", [lambda model: model.train(), release_packed])
def test_training_and_release_free_the_packed_weights(model, forget):
    fast(model)
    assert layers(model)[0] == LAYERS
    forget(model)
    assert layers(model)[0] == 0
    with torch.no_grad():
        model.train()(RGBD)
    assert layers(model)[0] == 0


def test_a_layers_packed_weight_goes_with_it():
    layer = packing.Conv2d(4, 4, 3).eval()
    held = len(packing._packed)
    fast(layer)
    assert len(packing._packed) == held + 1
    del layer
    assert len(packing._packed) == held


def test_gradients_are_recorded_and_right(model):
    fast(model)
    rgbd = RGBD.clone().requires_grad_()
    model(rgbd).mean().backward()
    assert all(p.grad is not None for p in model.parameters()) and rgbd.grad.abs().sum() > 0


def test_hooks_of_every_layer_run_and_may_change_what_it_gives(model):
    seen = []
    for module in model.modules():
        module.register_forward_hook(lambda module, *_: seen.append(module))
    fast(model)
    assert {*seen} == {m for m in model.modules() if not isinstance(m, nn.Identity)}
    model.decoder.up4.conv.register_forward_hook(lambda module, inputs, output: 0 * output)
    assert_same(fast(model), plain(model))


@pytest.mark.parametrize("name", ["up4.conv_bn", "up4.unpool_conv", "up3.bn", "up2.skip_conv"])
@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook"])
def test_a_hook_of_one_layer_sees_what_it_sees_in_pytorch(model, name, kind):
    seen = []
    hook = getattr(model.decoder.get_submodule(name), kind)(lambda *args: seen.append(args[-1]))
    expected, found = plain(model), fast(model)
    hook.remove()
    first, second = (x[0] if isinstance(x, tuple) else x for x in seen)
    assert_same(second, first)
    assert_same(found, expected)
    assert_same(fast(model), expected)


class Doubled(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    "bn",
    [
        Doubled(32),
        nn.Identity(),
        nn.GroupNorm(4, 32),
        nn.BatchNorm2d(32, affine=False),
        nn.BatchNorm2d(32, track_running_stats=False),
    ],
    ids=lambda bn: type(bn).__name__,
)
def test_another_layer_in_the_normalisations_place_is_run(model, bn):
    fast(model)
    model.decoder.up4.conv_bn = bn.eval()
    assert_same(fast(model), plain(model))


def test_a_normalisation_in_training_mode_takes_the_batchs_statistics(model):
    twin = copy.deepcopy(model)
    for network in (model, twin):
        network.decoder.up3.bn.train()
    assert_same(fast(model), plain(twin))
    assert model.decoder.up3.bn.num_batches_tracked == 1
    assert_same(model.decoder.up3.bn.running_mean, twin.decoder.up3.bn.running_mean)


@pytest.mark.parametrize("channels", [1, 3, 16])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (5, 1), (7, 9)])
@pytest.mark.parametrize("relu", [True, False])
def test_a_sum_is_right_for_maps_of_any_size_and_layout(channels, size, relu):
    conv = packing.Conv2d(channels, channels, 3, padding=1, bias=False).eval()
    bn = nn.BatchNorm2d(channels).eval()
    for batch in (1, 2):
        x, wide = torch.rand(batch, channels, *size), torch.rand(batch, channels, 9, 11)
        for add in (torch.rand_like(x), wide[..., : size[0], : size[1]]):
            with torch.inference_mode():
                expected = bn(nn.functional.conv2d(x, conv.weight, padding=1)) + add
                expected = expected.relu() if relu else expected
                before = add.clone()
                found = packing.conv_bn(conv, bn, x, add=add, relu=relu)
                assert (found - expected).abs().max() < 1e-5
                assert torch.equal(add, before)


@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1, "padding_mode": "reflect"},
        {"padding": 1, "padding_mode": "circular"},
        {"padding": "same"},
        {"padding": "valid"},
    ],
)
def test_a_padding_that_is_not_a_number_of_zeros_is_pytorchs(options):
    conv = packing.Conv2d(4, 4, 3, bias=False, **options).eval()
    bn, x = nn.BatchNorm2d(4).eval(), torch.rand(1, 4, 9, 11)
    with torch.inference_mode():
        expected = nn.Conv2d.forward(conv, x)
        assert torch.equal(conv(x), expected)
        assert torch.equal(packing.conv_bn(conv, bn, x), bn(expected))


def test_a_convolution_of_another_class_is_run(model):
    class Negative(packing.Conv2d):
        def forward(self, x):
            return -super().forward(x)

    fast(model)
    model.decoder.up4.conv = Negative(32, 32, 3, padding=1, bias=False).eval()
    assert_same(fast(model), plain(model))


def test_bfloat16_is_nearer_to_float32_with_the_normalisation_folded(model):
    exact = plain(model)
    with torch.autocast("cpu", torch.bfloat16):
        folded, separate = fast(model), plain(model)
    assert (folded - exact).square().mean() < (separate - exact).square().mean()


def test_a_parametrized_weight_is_computed_at_every_call(model):
    class Scaled(nn.Module):
        factor = 1.0

        def forward(self, weight):
            return self.factor * weight

    fast(model)
    scaled = Scaled()
    torch.nn.utils.parametrize.register_parametrization(model.decoder.up2.conv, "weight", scaled)
    for scaled.factor in (2.0, -3.0):
        assert_same(fast(model), plain(model))


def test_functional_calls_use_the_weights_they_are_given(model):
    fast(model)
    for factor in (0.5, 2.0):
        weights = {name: factor * p.detach() for name, p in model.named_parameters()}
        with torch.inference_mode():
            found = torch.func.functional_call(model, weights, (RGBD,))
        other = copy.deepcopy(model)
        other.load_state_dict(weights, strict=False)
        assert_same(found, plain(other))


def test_several_threads_share_a_network(model):
    sizes = [(1, 64, 96), (2, 57, 71), (1, 64, 64), (1, 33, 140)] * 3
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda size: fast(model, images(*size)), sizes))
    for size, depth in zip(sizes, found, strict=True):
        assert_same(depth, plain(model, images(*size)))


def test_tracing_sees_pytorchs_own_convolutions(model):
    fast(model)
    with torch.inference_mode(False), torch.no_grad():
        program = torch.export.export(model, (RGBD,), strict=False)
        names = {str(node.target) for node in program.graph.nodes}
        assert not any("mkldnn" in name for name in names) and "aten.conv2d.default" in names
        with torch.utils.flop_counter.FlopCounterMode(display=False) as flops:
            model(RGBD)
    assert flops.get_total_flops() > 1e8
    graph = torch.fx.symbolic_trace(packing.Conv2d(4, 4, 3).eval())
    assert graph(RGBD).shape == (1, 4, 62, 94)


def test_under_autocast_the_body_is_bfloat16_and_the_heads_are_float32(model):
    with torch.autocast("cpu", torch.bfloat16):
        expected = plain(model)
        depth = fast(model)
    assert layers(model.decoder.heads) == (1, {torch.float32})
    assert layers(model.decoder.up1.conv) == (1, {torch.bfloat16})
    # Two roundings to bfloat16 of the same network; a forgotten layer would differ by more.
    assert (depth - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize(
    "lacks", ["bfloat16", "oneDNN"], ids=["a CPU without bfloat16", "oneDNN switched off"]
)
def test_where_the_library_cannot_the_network_runs_as_in_pytorch(model, lacks, monkeypatch):
    bfloat16 = lacks == "bfloat16"
    monkeypatch.setattr(packing, "_library_takes", lambda dtype: False)
    off = contextlib.nullcontext() if bfloat16 else torch.backends.mkldnn.flags(enabled=False)
    with off, torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        assert torch.equal(fast(model), plain(model))
    assert layers(model)[0] == 0


@pytest.mark.parametrize("shape", [(4, 64, 96), (0, 4, 64, 96)])
def test_unbatched_and_empty_inputs_go_the_usual_way(shape):
    layer = packing.Conv2d(4, 8, 3, padding=1).eval()
    assert fast(layer, torch.zeros(shape)).shape == (*shape[:-3], 8, 64, 96)
    with pytest.raises(RuntimeError):
        fast(layer, torch.zeros(1, 3, 8, 8))
