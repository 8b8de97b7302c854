"""The predictor and predict.py on people's own files."""

import json
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_weights import golden_state_dict
from PIL import Image
from test_image_files import write
from test_point_cloud import read_ply

import predict as predict_script
from dataloaders import DataError, NYUDepthDataset
from dataloaders.sampling import resize_points, thin_points
from engine.checkpoint import CheckpointError, save_checkpoint
from engine.errors import OptionError, RunError
from inference.point_cloud import Intrinsics, without_flying_pixels
from inference.predictor import Prediction, Predictor
from inference.sources.projection import Camera
from models import build_model, convert_released_state_dict
from visualize.pictures import FOOT_HEIGHT, GAP, LABEL_HEIGHT

SIZE = (120, 160)


def checkpoint_file(path: Path, **args) -> Path:
    """A checkpoint of this project with the golden weights."""
    model = build_model("resnet18")
    model.load_state_dict(convert_released_state_dict(golden_state_dict("resnet18")))
    settings = {"arch": "resnet18", "cspn_step": 4} | args
    state = {"args": settings, "epoch": 1, "scores": {}, "model": model.state_dict()}
    save_checkpoint(path, state)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return checkpoint_file(tmp_path_factory.mktemp("weights") / "best_model.pth")


@pytest.fixture(scope="module")
def predictor(checkpoint):
    return Predictor.from_checkpoint(checkpoint, device="cpu")


@pytest.fixture(scope="module")
def pair():
    """(H, W, 3) uint8, and sparse depth in whole millimetres."""
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    rgb = np.stack([rows, columns, rows + columns], axis=-1).astype(np.uint8)
    depth = np.rint((1 + columns / 100) * 1000).astype(np.float32) / np.float32(1000)
    return rgb, np.where(rng.random(SIZE) < 0.007, depth, 0).astype(np.float32)


def test_a_frame_at_training_size_gets_the_evaluations_depth(checkpoint, tiny_root):
    predictor = Predictor.from_checkpoint(checkpoint, device="cpu", resize="none")
    item = NYUDepthDataset(tiny_root, "val")[1]
    rgb = np.rint(item["rgb"].numpy() * 255).astype(np.uint8).transpose(1, 2, 0)
    prediction = predictor(rgb, item["rgbd"][3].numpy())
    with torch.inference_mode():
        expected = predictor.model(item["rgbd"][None])[0, 0].numpy()
        coarse, _ = predictor.model.coarse_depth_and_guidance(item["rgbd"][None])
    np.testing.assert_array_equal(prediction.depth, expected)
    np.testing.assert_array_equal(prediction.coarse_depth, coarse[0, 0].numpy())
    assert prediction.depth.dtype == np.float32
    assert prediction.used == prediction.measurements > 400


