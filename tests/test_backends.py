"""Every implementation gives the reference's result, with any numbers, threads and installation."""

import os
import shutil
import subprocess
import sys
import threading
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from test_propagation import random_inputs

import cspn
from cspn import ANCHORS, IMPLEMENTATIONS, NORM_TYPES, propagate

ROOT = Path(__file__).resolve().parent.parent
FAST = ("numba", "eager", "convolution")


def why_not(impl):
    """Return why an implementation cannot run float32 on this CPU, "" where it can."""
    try:
        propagate(torch.zeros(1, 8, 1, 1), torch.zeros(1, 1, 1, 1), steps=1, impl=impl)
    except ValueError as error:
        return str(error)
    return ""


needs_numba = pytest.mark.skipif(bool(why_not("numba")), reason="numba does not work here")


@pytest.fixture(params=FAST)
def impl(request):
    if why_not(request.param):
        pytest.skip(why_not(request.param))
    return request.param


def results(guidance, coarse, sparse, impl, **options):
    """Refined depth, the same without gradients asked for, and both gradients."""
    g, d = guidance.clone().requires_grad_(), coarse.clone().requires_grad_()
    out = propagate(g, d, sparse, impl=impl, **options)
    out.square().sum().backward()
    with torch.no_grad():
        plain = propagate(g, d, sparse, impl=impl, **options)
    return out.detach(), plain, g.grad, d.grad


def assert_same_as_reference(guidance, coarse, sparse, impl, **options):
    tolerance = 1e-9 if guidance.dtype == torch.float64 else 2e-5
    expected = results(guidance, coarse, sparse, "reference", **options)
    found = results(guidance, coarse, sparse, impl, **options)
    for value, reference in zip(found, expected, strict=True):
        assert value.shape == reference.shape
        if reference.numel():
            largest = reference.abs().max().clamp(min=1)
            assert (value - reference).abs().max() <= tolerance * largest


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", range(8))
def test_random_shapes_and_options(seed, dtype, impl):
    if impl == "numba" and dtype == torch.float64:
        pytest.skip("numba is for float32")
    rng = np.random.default_rng(seed)
    inputs = random_inputs(
        seed,
        batch=int(rng.integers(1, 4)),
        height=int(rng.integers(1, 20)),
        width=int(rng.integers(1, 20)),
        channels=(8, 24, 48)[rng.integers(3)],
        maps=int(rng.integers(1, 4)),
        dtype=dtype,
    )
    assert_same_as_reference(
        *inputs[:2],
        inputs[2] if seed % 4 else None,
        impl,
        steps=int(rng.integers(1, 9)),
        norm_type=NORM_TYPES[seed % 2],
        anchor=ANCHORS[seed // 2 % 2],
    )


@pytest.mark.parametrize("anchor", ANCHORS)
@pytest.mark.parametrize("norm_type", NORM_TYPES)
def test_all_steps_with_zero_gates(norm_type, anchor, impl):
    guidance, coarse, sparse = random_inputs(4, height=40, width=33, dtype=torch.float32)
    guidance[:, :, 5:9, 5:9] = 0
    assert_same_as_reference(guidance, coarse, sparse, impl, norm_type=norm_type, anchor=anchor)


@needs_numba
@pytest.mark.parametrize("width", [1, 15, 16, 17, 304])
@pytest.mark.parametrize("steps", [1, 2, 40])
def test_compiled_loops_take_any_width_and_more_steps_than_rows(steps, width):
    inputs = random_inputs(16, batch=3, width=width, dtype=torch.float32)
    assert_same_as_reference(*inputs, "numba", steps=steps)


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 1, 7), (2, 7, 1), (1, 1, 1)])
def test_thin_and_empty_images(shape, impl):
    batch, height, width = shape
    inputs = random_inputs(22, batch=batch, height=height, width=width, dtype=torch.float32)
    assert_same_as_reference(*inputs, impl, steps=3)


