"""Convert a tree of images and depth maps, in the usual layouts, to HDF5 frames.

An image and its depth map belong together where `{}` in their patterns stands for the same text,
in one folder or in two beside each other; in a TUM recording, where that is a time, where the two
are at most 20 ms apart. Each folder is a scene.
"""

import re
from pathlib import Path

import numpy as np
from skimage.color import rgb2gray
from skimage.filters import sobel
from tqdm import tqdm

from dataloaders.errors import DataError, counted
from dataloaders.hdf5 import is_complete, write_frame
from dataloaders.splits import split_scenes
from inference.image_files import read_depth, read_rgb
from inference.sources.frames import nearest_in_time

# Patterns of the images and of their depth maps, and the scale (values per metre; None: not fixed).
LAYOUTS = (
    ("{}_colors.png", "{}_depth.png", 1000),  # DenseDepth's nyu2_test
    ("rgb_{}.jpg", "sync_depth_{}.png", 1000),  # BTS
    ("rgb/{}.png", "depth/{}.png", 5000),  # TUM RGB-D
    ("{}_rgb.*", "{}_depth.*", None),
    ("rgb/{}.*", "depth/{}.*", None),
)
LARGEST_GAP = 0.02  # seconds between an image and its depth map, in names that are times
CHECKED_PAIRS = 12  # for which the edges of image and depth are compared


def convert_folder(
    source: Path,
    root: Path,
    *,
    rgb: str | None = None,
    depth: str | None = None,
    scale: float | None = None,
    val: float = 0.1,
) -> None:
    """Write every pair of `source` as `train/<scene>/<name>.h5` or `val/<scene>/<name>.h5`.

    Args:
        rgb, depth: patterns with one `{}` each, any number of `*`, and at most one folder before
            the file's name; None takes the first of `LAYOUTS` of which there are pairs.
        scale: metres = value / scale; None takes the layout's.
        val: fraction of the scenes for the val split, of the last frames where there is one scene.

    Raises:
        DataError: no such folder, no pair, files that cannot be read, sizes that differ, depth
            that cannot be metres, or depth maps that do not belong to their images.
    """
    if not source.is_dir():
        raise DataError(f"{source} is not a folder")
    if (rgb is None) != (depth is None):
        raise DataError("--rgb and --depth go together")
    if not 0 <= val <= 1:
        raise DataError(f"--val must lie in 0..1, got {val}")
    layouts = LAYOUTS if rgb is None else ((rgb, depth, None),)
    found = ((layout, find_pairs(source, *layout[:2])) for layout in layouts)
    layout, pairs = next(((layout, pairs) for layout, pairs in found if pairs), (None, {}))
    if layout is None:
        tried = ", ".join(f"{images} + {maps}" for images, maps, _ in layouts)
        raise DataError(f"{source} holds no pair of an image and a depth map ({tried})")
    scale = layout[2] if scale is None else scale
    frames = dict(sorted(pairs.items()))
    print(f"{source}: {counted(len(frames), 'pair')} of {layout[0]} and {layout[1]}")
    check_alignment(list(frames.values()), scale)
    if val in (0, 1):
        held_out = set(frames) if val else set()
    else:
        held_out = set(split_scenes(list(frames), val)[1])
    for name, (image_path, depth_path) in tqdm(frames.items(), unit="frame", desc="folder"):
        path = root / ("val" if name in held_out else "train") / f"{name}.h5"
        if not is_complete(path):
            image, metres = _read_pair(image_path, depth_path, scale)
            write_frame(path, image.transpose(2, 0, 1), metres)
    print(f"{root}: {len(frames) - len(held_out)} train and {len(held_out)} val frames")


def find_pairs(source: Path, rgb: str, depth: str) -> dict[Path, tuple[Path, Path]]:
    """Return `<scene>/<name>` -> image and depth map, for the patterns of `convert_folder`."""
    images, maps = _matches(source, rgb), _matches(source, depth)
    pairs = {}
    for scene, of_scene in images.items():
        depths = maps.get(scene, {})
        for key, path in of_scene.items():
            partner = depths.get(key) or _nearest_in_time(key, depths)
            if partner is not None and partner != path:
                scene_name = "_".join(scene.parts) or source.resolve().name
                pairs[Path(scene_name, key)] = (path, partner)
    return pairs


def _matches(source: Path, pattern: str) -> dict[Path, dict[str, Path]]:
    """Return scene (relative to `source`) -> what `{}` stands for -> file."""
    folder, _, name = pattern.rpartition("/")
    if name.count("{}") != 1:
        raise DataError(f"pattern {pattern} must have one {{}}, as the other has")
    parts = (re.escape(part).replace(r"\*", ".*") for part in name.split("{}"))
    expression = re.compile("(.+)".join(parts))
    found: dict[Path, dict[str, Path]] = {}
    for path in sorted(source.rglob("[!.]*")):
        match = expression.fullmatch(path.name)
        scene = path.parent.relative_to(source)
        if match and path.is_file() and (not folder or scene.name == folder):
            found.setdefault(scene.parent if folder else scene, {})[match[1]] = path
    return found


def _nearest_in_time(key: str, depths: dict[str, Path]) -> Path | None:
    """Return the depth map whose name is a time at most `LARGEST_GAP` from that of `key`."""
    if "." not in key:
        return None
    try:
        (at,), (gap,) = nearest_in_time(np.array([key], float), np.array(list(depths), float))
    except (ValueError, IndexError):  # names that are no times, or no name
        return None
    return list(depths.values())[at] if gap <= LARGEST_GAP else None


def _read_pair(
    image_path: Path, depth_path: Path, scale: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return (H, W, 3) uint8 and (H, W) float32 metres of one pair."""
    image = read_rgb(image_path)[0]
    return image, read_depth(depth_path, image.shape[:2], scale=scale)[0]


def check_alignment(pairs: list[tuple[Path, Path]], scale: float | None) -> None:
    """Refuse depth that follows another image's edges, or a mirrored image's, better than its own.

    Some `CHECKED_PAIRS` pairs are looked at. Depth edges lie on image edges, so the correlation of
    the two is highest where depth and image show the same in the same place. Raises DataError:
    another image's, or the mirrored image's edges fit clearly better.
    """
    count = len(pairs)
    chosen = range(0, count, max(1, count // CHECKED_PAIRS))
    edges: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for index in {(k + offset) % count for k in chosen for offset in (-1, 0, 1)}:
        image, metres = _read_pair(*pairs[index], scale)
        known = metres > 0
        log_depth = np.log(np.where(known, metres, 1))
        edges[index] = sobel(rgb2gray(image)), sobel(log_depth, mask=known)

    def fit(offset: int = 0, mirror: int = 1) -> list[float]:
        pairs = ((edges[k][0][:, ::mirror], edges[(k + offset) % count][1]) for k in chosen)
        return [_correlation(image, depth) for image, depth in pairs if image.shape == depth.shape]

    own = fit()
    candidates = {"mirrored": fit(mirror=-1), "previous": fit(1), "following": fit(-1)}
    for name, scores in candidates.items():
        if len(edges) > 3 and scores and np.median(scores) > 1.5 * max(np.median(own), 0.02):
            raise DataError(
                f"the depth maps do not fit their images: the edges of the {name} image fit "
                f"{np.median(scores):.2f}, those of their own {np.median(own):.2f} (correlation); "
                "check --rgb and --depth"
            )


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / max(np.sqrt((a * a).sum() * (b * b).sum()), 1e-12))