def test_a_whole_frame_is_seen_as_the_evaluation_sees_it(predictor, pair):
    rgb, sparse_depth = pair
    prediction = predictor(rgb, sparse_depth)
    assert prediction.depth.shape == prediction.coarse_depth.shape == SIZE
    assert (prediction.resize, prediction.network_size) == ("training", (240, 320))
    # Enlarged to the short side of 240 and brought back: the same numbers by hand.
    own = Predictor(predictor.model, resize="none")
    larger = np.asarray(Image.fromarray(rgb).resize((320, 240), Image.Resampling.BILINEAR))
    by_hand = own(larger, resize_points(sparse_depth, (240, 320))).depth
    back = Image.fromarray(by_hand).resize((160, 120), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(prediction.depth, np.asarray(back))


def test_kitti_networks_see_images_at_their_own_size(tmp_path, pair):
    path = checkpoint_file(tmp_path / "kitti.pth", data_set="kitti")
    prediction = Predictor.from_checkpoint(path, device="cpu")(*pair)
    assert (prediction.resize, prediction.network_size) == ("training", SIZE)


def test_the_checkpoints_settings_are_followed_and_can_be_overridden(tmp_path, pair):
    path = checkpoint_file(tmp_path / "a.pth", rgb_encoding="normalized", cspn_norm_type="8sum_abs")
    own = Predictor.from_checkpoint(path, device="cpu")
    assert (own.model.refinement.steps, own.model.refinement.norm_type) == (4, "8sum_abs")
    assert own.rgb_encoding == "normalized"
    other = Predictor.from_checkpoint(path, device="cpu", steps=0, norm_type="8sum")
    assert (other.model.refinement.steps, other.model.refinement.norm_type) == (0, "8sum")
    unrefined = other(*pair)
    np.testing.assert_array_equal(unrefined.depth, unrefined.coarse_depth)
    np.testing.assert_array_equal(unrefined.coarse_depth, own(*pair).coarse_depth)
    assert not np.array_equal(own(*pair).depth, unrefined.depth)


def test_published_weights_and_ours_predict_the_same(tmp_path, pair):
    state = golden_state_dict("resnet18", dead=True)
    checkpoint = checkpoint_file(tmp_path / "ours" / "best_model.pth", data_set="kitti")
    torch.save({f"module.{k}": v for k, v in state.items()}, tmp_path / "best_model.pth")
    published = Predictor.from_checkpoint(tmp_path, device="cpu", steps=4, resize="none")
    ours = Predictor.from_checkpoint(checkpoint, device="cpu", resize="none")
    np.testing.assert_array_equal(published(*pair).depth, ours(*pair).depth)


def test_measurements_beyond_the_density_of_training_are_thinned(predictor):
    rgb = np.full((240, 320, 3), 90, np.uint8)
    dense = np.full((240, 320), 2, np.float32)
    prediction = predictor(rgb, dense)
    assert (prediction.measurements, prediction.used, prediction.expected) == (76800, 554, 554)
    thinned = thin_points(dense, 554, np.random.default_rng(0))
    np.testing.assert_array_equal(prediction.depth, predictor(rgb, thinned).depth)
    keeping = Predictor(predictor.model, density=predictor.density, thin=False)
    assert keeping(rgb, dense).used == 76800


def test_float_colours_and_bytes_give_one_result(predictor, pair):
    rgb, sparse_depth = pair
    as_floats = predictor(rgb.astype(np.float32) / 255, sparse_depth.astype(np.float64))
    np.testing.assert_array_equal(as_floats.depth, predictor(rgb, sparse_depth).depth)


def test_images_smaller_than_the_network_takes_are_padded(predictor):
    own = Predictor(predictor.model, resize="none")
    prediction = own(np.zeros((5, 40, 3), np.uint8), np.ones((5, 40), np.float32))
    assert prediction.depth.shape == (5, 40) and np.isfinite(prediction.depth).all()


@pytest.mark.parametrize(
    ("rgb", "sparse_depth", "sentence"),
    [
        (np.zeros((3, 40, 60), np.uint8), np.zeros((40, 60)), r"rgb must be \(H, W, 3\)"),
        (np.zeros((40, 60, 3), np.int32), np.zeros((40, 60)), "rgb must be .* got .* int32"),
        (np.full((40, 60, 3), 90.0), np.zeros((40, 60)), "must lie in 0..1, got 90..90"),
        (np.full((40, 60, 3), np.nan), np.zeros((40, 60)), "must lie in 0..1, got nan"),
        (np.zeros((40, 60, 3), np.uint8), np.zeros((60, 40)), r"must be \(40, 60\) metres"),
        (np.zeros((40, 60, 3), np.uint8), np.full((40, 60), np.nan), "NaN or infinite"),
        (np.zeros((40, 60, 3), np.uint8), np.full((40, 60), -1.0), "negative"),
        (
            np.zeros((40, 60, 3), np.uint8),
            np.full((40, 60), 2000, np.uint16),
            r"holds uint16, expected floats in metres; divide it .*sparse_depth / 1000",
        ),
        (np.zeros((40, 60, 3), np.uint8), np.full((40, 60), 2000.0), "divide millimetres by 1000"),
        (np.zeros((40, 60, 3), np.uint8), np.full((40, 60), 0.004), "nearer than any scene"),
        (np.zeros((40, 60, 3), np.uint8), np.full((40, 60), 1e38), "2400 1e.38 values, expected"),
        (np.zeros((0, 60, 3), np.uint8), np.zeros((0, 60)), "pixels"),
        (np.zeros((2, 9000, 3), np.uint8), np.zeros((2, 9000)), "1080000x240 at the training"),
    ],
)
def test_wrong_arrays_get_a_sentence(predictor, rgb, sparse_depth, sentence):
    with pytest.raises(DataError, match=sentence):
        predictor(rgb, sparse_depth)


def test_settings_that_describe_no_network_get_a_sentence(tmp_path, pair):
    for name, value, sentence in (
        ("arch", "resnet99", "its arch must be one of"),
        ("cspn_step", "many", "its cspn_step is 'many'"),
        ("data_set", ["nyudepth"], "its data_set must be one of"),
        ("n_sample", None, "its n_sample is None"),
    ):
        path = checkpoint_file(tmp_path / f"{name}.pth", **{name: value})
        with pytest.raises(CheckpointError, match=sentence):
            Predictor.from_checkpoint(path, device="cpu")
    with pytest.raises(OptionError, match="without CSPN"):
        Predictor.from_checkpoint(
            checkpoint_file(tmp_path / "unet.pth", model="unet"), device="cpu", steps=3
        )


def test_points_are_moved_and_never_averaged():
    sparse_depth = np.zeros((8, 8), np.float32)
    sparse_depth[0, 0], sparse_depth[5, 7], sparse_depth[6, 3] = 1, 2, 3
    halved = resize_points(sparse_depth, (4, 4))
    assert sorted(halved[halved > 0]) == [1, 2, 3]
    assert halved[0, 0] == 1 and halved[2, 3] == 2 and halved[3, 1] == 3
    doubled = resize_points(sparse_depth, (16, 16))
    assert sorted(doubled[doubled > 0]) == [1, 2, 3]
    crowded = np.zeros((9, 9), np.float32)
    crowded[:3, :3] = np.arange(1, 10).reshape(3, 3)
    third = resize_points(crowded, (3, 3))
    assert third[0, 0] == 5 and np.count_nonzero(third) == 1  # the one at the new pixel's centre


def run(*flags):
    predict_script.main([str(flag) for flag in flags])


@pytest.fixture
def photo(pair, tmp_path):
    Image.fromarray(pair[0]).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize("suffix", [".png", ".npy", ".npz", ".csv", ".exr"])
def test_every_format_ends_in_the_same_prediction(suffix, pair, photo, checkpoint, tmp_path):
    sparse = tmp_path / f"sparse{suffix}"
    scale = write(sparse, pair[1])
    flags = ["--depth-scale", scale] if scale else []
    out = tmp_path / "out"
    run("--rgb", photo, "--sparse", sparse, "--resume", checkpoint, "--out", out, *flags)
    predictor = Predictor.from_checkpoint(checkpoint)
    predictor.model.refinement.impl = "eager"  # as the command has it for one image
    np.testing.assert_array_equal(np.load(out / "photo_depth.npy"), predictor(*pair).depth)


def test_the_command_writes_what_it_promises(pair, photo, checkpoint, tmp_path, capsys):
    np.save(tmp_path / "sparse.npy", pair[1])
    out = tmp_path / "out"
    flags = ["--rgb", photo, "--sparse", tmp_path / "sparse.npy", "--resume", checkpoint]
    run(*flags, "--out", out, "--intrinsics", "150,150,80,60")
    text = capsys.readouterr().out
    assert "photo.png: 160x120" in text and f"written: {out / 'photo_depth.png'}" in text
    assert "the network saw 320x240 (the training scale)" in text
    depth = np.load(out / "photo_depth.npy")
    assert depth.dtype == np.float32
    millimetres = np.array(Image.open(out / "photo_depth.png"))
    assert millimetres.dtype == np.uint16
    np.testing.assert_array_equal(millimetres, np.rint(np.clip(depth, 0, 65.535) * 1000))
    assert Image.open(out / "photo_picture.png").size == (
        3 * (160 + GAP) + GAP,
        120 + LABEL_HEIGHT + 2 * GAP + FOOT_HEIGHT,
    )
    points, colors = read_ply(out / "photo.ply")
    kept = without_flying_pixels(depth, Intrinsics(150, 150, 80, 60))
    assert len(points) == (kept > 0).sum() < (depth > 0).sum()
    np.testing.assert_array_equal(points[:, 2], kept[kept > 0])
    np.testing.assert_array_equal(colors, pair[0][kept > 0])


def test_a_cloud_follows_the_rays_of_a_lens(photo, pair, checkpoint, tmp_path):
    lens = {"K": [150, 0, 80, 0, 150, 60, 0, 0, 1], "D": [-0.2, 0.05, 0, 0]}
    (tmp_path / "lens.json").write_text(json.dumps(lens | {"width": 160, "height": 120}))
    np.save(tmp_path / "sparse.npy", pair[1])
    flags = ["--rgb", photo, "--sparse", tmp_path / "sparse.npy", "--resume", checkpoint]
    flags += ["--flying-pixels", "keep", "--out", tmp_path]
    run(*flags, "--intrinsics", tmp_path / "lens.json")
    points, _ = read_ply(tmp_path / "photo.ply")
    at = Camera(Intrinsics(150, 150, 80, 60), distortion=(-0.2, 0.05, 0, 0)).pixels(points)
    rows, columns = np.nonzero(np.load(tmp_path / "photo_depth.npy") > 0)
    np.testing.assert_allclose(at, np.column_stack([columns, rows]), atol=0.06)
    (tmp_path / "lens.json").write_text(json.dumps(lens | {"width": 640, "height": 480}))
    with pytest.raises(DataError, match="it is 160x120 and its calibration for 640x480"):
        run(*flags, "--intrinsics", tmp_path / "lens.json")


def test_mixed_precision_changes_depth_by_little(predictor, pair):
    mixed = Predictor(predictor.model, amp="bf16")(*pair).depth
    own = Predictor(predictor.model)(*pair).depth
    assert mixed.dtype == np.float32
    assert 0 < np.abs(mixed - own).mean() < 0.02 * np.abs(own).mean()
    with pytest.raises(OptionError, match="amp must be one of off, bf16, fp16, got 'half'"):
        Predictor(predictor.model, amp="half")


def test_samples_are_drawn_from_dense_depth_by_seed_and_scored(photo, checkpoint, tmp_path, capsys):
    np.save(tmp_path / "dense.npy", np.full(SIZE, 3, np.float32))
    flags = ["--rgb", photo, "--sample-from", tmp_path / "dense.npy", "--resume", checkpoint]
    maps = []
    for seed in (0, 0, 1):
        run(*flags, "--out", tmp_path / "out", "-n", 150, "--seed", seed, "--resize", "none")
        text = capsys.readouterr().out
        assert "150 measurements of 3.00 to 3.00 m" in text
        maps.append(np.load(tmp_path / "out" / "photo_depth.npy"))
        rmse = np.sqrt(np.mean((maps[-1] - 3.0) ** 2))
        assert f"RMSE {rmse:.4f} m" in text
    assert np.array_equal(maps[0], maps[1]) and not np.array_equal(maps[0], maps[2])


def test_flags_are_spelt_with_underscores_too(photo, pair, checkpoint, tmp_path, capsys):
    write(tmp_path / "sparse.png", pair[1])
    flags = ["--rgb", photo, "--sample_from", tmp_path / "sparse.png", "--depth_scale", 1000]
    run(
        *flags,
        "--n_sample",
        20,
        "--resume",
        checkpoint,
        "--out",
        tmp_path / "out",
        "--cspn_step",
        1,
    )
    text = capsys.readouterr().out
    assert "cspn 1 steps" in text
    assert "training gave the network 554 measurements here; expect worse depth" in text


def test_folders_go_on_after_a_bad_file_and_say_so(pair, checkpoint, tmp_path, capsys):
    for name in ("rgb", "sparse"):
        (tmp_path / name).mkdir()
    for name in ("a", "b", "alone"):
        Image.fromarray(pair[0]).save(tmp_path / "rgb" / f"{name}.png")
    np.save(tmp_path / "sparse" / "a.npy", -pair[1])
    np.save(tmp_path / "sparse" / "b.npy", pair[1])
    flags = ["--rgb", tmp_path / "rgb", "--sparse", tmp_path / "sparse", "--resume", checkpoint]
    with pytest.raises(RunError, match="1 of 2 images failed"):
        run(*flags, "--out", tmp_path / "out")
    text = capsys.readouterr().out
    assert (
        "left out" in text and "alone.png" in text and "a.npy: depth holds negative values" in text
    )
    assert (tmp_path / "out" / "b_depth.npy").is_file()
    assert not (tmp_path / "out" / "a_depth.npy").exists()


def test_an_input_is_never_overwritten(pair, checkpoint, tmp_path):
    Image.fromarray(pair[0]).save(tmp_path / "a.png")
    np.save(tmp_path / "a_depth.npy", pair[1])
    flags = ["--rgb", tmp_path / "a.png", "--sparse", tmp_path / "a_depth.npy"]
    with pytest.raises(DataError, match=r"a_depth\.npy would overwrite an input"):
        run(*flags, "--resume", checkpoint, "--out", tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "a_depth.npy"), pair[1])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": -1}, "steps must be a whole number from 0 up, got -1"),
        ({"resize": "half"}, "resize must be one of training, none, got 'half'"),
        ({"max_tile_pixels": 100}, "a tile needs at least 16384 pixels, got 100"),
        ({"norm_type": "9sum"}, "norm_type must be one of 8sum, 8sum_abs, got '9sum'"),
        ({"device": "cuda:99"}, "PyTorch sees"),
    ],
)
def test_wrong_options_are_refused_with_a_sentence(checkpoint, options, sentence):
    with pytest.raises((OptionError, CheckpointError), match=sentence):
        Predictor.from_checkpoint(checkpoint, **options)