def test_memory_layouts(impl):
    guidance, coarse, sparse = random_inputs(23, height=9, width=7, dtype=torch.float32, maps=3)
    last = {"memory_format": torch.channels_last}
    apart = torch.stack((guidance, guidance.flip(1)), dim=-1)[..., 0]
    one = coarse[:1, :1, :1, :1].expand_as(coarse)
    for inputs in (
        (guidance.contiguous(**last), coarse.contiguous(**last), sparse.contiguous(**last)),
        (apart, one, sparse[:1].expand_as(sparse)),
        (guidance.transpose(2, 3), coarse.transpose(2, 3), sparse.transpose(2, 3)),
    ):
        assert_same_as_reference(*inputs, impl, steps=3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype, impl):
    halves = [t.to(dtype) for t in random_inputs(24)]
    out = propagate(*halves, steps=3, impl=impl)
    assert out.dtype == torch.float32
    expected = propagate(*(t.float() for t in halves), steps=3, impl="reference")
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("norm_type", NORM_TYPES)
@pytest.mark.parametrize("size", [1e-20, 1e-30, 1e-36, 1e-38, 1e-41, 1e-44, 1e30, 1e37, 1e38])
def test_gates_of_any_size_float32_can_hold(size, norm_type, impl):
    guidance, coarse, sparse = random_inputs(25, dtype=torch.float32)
    guidance[0] *= size  # the other image is an ordinary one
    if size < 1e-35 or size > 1e35:  # gradients themselves leave float32
        options = {"norm_type": norm_type, "steps": 6}
        out = propagate(guidance, coarse, sparse, impl=impl, **options)
        expected = propagate(guidance, coarse, sparse, impl="reference", **options)
        assert expected.isfinite().all()
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
        return
    assert_same_as_reference(guidance, coarse, sparse, impl, norm_type=norm_type, steps=6)
    if size >= 1e-30:  # not only where the gradient is huge
        found = results(guidance, coarse, sparse, impl, steps=6)[2]
        expected = results(guidance, coarse, sparse, "reference", steps=6)[2]
        for image in range(2):
            largest = expected[image].abs().max()
            assert (found[image] - expected[image]).abs().max() <= 1e-4 * largest


@pytest.mark.parametrize("anchor", ANCHORS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e38])
def test_a_measured_pixel_takes_nothing_from_a_neighbour_that_is_not_finite(bad, anchor, impl):
    guidance, coarse, sparse = random_inputs(26, height=12, width=13, dtype=torch.float32)
    sparse[:, :, 4:7, 4:9] = 2
    spoilt = coarse.clone()
    spoilt[0, 0, 5, 9] = bad
    gates = guidance.clone()
    gates[1, 3, 3, 5] = bad
    out = propagate(gates, spoilt, sparse, anchor=anchor, impl=impl)
    known = sparse > 0
    kept = coarse if anchor == "coarse" else sparse
    assert torch.equal(out[:, :, 4:7, 4:9], kept[:, :, 4:7, 4:9])
    assert torch.equal(out[known & (spoilt == coarse)], kept[known & (spoilt == coarse)])
    if impl != "convolution":  # where it spreads to more unmeasured pixels
        expected = propagate(gates, spoilt, sparse, anchor=anchor, impl="reference")
        assert not expected.isfinite().all() or bad == 3e38
        tolerance = 1e-4 if bad != 3e38 else 1e-2  # large numbers cancel
        torch.testing.assert_close(out, expected, equal_nan=True, rtol=tolerance, atol=1e-4)


def test_measurements_that_are_negative_or_not_a_number_are_none(impl):
    guidance, coarse, sparse = random_inputs(27, dtype=torch.float32)
    for anchor in ANCHORS:
        expected = propagate(guidance, coarse, sparse, anchor=anchor, impl="reference")
        for nothing in (-1.0, -0.0, float("nan"), -float("inf")):
            given = torch.where(sparse > 0, sparse, nothing)
            out = propagate(guidance, coarse, given, anchor=anchor, impl=impl)
            torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


def test_every_implementation_has_a_name_and_the_choices_are_among_them():
    assert set(IMPLEMENTATIONS) == {"triton", "numba", "eager", "convolution", "reference"}
    assert all(entry.covers and entry.method for entry in IMPLEMENTATIONS.values())
    guidance, coarse, sparse = random_inputs(28, dtype=torch.float32)
    first = next(name for name in ("numba", "eager") if not why_not(name))
    for choice, name in (("auto", first), ("fast", first), ("portable", "convolution")):
        expected = propagate(guidance, coarse, sparse, impl=name)
        assert torch.equal(propagate(guidance, coarse, sparse, impl=choice), expected)


@pytest.mark.parametrize(
    ("impl", "change", "reason"),
    [
        ("triton", {}, "NVIDIA GPU|not installed"),
        ("numba", {"dtype": torch.float64}, "float32 on a CPU, not torch.float64|not installed"),
        ("numba", {"channels": 2}, "sparse_depth has 2 channels, not 1"),
        ("eager", {"channels": 2}, "sparse_depth has 2 channels, not 1"),
    ],
)
def test_a_backend_that_cannot_serve_says_why_and_what_could(impl, change, reason):
    dtype, channels = change.get("dtype", torch.float32), change.get("channels", 1)
    guidance, coarse, sparse = random_inputs(29, dtype=dtype, maps=channels)
    with pytest.raises(ValueError, match=f'impl="{impl}" cannot serve here: .*({reason})') as error:
        propagate(guidance, coarse, sparse.repeat(1, channels, 1, 1), impl=impl)
    for name in ("convolution", "reference", *(["eager"] if channels == 1 else [])):
        assert name in str(error.value).split("what can:")[1]


