"""Frames inside tar shards are the frames of the unpacked set: names, order, items, draws."""

import io
import pickle
import tarfile

import numpy as np
import pytest
import torch

from dataloaders import DataError, NYUDepthDataset, make_loader
from dataloaders.hdf5 import read_frame, write_frame
from dataloaders.loader import EpochSampler
from dataloaders.shards import ShardMember
from dataloaders.splits import list_frames, split_roots
from engine.resume import frames_record

INDEX = "shards-train-*.npy"
FRAMES = [f"s{i % 2}/{i:05d}.h5" for i in range(5)]


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Two data roots of the same frames: files, and shards with other folders above."""
    files, shards = (tmp_path_factory.mktemp(name) for name in ("files", "shards"))
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in FRAMES:
            rgb = rng.integers(0, 255, (3, 480, 640), dtype=np.uint8)
            write_frame(files / split / name, rgb, rng.random((480, 640), dtype=np.float32) + 1)
    (shards / "data").mkdir()
    for number, top in enumerate(("train", "nyudepthv2/any/train")):
        with tarfile.open(shards / f"data/train-00000{number}.tar", "w") as archive:
            for name in FRAMES[number::2]:
                archive.add(files / "train" / name, f"{top}/{name}")
    with tarfile.open(shards / "val-000000.tar", "w") as archive:  # beside data/ as well
        archive.add(files / "val", ".")
    return files, shards


def test_names_and_order_are_those_of_the_unpacked_files(roots):
    for split in ("train", "val"):
        files, members = (
            [frame.relative_to(root).as_posix() for frame in list_frames(root, split)]
            for root in roots
        )
        assert files == members == sorted(f"{split}/{name}" for name in FRAMES)


@pytest.mark.parametrize("workers", (0, 2))
def test_batches_are_equal_bit_for_bit(roots, workers):
    loaders = [
        make_loader(NYUDepthDataset(root, "train"), 2, shuffle=True, num_workers=workers)
        for root in roots
    ]
    for loader in loaders:
        loader.sampler.epoch, loader.sampler.start = 3, 1  # a resumed epoch
    batches = list(zip(*loaders, strict=True))
    assert len(batches) == 2
    for files, members in batches:
        assert files["name"] == members["name"]
        assert torch.equal(files["rgbd"], members["rgbd"])
        assert torch.equal(files["depth"], members["depth"])


def test_a_list_names_members_as_it_names_files(roots, tmp_path):
    listed = tmp_path / "list.csv"
    listed.write_text(f"Name\n/other/people/train/{FRAMES[3]}\ntrain/{FRAMES[0]}\n")
    for root in roots:
        names = [f.relative_to(root).as_posix() for f in list_frames(root, "train", listed)]
        assert names == [f"train/{FRAMES[3]}", f"train/{FRAMES[0]}"]
    listed.write_text("Name\ntrain/s0/none.h5\n")
    with pytest.raises(DataError, match="not under"):
        list_frames(roots[1], "train", listed)


def test_a_member_can_be_handed_to_another_process(roots):
    member = list_frames(roots[1], "train")[0]
    copy = pickle.loads(pickle.dumps(member))
    for a, b in zip(read_frame(member), read_frame(copy), strict=True):
        assert np.array_equal(a, b)


def test_the_index_is_made_once_and_anew_for_a_shard_that_changed(roots, tmp_path, monkeypatch):
    shard = tmp_path / "train-000000.tar"
    shard.write_bytes((roots[1] / "data/train-000000.tar").read_bytes())
    frames = list_frames(tmp_path, "train")
    (index,) = tmp_path.glob(INDEX)
    assert len(np.load(index)) == len(frames) == 3
    with monkeypatch.context() as context:
        context.setattr(tarfile, "open", None)  # the index serves without the shard's headers
        assert list_frames(tmp_path, "train") == frames
    shard.write_bytes((roots[1] / "data/train-000001.tar").read_bytes())
    assert [frame.name for frame in list_frames(tmp_path, "train")] == ["00001.h5", "00003.h5"]
    (index,) = tmp_path.glob(INDEX)  # that of the shard as it was is gone
    whole = index.read_bytes()
    others = [np.zeros(3), np.zeros(()), np.load(index)[:0], np.load(index).reshape(1, -1)]
    others.append(np.zeros(2, [(name, "<i8") for name in np.load(index).dtype.names]))
    for damage in (b"", b"no array", whole[:-9], whole[:40], *map(saved, others)):
        index.write_bytes(damage)
        assert list_frames(tmp_path, "train").table.shape == (2,)
        assert index.read_bytes() == whole
        assert [frame.name for frame in list_frames(tmp_path, "train")] == ["00001.h5", "00003.h5"]


def saved(array):
    """The bytes of NumPy's file of an array."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def shard_of(**members):
    """The bytes of a tar file with members of the given content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    (
        (b"", "damaged, cut off or compressed"),
        (b"\x1f\x8b\x08" + bytes(600), "damaged, cut off or compressed"),
        (shard_of(**{"s/1.h5": bytes(5000)})[:3000], "damaged, cut off or compressed|is cut off"),
        (shard_of(**{"s/1.png": b"x"}), "holds no .h5 file"),
        (shard_of(**{"s/._1.h5": b"x", "s/.h5": b"x"}), "holds no .h5 file"),
        (shard_of(**{"a/s/1.h5": b"x", "b/s/1.h5": b"y"}), "hold train/s/1.h5 twice"),
    ),
)
def test_a_shard_that_cannot_be_used_is_a_sentence(tmp_path, content, sentence):
    (tmp_path / "train-000000.tar").write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        list_frames(tmp_path, "train")


def test_a_damaged_frame_in_a_shard_is_named_as_a_file_is(tmp_path):
    (tmp_path / "train-000000.tar").write_bytes(shard_of(**{"s/1.h5": b"no HDF5 at all" * 99}))
    (member,) = list_frames(tmp_path, "train")
    with pytest.raises(DataError, match=r"train/s/1\.h5 is not a readable HDF5 file"):
        read_frame(member)
    (tmp_path / "train-000000.tar").write_bytes(b"")
    with pytest.raises(DataError, match="shorter than its index"):
        read_frame(member)


def test_links_and_paths_that_lead_out_read_nothing_outside(tmp_path):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for kind, name in ((tarfile.SYMTYPE, "s/1.h5"), (tarfile.LNKTYPE, "s/2.h5")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("../../up/3.h5")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    (tmp_path / "train-000000.tar").write_bytes(stream.getvalue())
    (member,) = list_frames(tmp_path, "train")
    assert member == tmp_path / "train" / "up" / "3.h5"


def test_a_folder_goes_before_shards(roots, tmp_path):
    (tmp_path / "train-000000.tar").write_bytes((roots[1] / "data/train-000000.tar").read_bytes())
    write_frame(
        tmp_path / "train/s/1.h5", np.zeros((3, 4, 4), np.uint8), np.ones((4, 4), np.float32)
    )
    assert [frame.name for frame in list_frames(tmp_path, "train")] == ["1.h5"]


def test_scenes_are_ordered_as_folders_are(tmp_path):
    names = [f"{scene}/{i}.h5" for scene in ("a-b", "a", "a b", "a0", "ä") for i in (2, 1)]
    for name in names:
        path = tmp_path / "files/train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "shards").mkdir()
    members = shard_of(**dict.fromkeys(names, b"x"))
    (tmp_path / "shards/train-000000.tar").write_bytes(members)
    files, shards = (
        [frame.relative_to(tmp_path / kind) for frame in list_frames(tmp_path / kind, "train")]
        for kind in ("files", "shards")
    )
    assert files == shards


def many_frames(root, scenes=40, each=50):
    """A data root with frames of one byte in two shards."""
    for number in range(2):
        names = [f"s{i:03d}/{j:04d}.h5" for i in range(number, scenes, 2) for j in range(each)]
        (root / f"train-{number:06d}.tar").write_bytes(shard_of(**dict.fromkeys(names, b"x")))
    return root


@pytest.mark.parametrize(("scenes", "fraction"), ((40, 0.1), (40, 0.0), (1, 0.1)))
def test_scenes_held_out_are_those_of_a_list_of_paths(tmp_path, scenes, fraction):
    root = many_frames(tmp_path, scenes) if scenes > 1 else tmp_path
    if scenes == 1:
        names = [f"s/{j:04d}.h5" for j in range(50)]
        (root / "train-000000.tar").write_bytes(shard_of(**dict.fromkeys(names, b"x")))
    frames = list_frames(root, "train")
    parts = split_roots(frames, [root], fraction)
    assert [list(part) for part in parts] == [
        list(part) for part in split_roots(list(frames), [root], fraction)
    ]
    assert len(parts[0]) + len(parts[1]) == len(frames)


def test_no_path_is_made_before_its_frame_is_read(tmp_path, monkeypatch):
    """Millions of paths would take gigabytes in every process."""
    many_frames(tmp_path)
    frames_record(NYUDepthDataset(tmp_path, "train"))  # the index is made
    made, at = [], ShardMember.at
    monkeypatch.setattr(ShardMember, "at", lambda path, *rest: made.append(path) or at(path, *rest))
    dataset = NYUDepthDataset(tmp_path, "train")
    dataset.frames, _ = split_roots(dataset.frames, dataset.roots, 0.1)
    names = list(dataset.names())
    keys = list(EpochSampler(len(dataset), shuffle=True))
    assert not made
    assert len(names) == len(keys) == 1800
    assert isinstance(dataset.frames.table.base, np.ndarray)
    index = keys[0][0]
    assert dataset.name(dataset.frames[index]) == names[index]
    assert len(made) == 1


def test_the_index_is_mapped_from_its_file_and_a_root_that_cannot_be_written_has_none(
    roots, tmp_path, monkeypatch
):
    frames = list_frames(roots[1], "train")
    handed_over = pickle.loads(pickle.dumps(frames))
    assert isinstance(frames.table, np.memmap) and isinstance(handed_over.table, np.memmap)
    assert handed_over == frames
    shard = (roots[1] / "data/train-000000.tar").read_bytes()
    (tmp_path / "train-000000.tar").write_bytes(shard)
    monkeypatch.setattr(np, "save", raising(OSError("read-only")))
    assert len(list_frames(tmp_path, "train")) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["train-000000.tar"]


def raising(error):
    def function(*_):
        raise error

    return function


def test_an_epoch_over_shards_goes_on_where_it_stopped(roots):
    """Whatever the number of loader processes before and after."""
    dataset = NYUDepthDataset(roots[1], "train")
    loaders = [make_loader(dataset, 1, shuffle=True, num_workers=n, seed=4) for n in (0, 2)]
    for loader in loaders:
        loader.sampler.epoch = 2
    whole = [batch["rgbd"] for batch in loaders[0]]
    loaders[1].sampler.start = 2
    rest = [batch["rgbd"] for batch in loaders[1]]
    assert len(whole) == 5 and len(rest) == 3
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], rest, strict=True))
