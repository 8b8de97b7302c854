"""Data sets: items, sampling, reproducibility, and what bad files get told."""

import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import write_frame

from dataloaders import DataError, KITTIDepthDataset, NYUDepthDataset, hdf5, make_loader
from dataloaders.hdf5 import read_frame
from dataloaders.sampling import sample_sparse_depth
from dataloaders.splits import list_frames, split_roots, split_scenes


def test_an_item_holds_what_the_network_and_the_pictures_need(tiny_root):
    item = NYUDepthDataset(tiny_root, "val")[1]
    assert item["rgbd"].shape == (4, 228, 304)
    assert item["depth"].shape == (1, 228, 304)
    assert item["rgb"].shape == (3, 228, 304)
    assert all(item[key].dtype == torch.float32 for key in ("rgbd", "depth", "rgb"))
    assert item["rgb"].min() >= 0 and item["rgb"].max() <= 1
    assert item["name"] == "val/official/00002.h5"
    sparse, depth = item["rgbd"][3], item["depth"][0]
    assert torch.equal(sparse[sparse > 0], depth[sparse > 0])
    assert 400 < (sparse > 0).sum() < 600


def test_the_draw_depends_on_seed_and_index_alone(tiny_root):
    first = NYUDepthDataset(tiny_root, "val", seed=3)
    again = NYUDepthDataset(tiny_root, "val", seed=3)
    again[0]
    assert torch.equal(first[1]["rgbd"], again[1]["rgbd"])
    assert not torch.equal(first[1]["rgbd"], NYUDepthDataset(tiny_root, "val", seed=4)[1]["rgbd"])
    training = NYUDepthDataset(tiny_root, "train", seed=3)
    assert torch.equal(training[2, 5]["rgbd"], training[2, 5]["rgbd"])
    assert not torch.equal(training[2, 5]["rgbd"], training[2, 6]["rgbd"])


@pytest.mark.parametrize("split", ["train", "val"])
def test_workers_and_batch_size_do_not_change_what_is_drawn(tiny_root, split):
    dataset = NYUDepthDataset(tiny_root, split, seed=1)
    singles = [dataset[i, 0]["rgbd"] for i in range(2)]
    for batch_size, workers in ((1, 0), (2, 2)):
        loader = make_loader(dataset, batch_size, num_workers=workers)
        batches = torch.cat([batch["rgbd"] for batch in loader])
        assert torch.equal(batches[:2], torch.stack(singles))


def test_training_batches_leave_out_the_picture_and_incomplete_batches(tiny_root):
    dataset = NYUDepthDataset(tiny_root, "train")
    batches = list(make_loader(dataset, 3, shuffle=True, num_workers=0))
    assert [batch["rgbd"].shape[0] for batch in batches] == [3]
    assert "rgb" not in batches[0]
    batches = list(make_loader(dataset, 3, num_workers=0))
    assert [batch["rgb"].shape[0] for batch in batches] == [3, 1]


