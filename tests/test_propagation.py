"""The propagation operator against the published numbers and against the definition."""

import copy
import pickle

import numpy as np
import pytest
import torch
from golden_weights import GOLDEN
from torch import func
from torch.autograd import forward_ad

from cspn import ANCHORS, CSPN, NORM_TYPES, neighbour_offsets, normalized_affinity, propagate

IMPLS = ("reference", "eager", "convolution", "fast")
OFFSETS_3X3 = [(1, 1), (1, 0), (1, -1), (0, 1), (0, -1), (-1, 1), (-1, 0), (-1, -1)]


def pixel_loop(guidance, coarse, sparse, steps, norm_type, anchor, offsets):
    """The equations, one pixel at a time, in float64."""
    batch, _, height, width = coarse.shape
    depth = coarse.clone()
    for _ in range(steps):
        following = depth.clone()
        for b, i, j in np.ndindex(batch, height, width):
            gates, values = [], []
            for k, (dy, dx) in enumerate(offsets):
                inside = 0 <= i + dy < height and 0 <= j + dx < width
                gate = guidance[b, k, i + dy, j + dx].item() if inside else 0.0
                gates.append(abs(gate) if norm_type == "8sum_abs" else gate)
                values.append(depth[b, 0, i + dy, j + dx].item() if inside else 0.0)
            total = sum(abs(gate) for gate in gates)
            weights = [gate / total if total else 0.0 for gate in gates]
            value = (1 - sum(weights)) * coarse[b, 0, i, j].item()
            value += sum(w * v for w, v in zip(weights, values, strict=True))
            if sparse is not None and sparse[b, 0, i, j] > 0:
                value = (coarse if anchor == "coarse" else sparse)[b, 0, i, j].item()
            following[b, 0, i, j] = value
        depth = following
    return depth


def random_inputs(seed, batch=2, height=7, width=9, channels=8, dtype=torch.float64, maps=1):
    generator = torch.Generator().manual_seed(seed)
    guidance = torch.randn(batch, channels, height, width, generator=generator, dtype=dtype)
    coarse = torch.rand(batch, maps, height, width, generator=generator, dtype=dtype) * 5 + 1
    sparse = torch.rand(batch, 1, height, width, generator=generator, dtype=dtype) * 5
    sparse[torch.rand(sparse.shape, generator=generator) < 0.8] = 0
    return guidance, coarse, sparse


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("kind", ["sparse", "plain"])
@pytest.mark.parametrize("case", "abc")
@pytest.mark.parametrize("norm_type", NORM_TYPES)
def test_outputs_and_gradients_are_the_published_ones(norm_type, case, kind, impl):
    golden = {
        k: torch.from_numpy(v)
        for k, v in np.load(GOLDEN / f"propagate_{norm_type}_{case}.npz").items()
        if v.ndim
    }
    steps = int(np.load(GOLDEN / f"propagate_{norm_type}_{case}.npz")["steps"])
    guidance = golden["guidance"].requires_grad_()
    coarse = golden["coarse"].requires_grad_()
    out = propagate(
        guidance,
        coarse,
        golden["sparse"] if kind == "sparse" else None,
        steps=steps,
        norm_type=norm_type,
        impl=impl,
    )
    (out * golden["cotangent"]).sum().backward()
    for name, value in (
        ("out", out.detach()),
        ("grad_guidance", guidance.grad),
        ("grad_coarse", coarse.grad),
    ):
        expected = golden[f"{name}_{kind}"]
        assert (value - expected).abs().max() <= 1e-5 * expected.abs().max(), name


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("anchor", ANCHORS)
@pytest.mark.parametrize("norm_type", NORM_TYPES)
@pytest.mark.parametrize("with_sparse", [True, False])
def test_it_equals_a_loop_over_pixels(norm_type, anchor, with_sparse, impl):
    guidance, coarse, sparse = random_inputs(1, batch=1)
    sparse = sparse if with_sparse else None
    out = propagate(
        guidance, coarse, sparse, steps=4, norm_type=norm_type, anchor=anchor, impl=impl
    )
    expected = pixel_loop(guidance, coarse, sparse, 4, norm_type, anchor, OFFSETS_3X3)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("impl", IMPLS)