def test_wrong_flags_are_refused_before_anything_is_read(capsys):
    for flags, sentence in (
        (["--intrinsics", "1,2"], "intrinsics must be fx,fy,cx,cy"),
        (["--sample-from", "d.png"], "give either --sparse or --sample-from"),
    ):
        with pytest.raises((OptionError, DataError), match=sentence):
            run("--rgb", "a.png", "--sparse", "b.png", "--resume", "c", *flags)
    with pytest.raises(OptionError, match="give either --sparse or --sample-from"):
        run("--rgb", "a.png", "--resume", "c")
    for flags, needed in (
        (["--write", "png"], "--from"),
        (["--max-dt", 0.1], "--from"),
        (["--hidden_radius", 0], "--from"),
        (["--extrinsics", "a.txt"], "--from"),
        (["--distortion", "keep"], "--from"),
        (["--confidence", 1], "--from"),
        (["-n", 500], "--sample-from"),
        (["--seed", 0], "--sample-from"),
        (["--sampler", "exact"], "--sample-from"),
        (["--flying-pixels", "drop"], "--intrinsics, or --write ply or cloud"),
    ):
        with pytest.raises(OptionError, match=f"goes with {needed}"):
            run("--rgb", "a.png", "--sparse", "b.png", "--resume", "c", *flags)
    with pytest.raises(SystemExit):
        run("--rgb", "a.png", "--sparse", "b.png", "--resume", "c", "-n", 0)
    assert "must be a whole number from 1 up" in capsys.readouterr().err


