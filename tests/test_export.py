"""Exported networks give the depth of the network they came from, at every size."""

import contextlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from cspn import NORM_TYPES, propagate
from dataloaders.transforms import encode_rgb
from engine.checkpoint import save_checkpoint
from engine.errors import OptionError
from models import build_model
from models.export import ONNX_PACKAGES, ExportError, export_program, save_onnx
from models.int8 import save_int8
from tools.export import example, main

HAS_ONNX = all(importlib.util.find_spec(name) for name in ONNX_PACKAGES)
needs_onnx = pytest.mark.skipif(
    not HAS_ONNX, reason=f"{', '.join(ONNX_PACKAGES)} of requirements-export.txt are not installed"
)

# (batch, height, width): the published size, odd sizes, the smallest, and one axis at its smallest.
SHAPES = [(2, 228, 304), (1, 61, 95), (2, 33, 47), (1, 32, 32), (1, 100, 32)]


def network(seed=0, **options):
    """A ResNet-18 network with weights and statistics that give depth of a few metres."""
    torch.manual_seed(seed)
    model = build_model("resnet10_half", **options)
    with torch.no_grad():
        model.train()(torch.rand(2, 4, 64, 96))
    return model.eval()


def inputs(batch, height, width):
    return torch.cat([example(height, width).roll(i, dims=-1) for i in range(batch)])


def assert_same_depth(model, run, shapes=SHAPES):
    for shape in shapes:
        rgbd = inputs(*shape)
        with torch.no_grad():
            expected = model(rgbd)
        depth = run(rgbd)
        depth = torch.as_tensor(depth[0] if isinstance(depth, tuple) else depth)
        assert depth.shape == expected.shape and depth.dtype == torch.float32
        # 1e-4 m, and as share of depth above 1 m.
        torch.testing.assert_close(depth, expected, rtol=1e-4, atol=1e-4)


def onnx_session(path):
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def onnx_runner(path):
    session = onnx_session(path)
    return lambda rgbd: session.run(["depth"], {"rgbd": rgbd.numpy()})[0]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """What the command writes and prints for a run folder that asks for other settings than the
    defaults: the folder, the text and the network."""
    folder = tmp_path_factory.mktemp("exported")
    model = network(cspn_steps=5, cspn_norm_type="8sum_abs", cspn_anchor="sparse", confidence=True)
    args = {"arch": "resnet10_half", "cspn_step": 5, "cspn_norm_type": "8sum_abs", "n_sample": 200}
    args |= {"confidence": True}
    args |= {"cspn_anchor": "sparse", "rgb_encoding": "normalized", "data_set": "nyudepth"}
    state = {"args": args, "epoch": 3, "scores": {}, "model": model.state_dict()}
    save_checkpoint(folder / "run" / "best_model.pth", state)
    files = [folder / "new" / "model.pt2"]
    if HAS_ONNX:
        files.append(folder / "new" / "model.onnx")
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        main(["--resume", str(folder / "run"), "--out", *map(str, files)])
    return folder, text.getvalue(), model


@needs_onnx
def test_onnx_runtime_gives_pytorchs_depth_with_the_published_settings(tmp_path):
    model = network()
    save_onnx(export_program(model), tmp_path / "model.onnx", {})
    assert_same_depth(model, onnx_runner(tmp_path / "model.onnx"))


@needs_onnx
def test_onnx_runtime_gives_pytorchs_depth_with_every_other_setting(exported):
    folder, text, model = exported
    assert text.count("run on 228x304: at most") == 2
    assert_same_depth(model, onnx_runner(folder / "new" / "model.onnx"))


@needs_onnx
def test_int8_gives_nearly_the_networks_depth_from_a_smaller_file(exported, tmp_path):
    folder, _, model = exported
    path, whole = folder / "new" / "model.onnx", tmp_path / "int8.onnx"
    rgbd = inputs(3, 64, 96)
    # 9 of the encoder's 3x3 and 3 1x1 convolutions and the decoder's 7.
    assert save_int8(path, whole, rgbd.split(1)) == 19
    assert whole.stat().st_size < 0.7 * path.stat().st_size
    with torch.no_grad():
        expected = model(rgbd).numpy()
    depth = onnx_runner(whole)(rgbd)
    spread = np.abs(expected - np.median(expected)).mean()
    assert 0 < np.abs(depth - expected).mean() < 0.1 * spread