@pytest.mark.parametrize("encoding", ["released", "normalized"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_of_a_worker_are_those_of_this_process_to_the_last_bit(
    tiny_root, shuffle, encoding
):
    dataset = NYUDepthDataset(tiny_root, "train", rgb_encoding=encoding)
    here, there = (
        list(make_loader(dataset, 2, shuffle=shuffle, num_workers=workers)) for workers in (0, 1)
    )
    assert len(here) == len(there) == 2
    for expected, batch in zip(here, there, strict=True):
        assert batch.keys() == expected.keys()
        for key, value in expected.items():
            equal = torch.equal if isinstance(value, torch.Tensor) else list.__eq__
            assert equal(batch[key], value), key


def test_shuffling_depends_on_seed_and_epoch_alone(tiny_root):
    dataset = NYUDepthDataset(tiny_root, "train")
    loader = make_loader(dataset, 2, shuffle=True, num_workers=0, seed=1)
    orders = {}
    for epoch in (0, 1, 2, 0):
        loader.sampler.epoch = epoch
        order = list(loader.sampler)
        assert sorted(i for i, _ in order) == list(range(len(dataset)))
        assert all(e == epoch for _, e in order)
        assert orders.setdefault(epoch, order) == order
    assert len({tuple(i for i, _ in order) for order in orders.values()}) > 1


def test_kitti_crops_and_samples_from_valid_pixels(tmp_path):
    rng = np.random.default_rng(0)
    depth = np.where(rng.random((375, 1242)) < 0.04, rng.uniform(5, 80, (375, 1242)), 0)
    for split in ("train", "val"):
        write_frame(
            tmp_path / split / "00" / "00000-L.h5",
            rng.integers(0, 256, (3, 375, 1242)).astype(np.uint8),
            depth.astype(np.float32),
        )
    item = KITTIDepthDataset(tmp_path, "val")[0]
    assert item["rgbd"].shape == (4, 228, 912)
    # Over all pixels 500 samples would leave about 20.
    assert 400 < (item["rgbd"][3] > 0).sum() < 600
    training = KITTIDepthDataset(tmp_path, "train")[0]
    known = training["depth"][training["depth"] > 0]
    assert training["rgbd"].shape == (4, 228, 912)
    assert known.min() > 5 / 1.5 - 1e-3  # no point was mixed with the zeros around it


def test_bernoulli_samples_any_pixel_and_exact_draws_valid_ones():
    rng = np.random.default_rng(0)
    depth = np.full((228, 304), 2, np.float32)
    depth[:114] = 0
    counts = [
        np.count_nonzero(sample_sparse_depth(depth, 500, "bernoulli", rng)) for _ in range(200)
    ]
    assert abs(np.mean(counts) - 250) < 6  # half the pixels are missing
    assert abs(np.std(counts) - 15.8) < 4  # sqrt(n p (1 - p))
    over_valid = [
        np.count_nonzero(sample_sparse_depth(depth, 500, "bernoulli", rng, over_valid=True))
        for _ in range(50)
    ]
    assert abs(np.mean(over_valid) - 500) < 15
    exact = sample_sparse_depth(depth, 500, "exact", rng)
    assert np.count_nonzero(exact) == 500
    assert not exact[:114].any()
    few = np.zeros((10, 10), np.float32)
    few[0, :3] = 1
    assert np.count_nonzero(sample_sparse_depth(few, 500, "exact", rng)) == 3
    assert not sample_sparse_depth(np.zeros((5, 5), np.float32), 9, "exact", rng).any()
    assert not sample_sparse_depth(depth, 0, "bernoulli", rng).any()


def test_bernoulli_counts_are_binomial_and_every_pixel_is_as_likely():
    rng = np.random.default_rng(1)
    depth = np.ones((20, 30), np.float32)
    kept = np.stack([sample_sparse_depth(depth, 60, "bernoulli", rng) for _ in range(4000)])
    counts = kept.sum(axis=(1, 2))
    assert abs(counts.mean() - 60) < 0.6  # 5 deviations of the mean
    assert abs(counts.var() - 54) < 6  # n p (1 - p)
    # Each pixel is kept in 400 of 4000 draws, give or take 19.
    often = kept.sum(axis=0)
    assert abs(often - 400).max() < 100
    chi_square = ((often - 400) ** 2 / 360).sum()
    assert abs(chi_square - 600) < 5 * np.sqrt(2 * 600)
    # Neighbours are kept independently of each other.
    both = (kept[:, :, 1:] * kept[:, :, :-1]).mean()
    assert abs(both - 0.01) < 0.001
    assert (sample_sparse_depth(depth, 10_000, "bernoulli", rng) == 1).all()


def test_samples_depend_on_the_given_generator_alone():
    depth = np.random.default_rng(0).uniform(1, 5, (40, 50)).astype(np.float32)
    for sampler in ("bernoulli", "exact"):
        draws = []
        for seed in (3, 3, 4):
            np.random.seed(len(draws))  # noqa: NPY002
            draws.append(sample_sparse_depth(depth, 50, sampler, np.random.default_rng(seed)))
        assert np.array_equal(draws[0], draws[1]) and not np.array_equal(draws[0], draws[2])


def test_a_list_file_selects_frames_and_forgives_leading_folders(tiny_root, tmp_path):
    listing = tmp_path / "list.csv"
    listing.write_text(
        "Name\ntrain/room_0001/00003.h5\n/home/somebody/data/frames/train/room_0001/00001.h5\n"
    )
    frames = NYUDepthDataset(tiny_root, "train", file_list=listing).frames
    assert [f.name for f in frames] == ["00003.h5", "00001.h5"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Name\n", "is empty"),
        ("", "no column Name"),
        ("Path\nx.h5\n", "no column Name"),
        ("Name\ntrain/nowhere.h5\n", "names train/nowhere.h5, which is not under"),
        ("Name\n../../etc/passwd\n", "is not under"),
        ("Name\n/etc/passwd\n", "is not under"),
    ],
)
def test_bad_lists_get_a_sentence(tiny_root, tmp_path, text, sentence):
    listing = tmp_path / "list.csv"
    listing.write_text(text)
    with pytest.raises(DataError, match=sentence):
        NYUDepthDataset(tiny_root, "train", file_list=listing)


def test_whole_scenes_are_held_out():
    frames = [Path(f"train/scene_{s:02d}/{i}.h5") for s in range(40) for i in range(3)]
    stay, held_out = split_scenes(frames, 0.05)
    assert len(held_out) == 6 and len(stay) == 114
    assert not {f.parent for f in stay} & {f.parent for f in held_out}
    assert split_scenes(frames, 0.05) == (stay, held_out)
    assert len({f.parent for f in split_scenes(frames, 0.001)[1]}) == 1
    assert split_scenes(frames, 0.0) == (frames, [])
    with pytest.raises(DataError, match="cannot hold out 40 of 40 scenes"):
        split_scenes(frames, 1.0)


def test_of_a_single_scene_the_last_frames_are_held_out():
    frames = [Path(f"root/train/labeled/{i:05d}.h5") for i in (5, 1, 4, 2, 3)]
    stay, held_out = split_scenes(frames, 0.4)
    assert [f.stem for f in stay] == ["00001", "00002", "00003"]
    assert [f.stem for f in held_out] == ["00005", "00004"]
    with pytest.raises(DataError, match="cannot hold out 1 of 1 scenes"):
        split_scenes(frames[:1], 0.5)


def test_of_several_roots_each_holds_out_its_own_part():
    nyu = [Path(f"a/nyu/train/labeled/{i:05d}.h5") for i in range(20)]
    rooms = [Path(f"b/rooms/train/room_{s}/{i}.h5") for s in range(20) for i in range(4)]
    roots = [Path("a/nyu"), Path("b/rooms")]
    stay, held_out = split_roots(nyu + rooms, roots, 0.1)
    assert held_out == nyu[-2:] + split_scenes(rooms, 0.1)[1]
    assert sorted(stay + held_out) == sorted(nyu + rooms)
    # A root that is read twice weighs twice, and holds out the same frames.
    stay, held_out = split_roots(nyu + nyu + rooms, [roots[0], *roots], 0.1)
    assert len(stay) == 18 * 2 + 72 and held_out == nyu[-2:] + split_scenes(rooms, 0.1)[1]


def test_missing_folders_get_a_sentence(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        NYUDepthDataset(tmp_path / "nowhere", "train")
    with pytest.raises(DataError, match="has no folder train/"):
        NYUDepthDataset(tmp_path, "train")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / ".00001.h5").write_bytes(b"half written")
    with pytest.raises(DataError, match=r"holds no \.h5 file"):
        list_frames(tmp_path, "train")


RGB = np.zeros((3, 480, 640), np.uint8)
DEPTH = np.ones((480, 640), np.float32)


@pytest.mark.parametrize(
    ("rgb", "depth", "sentence"),
    [
        (RGB[0], DEPTH, r"rgb must be \(3, H, W\) uint8, got \(480, 640\) uint8"),
        (RGB.astype(np.float32), DEPTH, "rgb must be .* got .* float32"),
        (RGB, DEPTH[:400], r"depth must be \(480, 640\) float like rgb, got \(400, 640\)"),
        (RGB, DEPTH.astype(np.uint16), "depth must be .* got .* uint16"),
        (RGB, np.where(DEPTH > 0, np.nan, 0).astype(np.float32), "NaN or infinite"),
        (RGB, DEPTH - 2, "negative values"),
    ],
)
def test_frames_out_of_contract_are_named(tmp_path, rgb, depth, sentence):
    path = write_frame(tmp_path / "frame.h5", rgb, depth)
    with pytest.raises(DataError, match=sentence) as error:
        read_frame(path)
    assert str(path) in str(error.value)


def test_unreadable_files_are_named(tmp_path):
    path = write_frame(tmp_path / "frame.h5", RGB, DEPTH)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3])
    with pytest.raises(DataError, match=r"frame\.h5 is not a readable HDF5 file"):
        read_frame(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"frame\.h5 is not a readable HDF5 file"):
        read_frame(path)
    with pytest.raises(DataError, match="does not exist"):
        read_frame(tmp_path / "nowhere.h5")
    with h5py.File(path, "w") as file:
        file["rgb"] = RGB
    with pytest.raises(DataError, match="no dataset depth, only: rgb"):
        read_frame(path)