def test_a_scale_in_metres_per_unit_is_refused(photo, pair, checkpoint, tmp_path):
    write(tmp_path / "sparse.png", pair[1])
    flags = ["--rgb", photo, "--sparse", tmp_path / "sparse.png", "--resume", checkpoint]
    with pytest.raises(DataError, match=r"units per metre, got 0\.001; .* give 1000"):
        run(*flags, "--depth-scale", 0.001, "--out", tmp_path / "out")


def test_a_scene_without_a_measurement_cannot_be_drawn_from(photo, checkpoint, tmp_path):
    np.save(tmp_path / "dense.npy", np.zeros(SIZE, np.float32))
    flags = ["--rgb", photo, "--sample-from", tmp_path / "dense.npy", "--resume", checkpoint]
    with pytest.raises(DataError, match=r"dense\.npy holds no measurement, so there is nothing"):
        run(*flags, "--out", tmp_path / "out")


def test_what_was_read_otherwise_is_said_beside_the_result(pair, checkpoint, tmp_path, capsys):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(pair[0]).convert("L").save(tmp_path / "photo.png", exif=exif)
    (tmp_path / "sparse.csv").write_text("u,v,depth\n10,20,1.5\n159.6,20,1.5\n")
    flags = ["--rgb", tmp_path / "photo.png", "--sparse", tmp_path / "sparse.csv"]
    flags += ["--resume", checkpoint, "--out", tmp_path / "out", "--resize", "none"]
    run(*flags, "--intrinsics", "150,150,20,60")
    text = capsys.readouterr().out
    assert "photo.png: 160x120, 1 measurement of 1.50 to 1.50 m" in text
    assert "(its own size), 1 measurement, " in text
    for note in (
        "the photograph is gray",
        "the photograph is turned as its EXIF orientation 3 says",
        "left out 1 point of 2 outside of the image",
        "the principal point (20, 60) is far from the middle",
    ):
        assert f"  note: {note}" in text