def test_a_3x3_case_computed_by_hand(impl):
    # Only the gate of o_1 = (1, 0), "the pixel below", is set, and it is read at the neighbour.
    guidance = torch.zeros(1, 8, 3, 3)
    guidance[0, 1] = 2.0
    coarse = torch.arange(1.0, 10.0).view(1, 1, 3, 3)
    out = propagate(guidance, coarse, steps=1, impl=impl)
    # Weight 1 on the pixel below; the last row has no pixel below, so its gates sum to 0.
    expected = torch.tensor([[4.0, 5, 6], [7, 8, 9], [7, 8, 9]]).view(1, 1, 3, 3)
    torch.testing.assert_close(out, expected)
    guidance[0, 1, 2, 0] = -2.0  # a negative gate below the middle-left pixel
    out = propagate(guidance, coarse, steps=1, impl=impl)
    assert out[0, 0, 1, 0] == (1 - -1) * 4 - 7


@pytest.mark.parametrize("kernel_size", [5, 7])
@pytest.mark.parametrize("impl", IMPLS)
def test_larger_kernels_continue_the_neighbour_order(kernel_size, impl):
    radius = kernel_size // 2
    offsets = [
        (dy, dx)
        for dy in range(radius, -radius - 1, -1)
        for dx in range(radius, -radius - 1, -1)
        if (dy, dx) != (0, 0)
    ]
    assert neighbour_offsets(3) == OFFSETS_3X3
    guidance, coarse, sparse = random_inputs(2, batch=1, height=6, width=8, channels=len(offsets))
    out = propagate(guidance, coarse, sparse, steps=2, impl=impl)
    expected = pixel_loop(guidance, coarse, sparse, 2, "8sum", "coarse", offsets)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("anchor", ANCHORS)
@pytest.mark.parametrize("norm_type", NORM_TYPES)
def test_gradients_are_those_of_finite_differences(norm_type, anchor, impl):
    guidance, coarse, sparse = random_inputs(3, batch=2, height=4, width=5)
    guidance = (guidance + 0.2 * guidance.sign()).requires_grad_()  # away from the kink of |g|
    coarse.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda g, d: propagate(
            g, d, sparse, steps=3, norm_type=norm_type, anchor=anchor, impl=impl
        ),
        (guidance, coarse),
    )


def test_non_contiguous_inputs_and_gradients_are_handled():
    guidance, coarse, sparse = random_inputs(5, height=9, width=7)
    swapped = [t.contiguous(memory_format=torch.channels_last) for t in (guidance, coarse, sparse)]
    swapped[0].requires_grad_()
    out = propagate(*swapped, steps=3)
    torch.testing.assert_close(out, propagate(guidance, coarse, sparse, steps=3))
    out.transpose(2, 3).sum().backward()
    expanded = propagate(guidance, coarse[:, :, :1, :1].expand_as(coarse), None, steps=2)
    assert expanded.isfinite().all()


@pytest.mark.parametrize("norm_type", NORM_TYPES)
def test_a_constant_field_stays_constant(norm_type):
    guidance, _, sparse = random_inputs(6, height=12, width=12)
    coarse = torch.full_like(sparse, 3.5)
    # Also at the border: a neighbour outside has no gate, so its zero depth has no weight.
    out = propagate(guidance, coarse, sparse, steps=3, norm_type=norm_type)
    torch.testing.assert_close(out, coarse)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("norm_type", NORM_TYPES)
def test_zero_gates_keep_the_coarse_depth_and_finite_gradients(norm_type, impl):
    guidance, coarse, _ = random_inputs(7, dtype=torch.float32)
    guidance[:, :, 2:6, 3:8] = 0  # around (4, 5) every neighbour's gate is 0
    guidance[0, 3, 0, 0] = 0  # one zero gate in a corner: NaN gradients in the release
    guidance.requires_grad_()
    coarse.requires_grad_()
    out = propagate(guidance, coarse, steps=6, norm_type=norm_type, impl=impl)
    assert torch.equal(out[:, :, 4, 5], coarse[:, :, 4, 5])
    out.sum().backward()
    assert guidance.grad.isfinite().all()
    assert coarse.grad.isfinite().all()
    everywhere = propagate(torch.zeros_like(guidance), coarse, steps=6, impl=impl)
    assert torch.equal(everywhere, coarse)