def test_links_out_of_a_file_are_refused(tmp_path):
    other = write_frame(tmp_path / "other.h5", RGB, DEPTH)
    with h5py.File(tmp_path / "frame.h5", "w") as file:
        file["rgb"] = RGB
        file["depth"] = h5py.ExternalLink(str(other), "depth")
    with pytest.raises(DataError, match="link to another place"):
        read_frame(tmp_path / "frame.h5")


def test_data_of_other_files_and_groups_are_refused(tmp_path):
    path = tmp_path / "frame.h5"
    other = write_frame(tmp_path / "other.h5", RGB, DEPTH)
    layout = h5py.VirtualLayout(DEPTH.shape, DEPTH.dtype)
    layout[:] = h5py.VirtualSource(str(other), "depth", DEPTH.shape, DEPTH.dtype)
    (tmp_path / "depth.bin").write_bytes(DEPTH.tobytes())
    external = [(str(tmp_path / "depth.bin"), 0, DEPTH.nbytes)]
    for make in (
        lambda file: file.create_virtual_dataset("depth", layout),
        lambda file: file.create_dataset("depth", DEPTH.shape, DEPTH.dtype, external=external),
        lambda file: file.create_group("depth"),
    ):
        with h5py.File(path, "w") as file:
            file["rgb"] = RGB
            make(file)
        with pytest.raises(DataError, match="depth is not a plain dataset"):
            read_frame(path)