@needs_onnx
def test_the_command_calibrates_int8_on_a_data_root_and_writes_onnx_alone(
    exported, tiny_root, tmp_path, capsys
):
    run, out = str(exported[0] / "run"), tmp_path / "int8.onnx"
    main(["--resume", run, "--out", str(out), "--int8", str(tiny_root)])
    assert "19 convolutions in INT8; on the mean 0." in capsys.readouterr().out
    assert onnx_runner(out)(inputs(1, 61, 95)).shape == (1, 1, 61, 95)
    with pytest.raises(OptionError, match=r"must end in \.onnx, the kind that --int8 writes"):
        main(["--resume", run, "--out", str(tmp_path / "model.pt2"), "--int8", str(tiny_root)])


@needs_onnx
def test_the_onnx_file_has_named_axes_standard_operators_and_says_what_it_takes(exported):
    import onnx

    model = onnx.load(exported[0] / "new" / "model.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["rgb_encoding"].startswith("normalized: (rgb / 255 - mean) / std")
    assert metadata["propagation"] == "cspn, 5 steps, 3x3, norm_type 8sum_abs, anchor sparse"
    assert metadata["checkpoint"] == "best_model.pth, this project's, epoch 3"
    assert metadata["n_sample"] == "200"
    extra = {"metadata.json": ""}
    torch.export.load(exported[0] / "new" / "model.pt2", extra_files=extra)
    assert json.loads(extra["metadata.json"]) == metadata
    assert [value.name for value in model.graph.input] == ["rgbd"]
    assert [value.name for value in model.graph.output] == ["depth", "error"]
    assert metadata["error"].startswith("(batch, 1, height, width) float32, expected absolute")
    for value in (*model.graph.input, *model.graph.output):
        axes = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        assert axes == ["batch", 4 if value.name == "rgbd" else 1, "height", "width"]
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    # What onnxruntime 1.14 to 1.17 read; 1.17.3 has run such a file.
    assert model.ir_version == 8 and [entry.version for entry in model.opset_import] == [18]
    assert "model.onnx, opset 18, IR 8: onnxruntime 1.14 or newer, " in exported[1]


def test_the_saved_program_runs_in_a_process_without_this_project(exported, tmp_path):
    folder, _, model = exported
    rgbd = inputs(2, 61, 95)
    np.save(tmp_path / "rgbd.npy", rgbd.numpy())
    code = (
        "import sys, numpy as np, torch\n"
        "program = torch.export.load(sys.argv[1])\n"
        "depth = program.module()(torch.from_numpy(np.load('rgbd.npy')))\n"
        "np.save('depth.npy', depth[0].detach().numpy())\n"
        "assert not {'cspn', 'models', 'engine'} & sys.modules.keys()\n"
        "operators = {str(n.target) for n in program.graph.nodes if n.op == 'call_function'}\n"
        "assert not [name for name in operators if 'cspn' in name], operators\n"
    )
    command = [sys.executable, "-I", "-c", code, folder / "new" / "model.pt2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = model(rgbd).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "depth.npy"), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options", [{"refine": "none"}, {"cspn_norm_type": "8sum", "cspn_anchor": "sparse"}]
)
def test_the_program_gives_the_networks_depth_at_every_size(options):
    model = network(cspn_steps=2, **options)
    assert_same_depth(model, export_program(model).module())


def test_every_unpooling_exports_as_the_fused_one_and_the_model_keeps_its_own():
    counts = set()
    for unpool in ("fused", "slow"):
        model = network(unpool=unpool, cspn_steps=1).train()
        program = export_program(model)
        counts.add(len(program.graph.nodes))
        assert (model.decoder.heads.unpool, model.refinement.impl) == (unpool, "auto")
        assert model.training
        assert_same_depth(model.eval(), program.module(), shapes=[(1, 33, 47)])
    assert len(counts) == 1


def test_the_described_encoding_is_the_one_of_the_loader():
    from dataloaders.transforms import IMAGENET_MEAN, IMAGENET_STD
    from tools.export import CONSTANTS, ENCODINGS

    rgb = np.arange(256, dtype=np.uint8).repeat(3).reshape(256, 1, 3).transpose(2, 0, 1)
    mean, std = (v.reshape(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    assert all(f"{value:.3f}" in CONSTANTS for value in (*mean.flat, *std.flat))
    for name, formula in ENCODINGS.items():
        python = formula.replace("mod 256", "% 256")
        names = {"rgb": rgb.astype(np.float32), "mean": mean, "std": std, "trunc": np.trunc}
        np.testing.assert_allclose(eval(python, names), encode_rgb(rgb, name), atol=1e-5)


def test_without_the_extra_packages_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    program = export_program(network(cspn_steps=0))
    with pytest.raises(ExportError, match=r"pip install -r requirements-export\.txt"):
        save_onnx(program, tmp_path / "model.onnx", {})


def test_what_cannot_be_exported_is_refused_with_a_sentence():
    with pytest.raises(ExportError, match="SPN takes one step a column"):
        export_program(network(refine="spn"))
    with pytest.raises(OptionError, match=r"must end in \.onnx or \.pt2"):
        main(["--resume", "run", "--out", "model.pth"])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("anchors", ["none", "shared", "own"])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_the_portable_propagation_is_the_reference(channels, anchors, kernel_size):
    generator = torch.Generator().manual_seed(0)
    draw = {"generator": generator, "dtype": torch.float64}
    guidance = torch.randn(2, kernel_size**2 - 1, 11, 14, **draw)
    guidance[:, :, :3, :3] = 0  # a patch without gates
    coarse = torch.rand(2, channels, 11, 14, **draw)
    sparse = None
    if anchors != "none":
        sparse = torch.rand(2, channels if anchors == "own" else 1, 11, 14, **draw)
        sparse = sparse * (sparse > 0.8)
    for norm_type in NORM_TYPES:
        for anchor in ("coarse", "sparse"):
            results = []
            for impl in ("portable", "reference"):
                leaves = [guidance.clone().requires_grad_(), coarse.clone().requires_grad_()]
                refined = propagate(
                    *leaves, sparse, steps=3, norm_type=norm_type, anchor=anchor, impl=impl
                )
                refined.square().sum().backward()
                results.append((refined, *(leaf.grad for leaf in leaves)))
            torch.testing.assert_close(*results)


def test_a_network_that_reads_filled_depth_exports_with_its_error(tmp_path):
    model = network(depth_input="filled", confidence=True, cspn_steps=1)
    torch.nn.init.normal_(model.decoder.heads.weight.data[:, 0], std=0.01)
    program = export_program(model, with_error=True)
    runs = [program.module()]
    if HAS_ONNX:
        save_onnx(program, tmp_path / "model.onnx", {})
        session = onnx_session(tmp_path / "model.onnx")
        runs.append(lambda rgbd: session.run(["depth", "error"], {"rgbd": rgbd.numpy()}))
    for shape in (SHAPES[1], SHAPES[3]):
        rgbd = inputs(*shape)
        # Nothing measured, and one pixel: constants far below a measurement's weight count there.
        bare = rgbd * torch.tensor([1, 1, 1, 0]).view(1, 4, 1, 1)
        single = bare.clone()
        single[:, 3, 0, 0] = 2
        batch = torch.cat([rgbd, bare, single])
        with torch.no_grad():
            expected = model(batch, with_error=True)
        for run in runs:
            for got, wanted in zip(run(batch), expected, strict=True):
                torch.testing.assert_close(torch.as_tensor(got), wanted, rtol=1e-4, atol=1e-4)


def cpp_root(folder: Path) -> Path:
    """Return a folder of ONNX Runtime's headers and library: ONNXRUNTIME_ROOT, or Debian's headers
    beside the library of pip's onnxruntime. Skip where something to build with is missing."""
    places = {
        "cmake": [shutil.which("cmake")],
        "a C++ compiler": [shutil.which("c++")],
        "libopencv-imgcodecs-dev": ["/usr/include/opencv4/opencv2/imgcodecs.hpp"],
        "libonnxruntime-dev": [
            f"{prefix}/include/onnxruntime/onnxruntime_cxx_api.h"
            for prefix in (sys.prefix, "/usr", "/usr/local")
        ],
    }
    if given := os.environ.get("ONNXRUNTIME_ROOT"):
        del places["libonnxruntime-dev"]
    found = {
        name: next((path for path in paths if path and Path(path).exists()), None)
        for name, paths in places.items()
    }
    if missing := [name for name, path in found.items() if path is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if given:
        return Path(given)
    import onnxruntime

    library = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))
    (folder / "lib").mkdir(parents=True)
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / "lib" / name).symlink_to(library)
    (folder / "include").symlink_to(Path(found["libonnxruntime-dev"]).parent)
    return folder


@pytest.fixture(scope="module")
def cpp_example(tmp_path_factory):
    """The program of examples/cpp."""
    folder = tmp_path_factory.mktemp("cpp")
    root = cpp_root(folder / "onnxruntime")
    source = Path(__file__).resolve().parent.parent / "examples" / "cpp"
    for command in (
        ["cmake", "-S", source, "-B", folder, f"-DONNXRUNTIME_ROOT={root}"],
        ["cmake", "--build", folder],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stdout + done.stderr
    return folder / "depth_completion"


@needs_onnx
@pytest.mark.parametrize("encoding", ["normalized", "released"])
@pytest.mark.parametrize("size", [(61, 95), (120, 160)])
def test_the_cpp_example_gives_pytorchs_depth(cpp_example, exported, tmp_path, encoding, size):
    import onnx

    folder, _, model = exported
    network_file = folder / "new" / "model.onnx"
    if encoding == "released":  # the same weights, read with the other encoding
        changed = onnx.load(network_file)
        entry = next(e for e in changed.metadata_props if e.key == "rgb_encoding")
        entry.value = "released: as the loader's"
        network_file = tmp_path / "released.onnx"
        onnx.save(changed, network_file)
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    stored = np.where(rng.random(size) < 0.05, rng.integers(1000, 5000, size), 0)
    iio.imwrite(tmp_path / "rgb.png", rgb)
    iio.imwrite(tmp_path / "sparse.png", stored.astype(np.uint16))
    names = [tmp_path / f"{name}.png" for name in ("rgb", "sparse", "depth", "error")]
    command = [cpp_example, network_file, *names[:3], "1000", names[3]]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{size[1]}x{size[0]} pixels in" in done.stdout

    rgbd = torch.empty(1, 4, *size)
    rgbd[0, :3] = torch.from_numpy(encode_rgb(rgb.transpose(2, 0, 1), encoding))
    rgbd[0, 3] = torch.from_numpy(stored.astype(np.float32) / 1000)
    with torch.no_grad():
        expected = model(rgbd, with_error=True)
    for name, metres in zip(names[2:], expected, strict=True):
        written = iio.imread(name)
        assert written.dtype == np.uint16 and written.any()
        wanted = np.clip(1000 * metres[0, 0].numpy(), 0, 65535)
        np.testing.assert_allclose(written, wanted, rtol=1e-4, atol=0.6)


@needs_onnx
def test_the_cpp_example_says_in_a_sentence_what_does_not_fit(cpp_example, exported, tmp_path):
    model = exported[0] / "new" / "model.onnx"
    images = {
        "rgb.png": np.zeros((40, 50, 3), np.uint8),
        "sparse.png": np.zeros((40, 50), np.uint16),
        "bytes.png": np.zeros((40, 50), np.uint8),
        "turned.png": np.zeros((50, 40), np.uint16),
    }
    for name, pixels in images.items():
        iio.imwrite(tmp_path / name, pixels)
    cases = {
        (model, "rgb.png", "sparse.png"): "usage: depth_completion MODEL RGB SPARSE DEPTH",
        (model, "none.png", "sparse.png", "a.png"): "none.png is not an image that can be read",
        (model, "rgb.png", "bytes.png", "a.png"): "bytes.png must be 16 bits, one channel",
        (model, "rgb.png", "turned.png", "a.png"): "must be of one size from 32x32 up",
        (model, "rgb.png", "sparse.png", "a.png", "mm"): "SCALE must be above 0, got mm",
        (model, "rgb.png", "sparse.png", "no/a.png"): "no/a.png cannot be written",
        ("no.onnx", "rgb.png", "sparse.png", "a.png"): "no.onnx",
    }
    for arguments, sentence in cases.items():
        command = [cpp_example, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2 and sentence in done.stderr, done.stderr
