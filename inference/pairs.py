"""Which photograph and which depth file belong together, by their names.

Files of two folders are matched by their stems. What is left then, and everything where one
folder holds both, is matched by the stem without the words that tell the kinds apart:
`0001_rgb.jpg` with `0001_depth.png`, `rgb_00045.jpg` with `sync_depth_00045.png`.
"""

import re
from collections.abc import Callable, Hashable
from operator import attrgetter
from pathlib import Path

from dataloaders.errors import DataError
from inference.image_files import DEPTH_SUFFIXES, RGB_SUFFIXES

RGB_WORDS = {"rgb", "color", "colors", "colour", "colours", "image", "images", "img", "photo"}
DEPTH_WORDS = {"depth", "depths", "sparse", "dense", "sync", "gt", "groundtruth", "lidar"}
DEPTH_WORDS |= {"velodyne", "measured", "measurements", "samples"}

Pair = tuple[Path, Path]


def match_pairs(rgb: Path, depth: Path) -> tuple[list[Pair], list[str]]:
    """Match two files, or the files of two folders (which may be one) by their names.

    Returns:
        Pairs of an RGB and a depth file sorted by name, no file in two of them, and the names of
        what is in neither.

    Raises:
        DataError: a file and a folder, files that are the same, two files that may be meant, or
            no pair at all.
    """
    if rgb.is_dir() != depth.is_dir():
        kinds = {True: "a folder", False: "not one"}
        raise DataError(
            f"give two files or two folders: {rgb} is {kinds[rgb.is_dir()]}, "
            f"{depth} is {kinds[depth.is_dir()]}"
        )
    if not rgb.is_dir():
        if rgb.exists() and depth.exists() and rgb.samefile(depth):
            raise DataError(f"{rgb} is given as the photograph and as its depth; give two files")
        return [(rgb, depth)], []
    files = {path for folder in (rgb, depth) for path in _files(folder)}
    images = {path for path in _files(rgb) if path.suffix.lower() in RGB_SUFFIXES}
    maps = {path for path in _files(depth) if path.suffix.lower() in DEPTH_SUFFIXES}
    if rgb.samefile(depth):
        images, maps = _tell_apart(images, maps)
    plain_images = {path for path in images if not _words(path) & DEPTH_WORDS}
    plain_maps = {path for path in maps if not _is_rgb(path)}
    pairs, used = [], set()
    for some_images, some_maps, key in (
        (plain_images, plain_maps, attrgetter("stem")),
        (plain_images, plain_maps, _key),
        (
            images,
            maps,
            attrgetter("stem"),
        ),  # names that mislead, such as depth_of_field, in both folders
    ):
        pairs += _matched(some_images - used, some_maps - used, key)
        used = {path for pair in pairs for path in pair}
    if not pairs:
        raise DataError(
            f"no file of {rgb} has the stem of one in {depth}, or one that differs in words like "
            "rgb and depth, so there are no pairs"
        )
    return sorted(pairs), sorted(str(path) for path in files - used)


def protect_inputs(pairs: list[Pair], outputs: Callable[[str], list[Path]]) -> None:
    """Raise where a result, which may replace an earlier one, would replace a file that is read;
    `outputs` gives the results for an image's stem."""
    inputs = {path.resolve() for pair in pairs for path in pair}
    for rgb_path, _ in pairs:
        for path in outputs(rgb_path.stem):
            if path.resolve() in inputs:
                raise DataError(f"the result {path} would overwrite an input; choose another --out")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name[0] != "." and not path.is_dir()]


def _tell_apart(images: set[Path], maps: set[Path]) -> tuple[set[Path], set[Path]]:
    """Return the photographs and the depth files of one folder; what may be both is a photograph
    where a depth file has its key, and depth where a photograph has."""
    named_maps = {path for path in maps if _words(path) & DEPTH_WORDS}
    named_images = {path for path in images - named_maps if _is_rgb(path)}
    sure_maps = named_maps | (maps - images - named_images)
    sure_images = named_images | (images - maps - named_maps)
    either = (images & maps) - named_maps - named_images
    mapped, pictured = ({_key(path) for path in sure} for sure in (sure_maps, sure_images))
    return (
        sure_images | {path for path in either if _key(path) in mapped - pictured},
        sure_maps | {path for path in either if _key(path) in pictured - mapped},
    )


def _matched(images: set[Path], maps: set[Path], key: Callable[[Path], Hashable]) -> list[Pair]:
    """Return the pairs of equal keys; raise where more than one file of a kind has one."""
    found = []
    for files in (images, maps):
        found.append({})
        for path in sorted(files):
            other = found[-1].setdefault(key(path), path)
            if other != path:
                raise DataError(
                    f"{other} and {path.name} would have the same partner; which is meant? Move "
                    "the other out of the folder"
                )
    return [(found[0][name], found[1][name]) for name in found[0].keys() & found[1].keys()]


def _tokens(path: Path) -> list[str]:
    """Return the words and numbers of a file's stem, such as sync, depth, 00045."""
    return re.findall(r"[^\W\d_]+|\d+", path.stem.lower())


def _words(path: Path) -> set[str]:
    return set(_tokens(path))


def _is_rgb(path: Path) -> bool:
    return bool(_words(path) & RGB_WORDS) and not _words(path) & DEPTH_WORDS


def _key(path: Path) -> tuple[str, ...]:
    return tuple(token for token in _tokens(path) if token not in RGB_WORDS | DEPTH_WORDS)