def test_frames_are_read_from_every_kind_of_storage(tmp_path):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (3, 30, 40)).astype(np.uint8)
    depth = rng.uniform(0, 9, (30, 40))
    for kind in ("<f4", ">f4", "<f8", "<f2"):
        for options in ({}, {"chunks": (10, 10), "compression": "gzip", "shuffle": True}):
            with h5py.File(tmp_path / "frame.h5", "w") as file:
                file["rgb"] = rgb
                file.create_dataset("depth", data=depth.astype(kind), **options)
            read = read_frame(tmp_path / "frame.h5")
            assert np.array_equal(read[0], rgb)
            assert read[1].dtype == np.float32 and read[1].dtype.isnative
            assert np.array_equal(read[1], depth.astype(kind).astype(np.float32))


def test_an_image_without_pixels_gets_a_sentence(tmp_path):
    path = write_frame(tmp_path / "frame.h5", RGB[:, :0], DEPTH[:0])
    with pytest.raises(DataError, match=r"\(0, 640\) has no pixels"):
        read_frame(path)


def test_a_frame_that_claims_to_be_huge_is_refused_unread(tmp_path):
    with h5py.File(tmp_path / "frame.h5", "w") as file:
        file.create_dataset("rgb", (3, 400_000, 400_000), np.uint8, chunks=(1, 512, 512))
        file["depth"] = DEPTH
    with pytest.raises(DataError, match="values, more than"):
        read_frame(tmp_path / "frame.h5")


def test_unknown_options_get_a_sentence(tiny_root):
    with pytest.raises(DataError, match="sampler must be one of bernoulli, exact"):
        NYUDepthDataset(tiny_root, "val", sampler="spiral")
    with pytest.raises(DataError, match="split must be one of train, val"):
        NYUDepthDataset(tiny_root, "test")
    with pytest.raises(DataError, match="must not be negative"):
        NYUDepthDataset(tiny_root, "val", n_sample=-1)