def test_one_folder_holds_photographs_and_depth(pair, checkpoint, tmp_path, capsys):
    for i in range(2):
        Image.fromarray(pair[0]).save(tmp_path / f"{i}_rgb.png")
        write(tmp_path / f"{i}_depth.png", pair[1])
    flags = ["--rgb", tmp_path, "--sparse", tmp_path, "--depth-scale", 1000, "--resize", "none"]
    run(*flags, "--resume", checkpoint, "--out", tmp_path / "out")
    text = capsys.readouterr().out
    assert "left out" not in text and "1_rgb.png: 160x120" in text
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    ends = ("depth.npy", "depth.png", "picture.png")
    assert names == [f"{i}_rgb_{end}" for i in range(2) for end in ends]


def test_a_photograph_of_48_megapixels_is_seen_at_the_training_scale(predictor):
    rgb = np.zeros((6048, 8064, 3), np.uint8)
    sparse_depth = np.zeros(rgb.shape[:2], np.float32)
    sparse_depth[3000, 4000] = 2
    prediction = predictor(rgb, sparse_depth)
    assert prediction.network_size == (240, 320) and prediction.used == 1
    assert prediction.depth.shape == (6048, 8064)
    own = Predictor(predictor.model, resize="none")
    with pytest.raises(DataError, match="an image of 8064x6048 is 8064x6048 at its own size, more"):
        own(rgb, sparse_depth)


