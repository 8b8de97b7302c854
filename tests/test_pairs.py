"""Photographs and depth files find each other by their names."""

import pytest

from dataloaders import DataError
from inference.pairs import match_pairs


def touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def names_of(pairs):
    return [(image.name, depth.name) for image, depth in pairs]


def test_folders_are_paired_by_stem_and_the_rest_is_named(tmp_path):
    rgb = touch(tmp_path / "rgb", "b.jpg", "a.png", "alone.png", "note.txt", ".hidden.png")
    depth = touch(tmp_path / "depth", "a.npy", "b.csv", "other.png")
    pairs, left_out = match_pairs(rgb, depth)
    assert pairs == [(rgb / "a.png", depth / "a.npy"), (rgb / "b.jpg", depth / "b.csv")]
    assert left_out == sorted(map(str, (rgb / "alone.png", rgb / "note.txt", depth / "other.png")))


NAMES = [
    ("0000_rgb.jpg", "0000_depth.png"),
    ("0000_rgb.png", "0000_depth.png"),
    ("0000.jpg", "0000.npy"),
    ("0000.jpg", "0000.png"),
    ("0000.png", "0000.npy"),
    ("0000.png", "0000_depth.png"),
    ("0000_rgb.png", "0000.png"),
    ("rgb_00045.jpg", "sync_depth_00045.png"),
    ("00000_colors.png", "00000_depth.png"),
    ("color0001.png", "depth0001.png"),
    ("Image-1.PNG", "Sparse-1.png"),
    ("img_7.png", "img_7_sparse.png"),
    ("frame-000000.color.png", "frame-000000.depth.png"),
    ("scene_rgb_3.jpeg", "scene_lidar_3.csv"),
    ("photo.jpg", "sparse.png"),
    ("rgb.png", "depth.png"),
]


@pytest.mark.parametrize(("image", "depth"), NAMES)
def test_names_that_differ_in_the_words_for_their_kind_are_pairs(image, depth, tmp_path):
    one = touch(tmp_path / "one", image, depth, "0000_mask.png", "notes.txt")
    pairs, left_out = match_pairs(one, one)
    assert names_of(pairs) == [(image, depth)]
    assert left_out == [str(one / "0000_mask.png"), str(one / "notes.txt")]
    rgb, maps = touch(tmp_path / "rgb", image), touch(tmp_path / "maps", depth)
    assert match_pairs(rgb, maps) == ([(rgb / image, maps / depth)], [])


def test_words_of_both_folders_names_do_not_hide_a_pair(tmp_path):
    rgb = touch(tmp_path / "rgb", "depth_of_field.jpg", "image_2.png")
    maps = touch(tmp_path / "maps", "depth_of_field.npy", "image_2.png")
    pairs, left_out = match_pairs(rgb, maps)
    assert names_of(pairs) == [("depth_of_field.jpg", "depth_of_field.npy"), ("image_2.png",) * 2]
    assert left_out == []


def test_depth_beside_the_photographs_is_not_taken_for_one(tmp_path):
    rgb = touch(tmp_path / "rgb", "0_rgb.png", "0_depth.png")
    maps = touch(tmp_path / "maps", "0_depth.npy")
    pairs, left_out = match_pairs(rgb, maps)
    assert pairs == [(rgb / "0_rgb.png", maps / "0_depth.npy")]
    assert left_out == [str(rgb / "0_depth.png")]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["0_rgb.jpg", "0_depth.png", "0_sparse.npy"], "0_depth.png and 0_sparse.npy would have"),
        (["0_rgb.jpg", "0_color.jpg", "0_depth.png"], "0_color.jpg and 0_rgb.jpg would have"),
        (["0.jpg", "0.jpeg", "0.npy"], "0.jpeg and 0.jpg would have"),
        (["0.png", "1.png"], "no pairs"),
        (["0_depth.png", "1_depth.png"], "no pairs"),
        ([], "no pairs"),
    ],
)
def test_a_folder_in_which_pairs_cannot_be_told_is_refused(names, sentence, tmp_path):
    folder = touch(tmp_path / "one", *names)
    with pytest.raises(DataError, match=sentence):
        match_pairs(folder, folder)


def test_what_cannot_be_paired_is_refused(tmp_path):
    rgb = touch(tmp_path / "rgb", "a.png", "a.jpg")
    depth = touch(tmp_path / "depth", "b.png")
    with pytest.raises(DataError, match="would have the same partner"):
        match_pairs(rgb, depth)
    (rgb / "a.jpg").unlink()
    with pytest.raises(DataError, match="no pairs"):
        match_pairs(rgb, depth)
    with pytest.raises(DataError, match="two files or two folders"):
        match_pairs(rgb, depth / "b.png")
    with pytest.raises(DataError, match="given as the photograph and as its depth"):
        match_pairs(rgb / "a.png", rgb / "a.png")


def test_two_images_of_one_name_never_share_their_results(tmp_path):
    rgb = touch(tmp_path / "rgb", "a.png", "a.jpg")
    maps = touch(tmp_path / "maps", "a.npy", "a_depth.npy")
    with pytest.raises(DataError, match=r"a\.jpg and a\.png would have the same partner"):
        match_pairs(rgb, maps)