def test_the_anchor_decides_what_is_kept_at_measured_pixels():
    guidance, coarse, sparse = random_inputs(8)
    known = sparse > 0
    kept_coarse = propagate(guidance, coarse, sparse, anchor="coarse")
    kept_sparse = propagate(guidance, coarse, sparse, anchor="sparse")
    assert torch.equal(kept_coarse[known], coarse[known])
    assert torch.equal(kept_sparse[known], sparse[known])
    assert not torch.equal(kept_coarse[~known], kept_sparse[~known])


def test_measurements_can_receive_a_gradient_when_they_are_the_anchor():
    guidance, coarse, sparse = random_inputs(9)
    sparse.requires_grad_()
    propagate(guidance, coarse, sparse, steps=2, anchor="sparse").sum().backward()
    assert (sparse.grad[sparse > 0] != 0).any()
    with pytest.raises(ValueError, match="requires no gradient"):
        propagate(guidance, coarse, sparse, anchor="sparse", impl="fast")


def test_positive_affinity_sums_to_one_and_signed_affinity_stays_in_its_range():
    guidance, _, _ = random_inputs(10)
    positive = normalized_affinity(guidance, "8sum_abs")
    signed = normalized_affinity(guidance, "8sum")
    torch.testing.assert_close(positive.sum(1), torch.ones_like(positive[:, 0]))
    assert (positive >= 0).all()
    torch.testing.assert_close(signed.abs().sum(1), torch.ones_like(signed[:, 0]))
    assert (signed < 0).any()