def test_calls_at_the_same_time_do_not_share_their_work():
    cases = [
        random_inputs(seed, batch=2, height=height, width=width, dtype=torch.float32)
        for seed, (height, width) in enumerate([(9, 17), (40, 33), (9, 17), (5, 64)] * 3)
    ]
    expected = [propagate(*case, steps=5, impl="reference") for case in cases]
    interval = sys.getswitchinterval()
    try:
        sys.setswitchinterval(1e-6)
        with ThreadPoolExecutor(8) as pool:
            for _ in range(10):
                found = pool.map(lambda case: propagate(*case, steps=5), cases)
                for out, value in zip(found, expected, strict=True):
                    torch.testing.assert_close(out, value, rtol=1e-5, atol=1e-5)
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_workspaces_remember_nothing_of_the_image_before(bad):
    guidance, coarse, sparse = (t.requires_grad_() for t in random_inputs(3, dtype=torch.float32))
    sparse = sparse.detach()

    def outputs():
        out = propagate(guidance, coarse, sparse)
        return out.detach(), *torch.autograd.grad(out.sum(), (guidance, coarse))

    expected = outputs()
    spoilt = torch.full_like(coarse, bad).requires_grad_()
    propagate(torch.full_like(guidance, bad).requires_grad_(), spoilt).sum().backward()
    for value, before in zip(outputs(), expected, strict=True):
        assert torch.equal(value, before)


@needs_numba
def test_what_stays_allocated_is_bounded(monkeypatch):
    from cspn.backends import numba_cpu

    monkeypatch.setattr(numba_cpu, "KEPT_BYTES", 1 << 20)
    for channels, maps in ((8, 1), (48, 30), (24, 4), (8, 1)):
        inputs = random_inputs(1, channels=channels, maps=maps, dtype=torch.float32)
        results(*inputs, "numba", steps=4)
        kept = sum(workspace.bytes for workspace in numba_cpu._pool.unused)
        assert kept <= (1 << 20) * torch.get_num_threads()
    assert numba_cpu._pool.unused  # small ones stay
    large = numba_cpu.Workspace(True, 48, 150, 228, 304, 1)
    assert large.bytes == sum(ring.nbytes for ring in large.rings)