def test_real_frames_load_as_they_lie(real_frames):
    nyu = NYUDepthDataset(real_frames / "nyudepth_hdf5", "train")
    assert len(nyu) == 5
    item = nyu[0]
    assert 0.3 < item["depth"][item["depth"] > 0].median() < 10
    kitti = KITTIDepthDataset(real_frames / "kitti_hdf5", "val")
    item = kitti[0]
    assert 350 < (item["rgbd"][3] > 0).sum() < 650
    assert 2 < item["depth"][item["depth"] > 0].median() < 80


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files by /proc")
def test_files_are_closed_after_reading_and_after_failing(tiny_root, tmp_path):
    good = list_frames(tiny_root, "train")[0]
    frame = np.zeros((3, 20, 30), np.uint8), np.ones((20, 30), np.float32)
    bad = [
        write_frame(tmp_path / "shape.h5", frame[0][0], frame[1]),
        write_frame(tmp_path / "value.h5", frame[0], -frame[1]),
        tmp_path / "missing.h5",
        tmp_path / "torn.h5",
    ]
    bad[-1].write_bytes(good.read_bytes()[:-100])
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["rgb"] = frame[0]
        file["depth"] = h5py.SoftLink("/rgb")
    before = open_files()
    kept = []  # an error that is kept keeps what it was raised in
    for _ in range(5):
        read_frame(good)
        for path in (*bad, tmp_path / "linked.h5"):
            with pytest.raises(DataError) as error:
                read_frame(path)
            kept.append(error)
        assert open_files() == before


def test_a_frame_is_readable_while_it_is_open_elsewhere(tiny_root):
    path = list_frames(tiny_root, "train")[0]
    with h5py.File(path) as file:
        assert np.array_equal(read_frame(path)[1], file["depth"][()])


def test_roots_and_splits_may_be_links_and_nothing_below_them(tiny_root, tmp_path):
    (tmp_path / "root").symlink_to(tiny_root)
    assert len(list_frames(tmp_path / "root", "train")) == 4
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "train").symlink_to(tiny_root / "train")
    listing = tmp_path / "list.csv"
    listing.write_text("Name\ntrain/room_0001/00001.h5\n")
    for root in (tmp_path / "root", tmp_path / "mixed"):
        assert len(list_frames(root, "train", listing)) == 1
    scenes = tmp_path / "scenes" / "train"
    scenes.mkdir(parents=True)
    (scenes / "room_0001").symlink_to(tiny_root / "train" / "room_0001")
    with pytest.raises(DataError, match="room_0001 is a link to a folder"):
        list_frames(tmp_path / "scenes", "train")
    with pytest.raises(DataError, match="a link that leads out of"):
        list_frames(tmp_path / "scenes", "train", listing)


def test_a_list_may_begin_with_a_spreadsheets_mark(tiny_root, tmp_path):
    listing = tmp_path / "list.csv"
    listing.write_text("Name\ntrain/room_0001/00001.h5\n", encoding="utf-8-sig")
    assert len(list_frames(tiny_root, "train", listing)) == 1


def test_frames_that_lack_part_of_kittis_crop_are_refused(tiny_root):
    with pytest.raises(DataError, match=r"00001\.h5: a frame of 120x160 .* 370x1210"):
        KITTIDepthDataset(tiny_root, "val")[0]