def test_propagation_stays_in_float32_under_autocast():
    guidance, coarse, sparse = random_inputs(11, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = propagate(guidance, coarse, sparse)
        half = propagate(guidance.bfloat16(), coarse, sparse)
    assert out.dtype == half.dtype == torch.float32
    assert torch.equal(out, propagate(guidance, coarse, sparse))


def forward_mode(f, g, d):
    tangents = torch.randn_like(g), torch.rand_like(d)
    with forward_ad.dual_level():
        dual = f(forward_ad.make_dual(g, tangents[0]), forward_ad.make_dual(d, tangents[1]))
        return tuple(forward_ad.unpack_dual(dual))


def dual_cotangent(f, g, d):
    g = g.clone().requires_grad_()
    out = f(g, d)
    with forward_ad.dual_level():
        cotangent = forward_ad.make_dual(torch.ones_like(out), torch.rand_like(out))
        return tuple(forward_ad.unpack_dual(torch.autograd.grad(out, g, cotangent)[0]))


def twice(f, g, d):
    g, d = g.clone().requires_grad_(), d.clone().requires_grad_()
    first = torch.autograd.grad(f(g, d).square().sum(), (g, d), create_graph=True)
    return torch.autograd.grad(sum(part.square().sum() for part in first), (g, d))


def batched_cotangents(f, g, d):
    g = g.clone().requires_grad_()
    out = f(g, d)
    return torch.autograd.grad(out, g, torch.rand(3, *out.shape).double(), is_grads_batched=True)


def square(f):
    return lambda g, d: f(g, d).square().sum()


def stacked(*tensors):
    return [torch.stack([t, t * 1.5, t - 1]) for t in tensors]


DERIVATIVES = {
    "forward mode": forward_mode,
    "jvp": lambda f, g, d: func.jvp(f, (g, d), (g.cos(), d.cos())),
    "grad": lambda f, g, d: func.grad(square(f), argnums=(0, 1))(g, d),
    "jacrev": lambda f, g, d: func.jacrev(f)(g, d),
    "jacfwd": lambda f, g, d: func.jacfwd(f, argnums=1)(g, d),
    "hessian": lambda f, g, d: func.hessian(square(f))(g, d),
    "vmap": lambda f, g, d: func.vmap(f)(*stacked(g, d)),
    "vmap over one": lambda f, g, d: func.vmap(f, in_dims=(None, 0))(g, *stacked(d)),
    "vmap of grad": lambda f, g, d: func.vmap(func.grad(square(f)))(*stacked(g, d)),
    "grad of vmap": lambda f, g, d: func.grad(square(func.vmap(f)))(*stacked(g, d)),
    "compiled grad": lambda f, g, d: torch.compile(func.grad(square(f)), backend="eager")(g, d),
    "double backward": twice,
    "batched cotangents": batched_cotangents,
    "dual cotangent": dual_cotangent,
}


@pytest.mark.parametrize("kind", DERIVATIVES)
def test_derivatives_of_every_kind_are_the_references(kind):
    guidance, coarse, sparse = random_inputs(17, batch=1, height=4, width=5)
    results = []
    for impl in ("auto", "reference"):
        torch.manual_seed(0)

        def refine(g, d, impl=impl):
            return propagate(g, d, sparse, steps=3, impl=impl)

        found = DERIVATIVES[kind](refine, guidance, coarse)
        results.append(found if isinstance(found, tuple) else (found,))
    assert any(value.abs().max() > 0.01 for value in results[1])
    for value, expected in zip(*results, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)


def test_numerical_checks_of_first_and_second_derivatives_pass():
    guidance, coarse, sparse = random_inputs(18, batch=1, height=2, width=3)
    guidance = (guidance + 0.2 * guidance.sign()).requires_grad_()
    coarse.requires_grad_()

    def refine(g, d):
        return propagate(g, d, sparse, steps=2)

    ways = {"check_forward_ad": True, "check_batched_grad": True}
    assert torch.autograd.gradcheck(refine, (guidance, coarse), **ways)
    assert torch.autograd.gradgradcheck(refine, (guidance, coarse))


def test_a_backend_that_is_named_says_that_it_has_no_rule_for_transforms():
    guidance, coarse, _ = random_inputs(19, batch=1, height=3, width=4)
    with pytest.raises(ValueError, match=r'impl="eager" cannot serve here: .*torch.func'):
        func.grad(lambda g: propagate(g, coarse, impl="eager").sum())(guidance)


@pytest.mark.parametrize("impl", ["auto", *IMPLS])
def test_meta_tensors_give_the_shape(impl):
    guidance, coarse, sparse = (t.to("meta") for t in random_inputs(20, maps=2))
    out = propagate(guidance.requires_grad_(), coarse, sparse, impl=impl)
    assert (out.shape, out.device.type, out.requires_grad) == (coarse.shape, "meta", True)
    out.sum().backward()
    assert guidance.grad.shape == guidance.shape


def test_inference_mode_and_gradients_to_one_input_alone():
    guidance, coarse, sparse = random_inputs(21, dtype=torch.float32)
    expected = propagate(guidance, coarse, sparse)
    with torch.inference_mode():
        assert torch.equal(propagate(guidance, coarse, sparse), expected)
    for source in (guidance, coarse):
        source.requires_grad_()
        propagate(guidance, coarse, sparse).sum().backward()
        found, source.grad = source.grad, None
        propagate(guidance, coarse, sparse, impl="reference").sum().backward()
        torch.testing.assert_close(found, source.grad, rtol=1e-4, atol=1e-5)
        source.requires_grad_(False)
    # Measurements decide what is kept; with the coarse depth kept no gradient reaches them.
    assert not propagate(guidance, coarse, sparse.requires_grad_()).requires_grad


def test_it_exports_and_keeps_only_its_inputs_for_backward():
    guidance, coarse, sparse = random_inputs(12, height=32, width=40, dtype=torch.float32)
    exported = torch.export.export(CSPN(steps=3), (guidance, coarse, sparse))
    torch.testing.assert_close(
        exported.module()(guidance, coarse, sparse), propagate(guidance, coarse, sparse, steps=3)
    )
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        propagate(guidance.requires_grad_(), coarse.requires_grad_(), sparse, steps=24)
    values = sum(t.numel() for t in kept)
    image = coarse.numel()
    # The inputs: guidance, coarse and sparse depth. No depth map, no stacked volume.
    assert values == (8 + 1 + 1) * image


def test_it_survives_compilation_in_one_graph():
    guidance, coarse, sparse = random_inputs(15, height=9, width=11, dtype=torch.float32)
    results = []
    compiled = torch.compile(CSPN(steps=4), backend="aot_eager", fullgraph=True)
    for module in (CSPN(steps=4), compiled):
        g, d = guidance.clone().requires_grad_(), coarse.clone().requires_grad_()
        out = module(g, d, sparse)
        out.square().sum().backward()
        results.append((out, g.grad, d.grad))
    for eager, graph in zip(*results, strict=True):
        torch.testing.assert_close(graph, eager)


def test_torch_library_finds_the_operator_well_formed():
    guidance, coarse, sparse = random_inputs(13, height=5, width=6)
    guidance.requires_grad_()
    coarse.requires_grad_()
    torch.library.opcheck(torch.ops.cspn.propagate, (guidance, coarse, sparse, 2, "8sum", "coarse"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"guidance": torch.zeros(1, 7, 4, 4)}, "8, 24 or 48 channels"),
        ({"guidance": torch.zeros(1, 8, 4, 5)}, r"must be \(1, 8, 4, 4\) here"),
        ({"guidance": torch.zeros(8, 4, 4)}, "must be"),
        ({"guidance": np.zeros((1, 8, 4, 4))}, "guidance must be a tensor, got ndarray"),
        ({"coarse_depth": torch.zeros(1, 1, 4, 4, dtype=torch.long)}, "float tensor"),
        ({"sparse_depth": torch.zeros(1, 1, 2, 4)}, "sparse_depth must be"),
        ({"norm_type": "softmax"}, "norm_type must be one of 8sum, 8sum_abs"),
        ({"anchor": "both"}, "anchor must be one of"),
        ({"impl": "cuda"}, "impl must be one of"),
        ({"steps": -1}, "steps must be"),
        ({"steps": 2.5}, "steps must be"),
    ],
)
def test_wrong_arguments_get_a_sentence(change, sentence):
    arguments = {
        "guidance": torch.zeros(1, 8, 4, 4),
        "coarse_depth": torch.zeros(1, 1, 4, 4),
        "sparse_depth": None,
    } | change
    tensors = [arguments.pop(n) for n in ("guidance", "coarse_depth", "sparse_depth")]
    with pytest.raises(ValueError, match=sentence):
        propagate(*tensors, **arguments)