@needs_numba
@pytest.mark.parametrize("openmp", [True, False])
def test_threads_share_the_images_and_hand_on_errors(openmp, monkeypatch):
    from cspn.backends import numba_cpu

    if openmp and numba_cpu._openmp() is None:
        pytest.skip("PyTorch brings no GNU OpenMP here")
    if not openmp:
        monkeypatch.setattr(numba_cpu, "_openmp", lambda: None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    done = []
    numba_cpu._run_in_threads(done.extend, 7)
    assert sorted(done) == list(range(7))

    def fail(images):
        raise MemoryError(f"no memory for image {next(images)}")

    with pytest.raises(MemoryError, match="no memory for image"):
        numba_cpu._run_in_threads(fail, 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_propagates_too():
    inputs = random_inputs(30, batch=4, dtype=torch.float32)
    expected = propagate(*inputs)
    child = os.fork()
    if not child:
        same = torch.equal(propagate(*inputs), expected)
        os._exit(0 if same else 1)
    ended = threading.Timer(60, os.kill, (child, 9))
    ended.start()
    status = os.waitpid(child, 0)[1]
    ended.cancel()
    assert status == 0


def run_python(code, *, cwd, python=sys.executable, path=ROOT, **environment):
    """Run code in a process of its own, every warning shown; return what it wrote."""
    environment = os.environ | {"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run(
        [python, "-W", "always::UserWarning", "-c", code],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


SAME_AS_REFERENCE = """
import torch
from cspn import propagate
g, d = torch.randn(2, 8, 9, 12, requires_grad=True), torch.rand(2, 1, 9, 12)
s = d * (torch.rand(2, 1, 9, 12) < 0.2)
grads = []
for impl in ("auto", "reference", "auto"):
    out = propagate(g, d, s, impl=impl)
    grads.append(torch.autograd.grad(out.sum(), g)[0])
    torch.testing.assert_close(out, propagate(g, d, s, impl="reference"), rtol=1e-4, atol=1e-5)
torch.testing.assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-4)
"""


def test_without_compilation_the_results_are_the_same(tmp_path):
    code = SAME_AS_REFERENCE + (
        "try: propagate(g, d, impl='numba')\nexcept ValueError as error: print(error)\n"
    )
    out, err = run_python(code, cwd=tmp_path, NUMBA_DISABLE_JIT="1")
    assert "NUMBA_DISABLE_JIT is set" in out or "not installed" in out
    assert "Warning" not in err


@pytest.mark.parametrize(
    "error", ["ImportError('needs NumPy 2.3 or less')", "RuntimeError('bad')", "AttributeError(1)"]
)
def test_packages_that_cannot_be_imported_are_done_without_after_one_warning(error, tmp_path):
    for name in ("numba", "triton"):
        (tmp_path / f"{name}.py").write_text(f"raise {error}\n")
    code = "import sys; sys.modules['triton'] = None\n" + SAME_AS_REFERENCE
    _, err = run_python(code, cwd=tmp_path, path=f"{tmp_path}{os.pathsep}{ROOT}")
    assert err.count("propagating without numba") == err.count("UserWarning") == 1


def test_packages_that_are_not_installed_are_no_news(tmp_path):
    code = "import sys; sys.modules.update(numba=None, triton=None)\n" + SAME_AS_REFERENCE
    assert "Warning" not in run_python(code, cwd=tmp_path)[1]


CACHED = """
import numpy as np
from cspn.backends.numba_rows import compiled

@compiled
def first(values):
    return values[0] + 1

@compiled
def last(values):
    return values[-1] + 1

assert (first(np.arange(3)), last(np.arange(3))) == (1, 3)
print(sum(first.stats.cache_hits.values()))
"""


@pytest.fixture(scope="module")
def filled_cache(tmp_path_factory):
    """A folder with two kernels and, in `cache`, what numba keeps of them."""
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "kernels.py").write_text(CACHED)
    run = {"cwd": folder, "NUMBA_CACHE_DIR": str(folder / "cache")}
    out, err = run_python("import runpy; runpy.run_path('kernels.py')", **run)
    assert out == "0\n" and "Warning" not in err
    assert run_python("import runpy; runpy.run_path('kernels.py')", **run)[0] == "1\n"
    return folder


@needs_numba
@pytest.mark.parametrize("harm", ["truncated", "other", "folders", "unwritable"])
def test_a_harmed_cache_costs_a_warning_and_no_more(harm, filled_cache, tmp_path):
    folder = tmp_path / "cache"
    shutil.copytree(filled_cache / "cache", folder)
    files = [path for path in folder.rglob("*.nb?") if "kernels" in path.name]
    assert len(files) == 4
    for path in files:
        if harm == "truncated":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        elif harm == "other":
            path.write_bytes(b"not a cache")
        elif harm in ("folders", "unwritable"):
            path.unlink()
            if harm == "folders" or path.suffix == ".nbi":
                path.mkdir()  # what nobody can write, not even root
    code = "import runpy; runpy.run_path('kernels.py')"
    out, err = run_python(code, cwd=filled_cache, NUMBA_CACHE_DIR=str(folder))
    assert out == "0\n"
    assert err.count("compiles without numba's cache") == err.count("UserWarning") == 1


def test_it_is_installed_with_all_backends(tmp_path):
    """`pip install .` into an environment of its own that sees this one's packages."""
    pytest.importorskip("setuptools", minversion="77")
    pytest.importorskip("pip")
    source, target = tmp_path / "source", tmp_path / "venv"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for path in (ROOT / "cspn").rglob("*.py"):
        copied = source / path.relative_to(ROOT)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(path.read_bytes())
    venv.create(target, with_pip=False, symlinks=os.name != "nt")
    python = str(target / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    packages = os.pathsep.join(p for p in sys.path if p.endswith("-packages"))
    flags = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *flags, str(source)],
        env=os.environ | {"PYTHONPATH": packages},
        check=True,
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = SAME_AS_REFERENCE + (
        "import importlib, sys, cspn\n"
        "assert cspn.__file__.startswith(sys.prefix), cspn.__file__\n"
        "for name in ('op', 'eager', 'convolution'):\n"
        "    importlib.import_module(f'cspn.backends.{name}')\n"
        "for impl in ('numba', 'eager', 'convolution', 'reference'):\n"
        "    try:\n"
        "        propagate(g, d, s, impl=impl)\n"
        "        print(impl)\n"
        "    except ValueError as error:\n"
        "        print(error)\n"
        "from cspn.backends.op import _load\n"
        "print(_load('triton'))\n"
        "outside = {'models', 'engine', 'dataloaders', 'PIL', 'h5py'} & set(sys.modules)\n"
        "assert not outside, outside\n"
    )
    out, _ = run_python(code, cwd=elsewhere, python=python, path=packages)
    served = [line for line in out.splitlines() if line in IMPLEMENTATIONS]
    assert served == [
        impl for impl in ("numba", "eager", "convolution", "reference") if not why_not(impl)
    ], out
    assert "triton_gpu" in out or "triton is not installed" in out
    assert cspn.__file__.startswith(str(ROOT))