@pytest.mark.parametrize("limit", [100, 30_000, 80_000])
def test_a_full_disk_leaves_no_half_result(limit, pair, tmp_path):
    """A limit on the size of files stands for the disk: writing beyond it fails in the middle."""
    rgb, sparse_depth = pair
    depth = np.random.default_rng(0).uniform(1, 9, SIZE).astype(np.float32)
    prediction = Prediction(depth, depth, "none", SIZE, 1, 5, 5, None)
    camera = Intrinsics(150, 150, 80, 60)
    (tmp_path / "photo_depth.npy").write_bytes(b"of an earlier call")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))  # SIGXFSZ is ignored by Python
    try:
        with pytest.raises(OSError, match=str(tmp_path / "photo")):
            predict_script.save_prediction(tmp_path, "photo", rgb, sparse_depth, prediction, camera)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [path.name for path in tmp_path.iterdir() if ".part" in path.name]
    assert all(path.stat().st_size <= limit for path in tmp_path.iterdir())
    if (tmp_path / "photo_depth.png").exists():
        Image.open(tmp_path / "photo_depth.png").load()
    if limit < depth.nbytes:
        assert (tmp_path / "photo_depth.npy").read_bytes() == b"of an earlier call"
    else:
        np.testing.assert_array_equal(np.load(tmp_path / "photo_depth.npy"), depth)
    save = predict_script.save_prediction
    written = save(tmp_path, "photo", rgb, sparse_depth, prediction, camera)
    assert any(path.stat().st_size > limit for path in written)
    np.testing.assert_array_equal(np.load(tmp_path / "photo_depth.npy"), depth)
