"""The network against the published code's outputs, and its construction."""

import numpy as np
import pytest
import torch
from golden_weights import GOLDEN, golden_state_dict, released_shapes

from models import (
    UNPOOLS,
    PretrainedError,
    build_model,
    convert_released_state_dict,
    dead_released_keys,
    export_released_state_dict,
    is_released_state_dict,
)
from models.decoder import UpProjection, relu_cat
from models.imagenet_weights import load_imagenet_encoder
from models.unpool import UnpoolConv, unpool_fast, unpool_slow


@pytest.fixture(scope="module")
def resnet50_weights():
    return golden_state_dict("resnet50")


@pytest.mark.parametrize("norm_type", ["8sum", "8sum_abs"])
def test_resnet50_gives_the_published_output(norm_type, resnet50_weights):
    suffix = "_abs" if norm_type == "8sum_abs" else ""
    rgbd = torch.from_numpy(np.load(GOLDEN / "network_resnet50_228x304.npz")["rgbd"])
    expected = np.load(GOLDEN / f"network_resnet50_228x304{suffix}.npz")["depth"]
    model = build_model("resnet50", cspn_norm_type=norm_type).eval()
    model.load_state_dict(convert_released_state_dict(resnet50_weights), strict=True)
    with torch.no_grad():
        depth = model(rgbd).numpy()
    assert np.abs(depth - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("unpool", ["fused", "fast"])
def test_resnet18_gives_the_output_of_the_communitys_kitti_network(unpool):
    golden = np.load(GOLDEN / "network_resnet18_228x912.npz")
    model = build_model("resnet18", unpool=unpool).eval()
    model.load_state_dict(convert_released_state_dict(golden_state_dict("resnet18")), strict=True)
    with torch.no_grad():
        depth = model(torch.from_numpy(golden["rgbd"])).numpy()
    assert np.abs(depth - golden["depth"]).max() < 1e-4 * np.abs(golden["depth"]).max()


def test_resnet50_drops_the_dead_layers_and_no_others(resnet50_weights):
    model = build_model("resnet50")
    count = sum(p.numel() for p in model.parameters())
    shapes = released_shapes("resnet50")
    trained = {
        key: int(np.prod(shape))
        for key, shape in shapes.items()
        if not key.endswith(
            ("running_mean", "running_var", "num_batches_tracked", "sum_conv.weight")
        )
    }
    dead = sum(n for k, n in trained.items() if k.startswith(("up_proj_layer", "conv3")))
    assert round(sum(trained.values()) / 1e6, 2) == 256.08
    assert round(dead / 1e6, 2) == 37.96
    assert count == sum(trained.values()) - dead


@pytest.mark.parametrize("refine", [True, False])
def test_every_parameter_receives_a_gradient(refine):
    torch.manual_seed(0)
    model = build_model("resnet18", refine=refine)
    model(torch.rand(2, 4, 64, 96)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (61, 95), (100, 64), (37, 130)])