def test_the_module_holds_its_settings_and_no_parameters():
    guidance, coarse, sparse = random_inputs(14)
    module = CSPN(steps=5, norm_type="8sum_abs", anchor="sparse")
    expected = propagate(guidance, coarse, sparse, steps=5, norm_type="8sum_abs", anchor="sparse")
    assert torch.equal(module(guidance, coarse, sparse), expected)
    assert list(module.state_dict()) == []
    assert "steps=5" in repr(module)
    assert torch.equal(CSPN(steps=0)(guidance, coarse), coarse)
    with pytest.raises(ValueError, match="needs 24 guidance channels, got 8"):
        CSPN(kernel_size=5)(guidance, coarse)
    assert "impl='auto'" in repr(module)
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(copied(guidance, coarse, sparse), expected)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"kernel_size": 4}, "3, 5 or 7, got 4"),
        ({"kernel_size": 3.0}, "3, 5 or 7, got 3.0"),
        ({"steps": -1}, "steps must be a whole number from 0 up, got -1"),
        ({"steps": 2.0}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"steps": "24"}, "steps must be a whole number"),
        ({"impl": "cuda"}, "impl must be one of auto, fast, portable, triton, numba, eager"),
        ({"impl": None}, "impl must be one of"),
        ({"norm_type": ["8sum"]}, "norm_type must be one of"),
        ({"anchor": "both"}, "anchor must be one of"),
    ],
)
def test_the_module_refuses_wrong_options_when_it_is_made(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        CSPN(**wrong)
