"""The Triton kernels: under Triton's interpreter everywhere, and on a GPU where there is one.

The interpreter is chosen before Triton is imported, for a whole process. So this file, run as a
script, compares every case with the reference in a process of its own; the tests read the result.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_weights import GOLDEN

from cspn import ANCHORS, NORM_TYPES, propagate

gpu = pytest.importorskip("cspn.backends.triton_gpu", reason="Triton does not work here")
TOLERANCE = 2e-5
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")

# Name: (B, K, C, H, W), steps.
SHAPES = {
    "one_pixel": ((1, 8, 1, 1, 1), 4),
    "tiny_with_three_channels": ((2, 8, 3, 3, 4), 3),
    "odd": ((1, 8, 1, 17, 23), 4),
}
OTHER_SHAPES = {
    "several_tiles": ((1, 8, 1, 29, 70), 5),
    "one_step": ((1, 8, 2, 5, 7), 1),
    "5x5": ((2, 24, 2, 9, 11), 2),
    "7x7": ((1, 48, 1, 6, 10), 2),
}
ANCHORED = ("no_sparse", *ANCHORS)
CASES = [f"{shape}-{norm}-{kept}" for shape in SHAPES for norm in NORM_TYPES for kept in ANCHORED]
CASES += [f"{shape}-{NORM_TYPES[n % 2]}-coarse" for n, shape in enumerate(OTHER_SHAPES)]
GOLDEN_CASES = [f"propagate_{norm}_{letter}" for norm in NORM_TYPES for letter in "abc"]


def random_inputs(batch, neighbours, channels, height, width, device="cpu"):
    generator = torch.Generator().manual_seed(height)
    guidance = torch.randn(batch, neighbours, height, width, generator=generator)
    guidance[:, :, 5:10, 3:9] = 0  # pixels without a gate, and single zero gates around them
    coarse = torch.rand(batch, channels, height, width, generator=generator) * 5 + 1
    sparse = torch.rand(batch, 1, height, width, generator=generator) * 5
    sparse[torch.rand(sparse.shape, generator=generator) < 0.8] = 0
    return guidance.to(device), coarse.to(device), sparse.to(device)


def results(guidance, coarse, sparse, cotangent, **options):
    """Refined depth with and without gradients asked for, and both gradients."""
    guidance, coarse = guidance.detach().requires_grad_(), coarse.detach().requires_grad_()
    out = propagate(guidance, coarse, sparse, **options)
    grads = torch.autograd.grad(out, (guidance, coarse), cotangent)
    with torch.no_grad():
        plain = propagate(guidance, coarse, sparse, **options)
    return {"out": out.detach(), "plain": plain, "guidance": grads[0], "coarse": grads[1]}


def difference(values, expected):
    """Largest difference over the tensors, each relative to its largest value (at least 1)."""
    assert values.keys() == expected.keys()
    return max(
        ((values[name] - expected[name]).abs().max() / expected[name].abs().max().clamp(min=1))
        for name in expected
    ).item()


def difference_from_reference(*inputs, **options):
    cotangent = torch.randn(inputs[1].shape, generator=torch.Generator().manual_seed(0))
    cotangent = cotangent.to(inputs[1].device)
    fast, slow = (results(*inputs, cotangent, impl=i, **options) for i in ("triton", "reference"))
    return difference(fast, slow)


def case_difference(case):
    shape, norm_type, kept = case.split("-")
    sizes, steps = (SHAPES | OTHER_SHAPES)[shape]
    guidance, coarse, sparse = random_inputs(*sizes)
    options = {"steps": steps, "norm_type": norm_type}
    if kept == "no_sparse":
        return difference_from_reference(guidance, coarse, None, **options)
    return difference_from_reference(guidance, coarse, sparse, anchor=kept, **options)


def golden_difference(case, device="cpu"):
    golden = dict(np.load(GOLDEN / f"{case}.npz"))
    steps, norm_type = int(golden.pop("steps")), case[len("propagate_") : -len("_a")]
    tensors = {k: torch.from_numpy(v).to(device) for k, v in golden.items() if v.ndim}
    inputs = [tensors[name] for name in ("guidance", "coarse", "sparse", "cotangent")]
    values = results(*inputs, steps=steps, norm_type=norm_type, impl="triton")
    expected = {
        "out": tensors["out_sparse"],
        "plain": tensors["out_sparse"],
        "guidance": tensors["grad_guidance_sparse"],
        "coarse": tensors["grad_coarse_sparse"],
    }
    return difference(values, expected)


def layout_difference():
    """Inputs in another memory layout, or expanded, give what contiguous ones give."""
    guidance, coarse, sparse = random_inputs(2, 8, 2, 9, 7)
    coarse = coarse[:, :, :1, :1].expand(2, 2, 9, 7)
    cotangent = torch.ones(()).expand(2, 2, 9, 7)
    last = [t.contiguous(memory_format=torch.channels_last) for t in (guidance, sparse)]
    plain = [t.contiguous() for t in (guidance, coarse, sparse, cotangent)]
    return difference(
        results(last[0], coarse, last[1], cotangent, steps=3, impl="triton"),
        results(*plain, steps=3, impl="triton"),
    )


def grouping_difference():
    """Steps one to a launch give exactly what four to a launch give."""
    guidance, coarse, sparse = random_inputs(1, 8, 1, 29, 70)
    cotangent, found = torch.ones_like(coarse), []
    for gpu.STEPS_PER_LAUNCH in (4, 1):
        found.append(results(guidance, coarse, sparse, cotangent, steps=5, impl="triton"))
    return difference(*found)


def tiles_difference():
    """Every form that the benchmark times gives what the first one gives."""
    from benchmarks.tiles import FORMS, run_form
    from cspn.backends import Inputs

    guidance, coarse, sparse = random_inputs(1, 8, 1, 9, 20)
    given = Inputs(guidance, coarse, sparse, 4, "8sum", "coarse")
    names, found = ("out", "guidance", "coarse"), []
    for values, together in sorted({(values, together) for values, _, together in FORMS}):
        found.append(dict(zip(names, run_form(given, coarse, values, 1, together), strict=True)))
    return max(difference(other, found[0]) for other in found)


def numbers_differences():
    """Gates of any size, and what is not finite beside measured pixels: outputs alone."""
    found = {}
    for size in (1e-30, 1e-38, 1e-44, 1e37, 1e38):
        guidance, coarse, sparse = random_inputs(1, 8, 1, 9, 7)
        guidance = guidance * size
        outputs = [
            propagate(guidance, coarse, sparse, steps=3, impl=impl)
            for impl in ("triton", "reference")
        ]
        found[f"{size:g}"] = (outputs[0] - outputs[1]).abs().max().item()
    guidance, coarse, sparse = random_inputs(1, 8, 1, 9, 12)
    sparse[:, :, 2:5, 2:9] = 2
    sparse[..., 3, 9] = 0
    coarse[..., 3, 9] = guidance[:, 3, 1, 3] = float("nan")
    cotangent = torch.where(sparse > 0, 1.0, 0.0)
    found["measured"] = results(guidance, coarse, sparse, cotangent, steps=3, impl="triton")
    found["measured"] = (found["measured"]["out"] - coarse)[sparse > 0].abs().max().item()
    outputs = [
        propagate(guidance, coarse, sparse, steps=3, impl=impl) for impl in ("triton", "reference")
    ]
    same = torch.isclose(*outputs, rtol=1e-4, atol=1e-4, equal_nan=True)
    found["unmeasured"] = float((~same).sum())
    return found


def compare_all(path):
    """Write the differences of all cases from the reference."""
    found = {case: case_difference(case) for case in CASES}
    found |= {case: golden_difference(case) for case in GOLDEN_CASES}
    found |= {"layout": layout_difference(), "grouping": grouping_difference()}
    found["tiles"] = tiles_difference()
    found |= numbers_differences()
    path.write_text(json.dumps(found))


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """What `compare_all` found under the interpreter."""
    path = tmp_path_factory.mktemp("interpreted") / "found.json"
    root = str(Path(__file__).resolve().parent.parent)
    run = subprocess.run(
        [sys.executable, __file__, str(path)],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    # Triton 3.6 makes a number of a one-element array, which NumPy 2.5 no longer does.
    if "only 0-dimensional arrays can be converted" in run.stderr:
        versions = f"Triton {gpu.triton.__version__} with NumPy {np.__version__}"
        pytest.skip(f"the interpreter of {versions} does not run")
    assert run.returncode == 0, run.stderr
    return json.loads(path.read_text())


@pytest.mark.parametrize("case", CASES)
def test_interpreted_kernels_agree_with_the_reference(interpreted, case):
    assert interpreted[case] <= TOLERANCE


@pytest.mark.parametrize("case", GOLDEN_CASES)
def test_interpreted_kernels_give_the_published_outputs_and_gradients(interpreted, case):
    assert interpreted[case] <= TOLERANCE


def test_interpreted_kernels_take_any_memory_layout(interpreted):
    assert interpreted["layout"] == 0


def test_interpreted_steps_of_one_launch_are_those_of_single_launches(interpreted):
    assert interpreted["grouping"] == 0


def test_interpreted_tiles_of_every_size_give_the_same_bits(interpreted):
    assert interpreted["tiles"] == 0


@pytest.mark.parametrize("size", ["1e-30", "1e-38", "1e-44", "1e+37", "1e+38"])
def test_interpreted_kernels_take_gates_of_any_size(interpreted, size):
    assert interpreted[size] <= 1e-4


@pytest.mark.parametrize("where", ["measured", "unmeasured"])
def test_interpreted_kernels_spread_nothing_into_a_measured_pixel(interpreted, where):
    assert interpreted[where] == 0


def test_tensors_that_the_kernels_do_not_serve_are_left_to_others():
    guidance, coarse, _ = random_inputs(1, 8, 1, 4, 5)
    assert "NVIDIA GPU" in gpu.why_not("forward", guidance, coarse, None)
    assert "float32" in gpu.why_not("forward", guidance.double(), coarse.double())
    with pytest.raises(ValueError, match=r"not for cpu; what can: .*eager, convolution, reference"):
        propagate(guidance, coarse, impl="triton")
    empty = torch.empty(0, 8, 4, 5)
    assert propagate(empty, torch.empty(0, 1, 4, 5), steps=2).shape == (0, 1, 4, 5)


@pytest.mark.parametrize(("neighbours", "flag"), [(8, True), (8, False), (24, True), (48, True)])
def test_the_kernels_compile_for_a_gpu_that_is_not_there(neighbours, flag, tmp_path, monkeypatch):
    # The interpreter accepts more than the compiler does.
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    compiler = pytest.importorskip("triton.compiler")
    target = pytest.importorskip("triton.backends.compiler").GPUTarget("cuda", 80, 32)
    options = gpu._options(torch.empty(1, neighbours, 1, 1), gpu.WARPS)
    constants = {name: options.pop(name) for name in ("K", "SLOTS", "R")}
    flags = ("HAS_SPARSE", "POSITIVE", "KEEP_SPARSE", "KEEP", "LAST", "BACKWARD")
    constants |= dict.fromkeys(flags, flag) | {"TILE_W": 64}
    constants["STEPS"] = 4 if neighbours == 8 else 1
    constants |= {"TILE_H": 256 // constants["SLOTS"], "BLOCK": 2048 // constants["SLOTS"]}
    for kernel in (gpu._prepare, gpu._advance, gpu._finish):
        names = kernel.arg_names
        first_number = min(
            names.index(n) for n in ("channels", "map_stride", "steps") if n in names
        )
        types = {
            name: "constexpr" if name in constants else "*fp32" if n < first_number else "i32"
            for n, name in enumerate(names)
        }
        used = {name: value for name, value in constants.items() if name in names}
        source = compiler.ASTSource(fn=kernel, signature=types, constexprs=used)
        code = compiler.compile(source, target=target, options=options).asm["ptx"]
        assert kernel.__name__ in code
        if kernel is gpu._advance:
            # Between two steps: stores, a barrier, loads, all to memory and none from a cache
            # for constants, which would not see the stores.
            assert code.count("bar.sync") >= constants["STEPS"] - 1
            assert "ld.global.nc" not in code


@on_gpu
@pytest.mark.parametrize("anchor", ANCHORS)
@pytest.mark.parametrize("norm_type", NORM_TYPES)
def test_on_a_gpu_the_kernels_agree_with_the_reference(norm_type, anchor):
    inputs = random_inputs(2, 8, 1, 228, 304, "cuda")
    assert not gpu.why_not("forward", *inputs)
    assert difference_from_reference(*inputs, norm_type=norm_type, anchor=anchor) <= TOLERANCE


@on_gpu
@pytest.mark.parametrize("shape", SHAPES | OTHER_SHAPES)
def test_on_a_gpu_every_shape_agrees_with_the_reference(shape):
    sizes, steps = (SHAPES | OTHER_SHAPES)[shape]
    guidance, coarse, sparse = random_inputs(*sizes, "cuda")
    assert difference_from_reference(guidance, coarse, sparse, steps=steps) <= TOLERANCE
    assert difference_from_reference(guidance, coarse, None, steps=steps) <= TOLERANCE


@on_gpu
@pytest.mark.parametrize("case", GOLDEN_CASES)
def test_on_a_gpu_the_outputs_and_gradients_are_the_published_ones(case):
    assert golden_difference(case, "cuda") <= TOLERANCE


@on_gpu
def test_on_a_gpu_no_step_runs_ahead_of_the_one_before(monkeypatch):
    guidance, coarse, sparse = random_inputs(8, 8, 1, 228, 304, "cuda")
    cotangent = torch.ones_like(coarse)
    monkeypatch.setattr(gpu, "STEPS_PER_LAUNCH", 1)
    expected = results(guidance, coarse, sparse, cotangent, impl="triton")
    monkeypatch.setattr(gpu, "STEPS_PER_LAUNCH", 4)
    for _ in range(20):
        values = results(guidance, coarse, sparse, cotangent, impl="triton")
        assert difference(values, expected) <= 1e-6


@on_gpu
def test_on_a_gpu_a_compiled_function_and_autocast_give_the_same():
    guidance, coarse, sparse = random_inputs(2, 8, 1, 40, 50, "cuda")
    expected = propagate(guidance, coarse, sparse)
    assert torch.equal(torch.compile(propagate)(guidance, coarse, sparse), expected)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        out = propagate(guidance, coarse, sparse)
    assert out.dtype == torch.float32 and torch.equal(out, expected)


@on_gpu
def test_on_a_gpu_it_can_be_captured_in_a_graph():
    guidance, coarse, sparse = random_inputs(2, 8, 1, 40, 50, "cuda")
    expected = propagate(guidance, coarse, sparse)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = propagate(guidance, coarse, sparse)
    graph.replay()
    assert torch.equal(out, expected)


if __name__ == "__main__":
    compare_all(Path(sys.argv[1]))