def test_any_size_from_32_up_gives_depth_of_that_size(size):
    model = build_model("resnet18", cspn_steps=2).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 4, *size)).shape == (1, 1, *size)


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [((1, 3, 64, 64), "must be"), ((4, 64, 64), "must be"), ((1, 4, 31, 64), "at least 32x32")],
)
def test_wrong_inputs_get_a_sentence(shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        build_model("resnet18")(torch.zeros(shape))


@pytest.mark.parametrize("size", [(32, 32), (57, 75), (228, 304)])
def test_the_compact_network_takes_any_size_and_has_three_million_parameters(size):
    model = build_model("resnet10_half", depth_input="filled", confidence=True).eval()
    assert sum(p.numel() for p in model.parameters()) <= 3_000_000
    rgbd = torch.rand(1, 4, *size)
    with torch.no_grad():
        depth, error = model(rgbd, with_error=True)
    assert depth.shape == error.shape == (1, 1, *size)
    assert depth.isfinite().all() and (error > 0).all()


def test_what_was_not_published_has_no_released_weights_in_or_out():
    for options in ({"arch": "resnet10_half"}, {"depth_input": "filled"}, {"confidence": True}):
        with pytest.raises(ValueError, match="have a released form"):
            export_released_state_dict(build_model(**{"arch": "resnet18"} | options).state_dict())
    with pytest.raises(PretrainedError, match="no ImageNet weights for resnet10_half"):
        build_model("resnet10_half", pretrained=True)


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_the_residual_stages_compute_what_torchvisions_do(arch):
    import torchvision

    torch.manual_seed(0)
    theirs = torchvision.models.get_model(arch, weights=None)
    ours = build_model(arch).encoder
    state = {k: v for k, v in theirs.state_dict().items() if k.startswith("layer")}
    assert [k for k in ours.state_dict() if k.startswith("layer")] == list(state)
    ours.load_state_dict(state, strict=False)
    x = expected = torch.randn(2, 64, 13, 18)
    for name in ("layer1", "layer2", "layer3", "layer4"):
        x, expected = ours.get_submodule(name)(x), theirs.get_submodule(name)(expected)
        assert torch.equal(x, expected)


def test_pooling_before_the_relu_gives_the_releases_values_and_gradients_bit_for_bit():
    torch.manual_seed(0)
    encoder = build_model("resnet18").encoder
    # Few values, so that windows tie, above 0, at 0 and below.
    x = torch.randint(-3, 2, (2, 64, 17, 22)).float().requires_grad_()
    for_each = torch.randn(2, 64, 9, 11)
    ours = encoder.relu(encoder.maxpool(x))
    released = encoder.maxpool(torch.relu(x))
    assert torch.equal(ours, released)
    gradients = [torch.autograd.grad(y, x, for_each)[0] for y in (ours, released)]
    assert torch.equal(*gradients)
    assert not gradients[0][x <= 0].any() and gradients[0].any()


def test_where_nothing_is_cropped_the_backward_pass_has_no_crop():
    depth = build_model("resnet18", cspn_steps=1)(torch.rand(2, 4, 64, 96))
    passed, nodes = set(), [depth.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is not None and node not in passed:
            passed.add(node)
            nodes += [following for following, _ in node.next_functions]
    names = {node.name() for node in passed}
    assert "ConvolutionBackward0" in names and "SliceBackward0" not in names


def test_joining_a_relu_and_a_skip_differentiates_as_pytorchs_operations_do():
    torch.manual_seed(0)
    x, skip = (torch.randn(2, c, 3, 4, dtype=torch.float64, requires_grad=True) for c in (3, 2))
    assert torch.autograd.gradcheck(relu_cat, (x, skip), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(relu_cat, (x, skip))
    joined, expected = relu_cat(x, skip), torch.cat((x.relu(), skip), dim=1)
    assert torch.equal(joined, expected) and joined.grad_fn.name() != expected.grad_fn.name()
    for_each = torch.randn_like(joined)
    ours, plain = (torch.autograd.grad(y, (x, skip), for_each) for y in (joined, expected))
    assert torch.equal(ours[0], plain[0]) and torch.equal(ours[1], plain[1])
    with torch.no_grad():
        assert torch.equal(relu_cat(x, skip), expected)

    def of_one(x, skip):
        return torch.func.grad(lambda x: relu_cat(x[None], skip[None]).square().sum())(x)

    per_sample = torch.func.vmap(of_one)(x.detach(), skip.detach())
    assert torch.equal(per_sample, 2 * x.detach().relu())


def test_training_keeps_what_is_joined_once():
    block = UpProjection(8, 4, 6, "fused")
    x, skip = torch.rand(2, 8, 5, 6, requires_grad=True), torch.rand(2, 6, 10, 12).requires_grad_()
    kept: dict[int, tuple] = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tuple(tensor.shape), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = block(x, (10, 12), skip)
    shapes = [shape for shape, _ in kept.values()]
    assert shapes.count((2, 10, 10, 12)) == 1  # joined; of (2, 4, 10, 12) there are what the two
    # other convolutions gave, what the second relu did, and the block's result.
    assert shapes.count((2, 4, 10, 12)) == 4 and out.shape == (2, 4, 10, 12)


def test_an_unknown_architecture_gets_a_sentence():
    with pytest.raises(ValueError, match="arch must be one of resnet18, resnet50"):
        build_model("vgg16")


def test_the_unet_alone_has_no_guidance_and_returns_the_coarse_depth():
    model = build_model("resnet18", refine=False).eval()
    rgbd = torch.rand(1, 4, 40, 56)
    with torch.no_grad():
        coarse, guidance = model.coarse_depth_and_guidance(rgbd)
        assert torch.equal(model(rgbd), coarse)
    assert guidance.shape[1] == 0
    assert model.decoder.heads.weight.shape[1] == 1


@pytest.mark.parametrize("size", [(14, 20), (13, 19), (13, 20), (9, 17)])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_the_three_unpools_agree_in_outputs_and_gradients(kernel_size, size):
    torch.manual_seed(0)
    x = torch.randn(2, 6, 7, 10)
    results = []
    for unpool in UNPOOLS:
        torch.manual_seed(1)
        layer = UnpoolConv(6, 5, kernel_size, unpool).double()
        inputs = x.double().requires_grad_()
        out = layer(inputs, size)
        out.square().sum().backward()
        results.append((out, inputs.grad, layer.weight.grad))
    for values in zip(*results, strict=True):
        for other in values[1:]:
            torch.testing.assert_close(other, values[0], rtol=1e-9, atol=1e-9)


def test_unpooling_puts_values_at_the_top_left_of_each_cell():
    x = torch.arange(1.0, 7.0).view(1, 1, 2, 3)
    expected = torch.tensor([[1.0, 0, 2, 0, 3, 0], [0] * 6, [4.0, 0, 5, 0, 6, 0], [0] * 6]).view(
        1, 1, 4, 6
    )
    assert torch.equal(unpool_fast(x), expected)
    assert torch.equal(unpool_slow(x), expected)


def test_whole_networks_agree_over_unpools_and_share_checkpoints():
    torch.manual_seed(0)
    fused = build_model("resnet18", cspn_steps=3).eval()
    rgbd = torch.rand(1, 4, 45, 62)
    with torch.no_grad():
        expected = fused(rgbd)
        for unpool in ("fast", "slow"):
            other = build_model("resnet18", cspn_steps=3, unpool=unpool).eval()
            other.load_state_dict(fused.state_dict())
            torch.testing.assert_close(other(rgbd), expected, rtol=1e-5, atol=1e-5)


def test_released_keys_convert_with_prefixes_and_dead_layers_and_round_trip():
    complete = golden_state_dict("resnet18", dead=True)
    prefixed = {f"module.{key}": value for key, value in complete.items()}
    live = golden_state_dict("resnet18")
    assert is_released_state_dict(prefixed)
    converted = convert_released_state_dict(prefixed)
    build_model("resnet18").load_state_dict(converted, strict=True)
    assert {k.removeprefix("module.") for k in dead_released_keys(prefixed)} == (
        complete.keys() - live.keys()
    )
    exported = export_released_state_dict(converted)
    assert exported.keys() == live.keys()
    assert all(torch.equal(exported[key], live[key]) for key in live)


def test_released_files_without_batch_counters_convert():
    old = {k: v for k, v in golden_state_dict("resnet18").items() if "num_batches_tracked" not in k}
    build_model("resnet18").load_state_dict(convert_released_state_dict(old), strict=True)


def test_unknown_or_missing_released_keys_are_refused():
    state = golden_state_dict("resnet18")
    with pytest.raises(ValueError, match=r"1 keys that the release does not: extra\.weight"):
        convert_released_state_dict(state | {"extra.weight": torch.zeros(1)})
    del state["gud_up_proj_layer6.conv1.weight"]
    with pytest.raises(ValueError, match=r"lacks gud_up_proj_layer6\.conv1\.weight"):
        convert_released_state_dict(state)
    with pytest.raises(ValueError, match="9 head channels"):
        export_released_state_dict(build_model("resnet18", refine=False).state_dict())


def test_imagenet_weights_fill_the_stages_and_leave_the_rest(tmp_path):
    import torchvision

    torch.manual_seed(3)
    imagenet = torchvision.models.resnet18().state_dict()
    imagenet["layer3.1.conv2.weight"] += 1
    torch.save(imagenet, tmp_path / "resnet18.pth")
    encoder = build_model("resnet18").encoder
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    source = load_imagenet_encoder(encoder, "resnet18", tmp_path)
    after = encoder.state_dict()
    assert source == str(tmp_path / "resnet18.pth")
    assert torch.equal(after["layer3.1.conv2.weight"], imagenet["layer3.1.conv2.weight"])
    assert torch.equal(after["bn1.weight"], imagenet["bn1.weight"])
    for key in ("conv1_1.weight", "conv2.weight"):
        assert torch.equal(after[key], before[key])


def test_wrong_imagenet_files_get_a_sentence(tmp_path):
    import torchvision

    encoder = build_model("resnet18").encoder
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(PretrainedError, match="does not hold ImageNet weights of resnet18"):
        load_imagenet_encoder(encoder, "resnet18", tmp_path)
    (tmp_path / "resnet18.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(PretrainedError, match="not a readable state dict"):
        load_imagenet_encoder(encoder, "resnet18", tmp_path)


def test_missing_imagenet_weights_say_where_to_put_them(tmp_path, monkeypatch):
    import torchvision

    def refuse(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", refuse)
    with pytest.raises(PretrainedError, match=r"resnet18\.pth does not exist.*--no-pretrain"):
        load_imagenet_encoder(build_model("resnet18").encoder, "resnet18", tmp_path)


def test_resnet50_at_228x304_needs_fewer_than_115_gflop():
    from torch.utils.flop_counter import FlopCounterMode

    model = build_model("resnet50", refine=False).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 4, 228, 304))
    assert counter.get_total_flops() < 115e9