WRITER = """
import sys, h5py
file = h5py.File(sys.argv[1], "a", libver=sys.argv[2])
file.create_dataset("log", (1,), maxshape=(None,), chunks=(8,))
file.flush()
if sys.argv[3] == "swmr":
    file.swmr_mode = True
print(flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("version, mode", [("earliest", "plain"), ("latest", "swmr")])
def test_a_frame_that_is_being_written_to_is_read_without_a_lock(tmp_path, version, mode):
    path = tmp_path / "frame.h5"
    with h5py.File(path, "w", libver=version) as file:
        file["rgb"], file["depth"] = RGB, DEPTH
    command = [sys.executable, "-c", WRITER, str(path), version, mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        assert np.array_equal(read_frame(path)[1], DEPTH)
        writer.kill()  # what it leaves is as readable
    assert np.array_equal(read_frame(path)[1], DEPTH)


def test_a_file_whose_writer_was_killed_gets_the_way_to_mend_it(tmp_path):
    path = tmp_path / "frame.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["rgb"], file["depth"] = RGB, DEPTH
    command = [sys.executable, "-c", WRITER, str(path), "latest", "plain"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        writer.kill()
    with pytest.raises(DataError, match=r"its writer was killed.*h5clear"):
        read_frame(path)


@pytest.mark.parametrize("mode", ["r", "a"])
def test_a_frame_that_this_process_has_open_is_read(tmp_path, mode):
    path = write_frame(tmp_path / "frame.h5", RGB, DEPTH)
    with h5py.File(path, mode):
        assert np.array_equal(read_frame(path)[1], DEPTH)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (32001, r"Blosc \(HDF5 filter 32001\)"),
        (32015, "Zstandard"),
        (307, "bzip2"),
        (4242, "an unknown filter .HDF5 filter 4242"),
    ],
)
def test_a_compressor_that_is_not_here_is_named_with_the_way_out(
    tmp_path, monkeypatch, code, words
):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)  # not installed
    with h5py.File(tmp_path / "frame.h5", "w") as file:
        file["rgb"] = RGB
        options = {"compression": code, "allow_unknown_filter": True, "chunks": DEPTH.shape}
        data = file.create_dataset("depth", DEPTH.shape, "f4", **options)
        data.id.write_direct_chunk((0, 0), zlib.compress(DEPTH.tobytes()))
    with pytest.raises(
        DataError, match=f"depth is compressed with {words}.*pip install hdf5plugin"
    ):
        read_frame(tmp_path / "frame.h5")


def test_frames_of_every_usual_suffix_are_found(tmp_path):
    names = ("a.h5", "b.hdf5", "c.hdf", "d.he5", "e.H5", "f.HDF5")
    for name in (*names, "g.txt", "h.h5.part"):
        write_frame(tmp_path / "train" / "room" / name, RGB, DEPTH)
    assert [path.name for path in list_frames(tmp_path, "train")] == list(names)


@pytest.mark.parametrize(
    "kind, size", [(NYUDepthDataset, (640, 480)), (KITTIDepthDataset, (1242, 375))]
)
def test_an_upright_frame_is_told_so(tmp_path, kind, size):
    write_frame(
        tmp_path / "val" / "a" / "0.h5", np.zeros((3, *size), np.uint8), np.ones(size, "f4")
    )
    sentence = f"0.h5: a frame of {size[0]}x{size[1]} pixels, height x width, .*upright, rotate"
    with pytest.raises(DataError, match=sentence):
        kind(tmp_path, "val")[0]
    small = (size[0] // 3, size[1] // 3)  # of no use either way
    write_frame(
        tmp_path / "val" / "a" / "1.h5", np.zeros((3, *small), np.uint8), np.ones(small, "f4")
    )
    if kind is KITTIDepthDataset:
        with pytest.raises(DataError, match=r"pixels, height x width, is smaller than .* needs$"):
            kind(tmp_path, "val")[1]


@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_the_largest_value_of_a_type_is_no_measurement_and_said(tmp_path, kind):
    depth = DEPTH.astype(kind)
    depth[:5] = np.finfo(kind).max
    path = write_frame(tmp_path / "frame.h5", RGB, depth)
    with pytest.raises(DataError, match="in 3200 pixels; write 0 where nothing was measured"):
        read_frame(path)


def test_float_millimetres_are_refused_with_the_way_out(tmp_path):
    path = write_frame(tmp_path / "frame.h5", RGB, DEPTH * 2500)
    with pytest.raises(DataError, match="divide millimetres by 1000"):
        read_frame(path)


def test_a_training_set_without_a_measurement_is_refused_before_the_first_step(tmp_path):
    for i in range(3):
        write_frame(tmp_path / "train" / "a" / f"{i}.h5", RGB, 0 * DEPTH)
    dataset = NYUDepthDataset(tmp_path, "train")
    with pytest.raises(DataError, match="no depth to train on: 3 of 3 frames"):
        make_loader(dataset, 2, shuffle=True)
    write_frame(tmp_path / "train" / "a" / "1.h5", RGB, DEPTH)
    make_loader(dataset, 2, shuffle=True)
    (tmp_path / "train" / "a" / "1.h5").write_bytes(b"torn")  # the loader names it
    for i in (0, 2):
        (tmp_path / "train" / "a" / f"{i}.h5").write_bytes(b"torn")
    make_loader(dataset, 2, shuffle=True)


def test_a_written_frame_is_whole_or_not_there(tmp_path, monkeypatch):
    hdf5.write_frame(tmp_path / "new" / "1.h5", RGB, DEPTH)
    assert hdf5.is_complete(tmp_path / "new" / "1.h5")
    assert all(map(np.array_equal, read_frame(tmp_path / "new" / "1.h5"), (RGB, DEPTH)))

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(h5py.Group, "create_dataset", full)
    with pytest.raises(OSError, match="No space"):
        hdf5.write_frame(tmp_path / "new" / "2.h5", RGB, DEPTH)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["1.h5"]
