"""Points in mid-air: how many a network's clouds have, before and after they are treated.

    python -m benchmarks.point_cloud --set rooms
    python -m benchmarks.point_cloud --set nyu --data_root data/nyudepth_hdf5
    python -m benchmarks.point_cloud --set streets
    python -m benchmarks.point_cloud --picture docs/cloud.png

Sample rooms have exact geometry: their true surfaces are those that the camera sees and those that
four cameras 25 cm beside it see. Of NYU's test images they are the points of the labelled depth,
holes filled in. A point farther than 5 cm from all of them is in mid-air. A depth edge is where
two neighbouring pixels differ by more than 5 % of the nearer one; it is found where the other map
has an edge at most one pixel away; what was dropped takes the nearest pixel's depth for that.
Normals are compared where both have one and the true surface has no edge near.

"streets" counts what `projection.hidden` removes from LiDAR scans of sample streets: a measurement
is hidden where all that the camera sees in the 3x3 pixels around it is nearer by 20 % of its depth.
The picture shows a room's cloud from the side, with and without its points in mid-air.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import h5py
import numpy as np
import pandas as pd
import torch
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from benchmarks.timing import write_results
from dataloaders import NYUDepthDataset
from engine.checkpoint import shipped_network
from engine.cli import run_script
from inference.point_cloud import (
    FLYING,
    Intrinsics,
    back_project,
    flying_pixels,
    normals_of,
    without_flying_pixels,
)
from inference.predictor import Predictor
from inference.sources.projection import HIDDEN_RATIO, hidden
from sample_data.camera import pinhole
from sample_data.render import cast
from sample_data.rooms.generation import ROOMS, render_frame
from sample_data.rooms.scene import sample_scene
from sample_data.rooms.sensor import CX, CY, FOCAL, HEIGHT, WIDTH
from sample_data.rooms.view import find_view
from sample_data.streets.generation import STREETS, _moment
from sample_data.streets.lidar import project
from visualize.pictures import save_picture

CAMERA = Intrinsics(FOCAL, FOCAL, CX, CY)
NYU_CAMERA = Intrinsics(518.857901, 519.469611, 325.582449, 253.736166)  # of the labelled set
IN_AIR = 0.05  # metres from the nearest surface
EDGE = 0.05  # of the nearer depth
BEHIND = 1 / (1 - HIDDEN_RATIO)  # times the depth that the camera sees
BESIDE = 0.25  # metres from the camera to those that see its hidden surfaces


class Case(NamedTuple):
    """rgb: (H, W, 3) uint8. depth: (H, W) true metres. points: (N, 3) on true surfaces in the
    camera's frame [m]. camera: of the pixels."""

    rgb: np.ndarray
    depth: np.ndarray
    points: np.ndarray
    camera: Intrinsics


def room_case(index: int) -> Case:
    """Return a room of the val split, with exact geometry."""
    rgb, depth = render_frame(0, "val", index)
    number, frame = divmod(index, ROOMS.val_frames_per_scene)
    room = sample_scene(0, "val", number)
    camera, _ = find_view(room, np.random.default_rng([0, 1, number, 2, frame]))
    clouds = [back_project(depth, CAMERA)[0]]
    for offset in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)):
        position = camera.position + camera.axes @ (BESIDE * np.array(offset))
        beside = pinhole(position, camera.axes, (WIDTH, HEIGHT), FOCAL, (CX, CY), step=2)
        half = Intrinsics(FOCAL / 2, FOCAL / 2, CX / 2, CY / 2)
        clouds.append(back_project(cast(room, beside).depth, half)[0] + BESIDE * np.array(offset))
    return Case(np.ascontiguousarray(rgb.transpose(1, 2, 0)), depth, np.concatenate(clouds), CAMERA)


def cases(which: str, root: str | None, count: int) -> Iterator[Case]:
    """Yield `count` rooms of their own, or images of NYU's test set, evenly spread."""
    if which == "rooms":
        yield from (room_case(2 * i) for i in range(count))
        return
    files = NYUDepthDataset(root, "val").frames
    for i in range(count):
        with h5py.File(files[i * len(files) // count]) as file:
            rgb, depth = file["rgb"][:].transpose(1, 2, 0), file["depth"][:].astype(np.float32)
        yield Case(np.ascontiguousarray(rgb), depth, back_project(depth, NYU_CAMERA)[0], NYU_CAMERA)


def edges(depth: np.ndarray) -> np.ndarray:
    """Return where depth (H, W), 0 = none, steps from a pixel to one of its neighbours, (H, W)."""
    found = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        near, far = (np.take(depth, range(*s), axis) for s in ((0, depth.shape[axis] - 1),
                                                               (1, depth.shape[axis])))  # fmt: skip
        low = np.minimum(near, far)
        step = (low > 0) & (np.abs(near - far) > EDGE * low)
        pad = [(0, 0), (0, 0)]
        pad[axis] = (0, 1)
        found |= np.pad(step, pad)
        pad[axis] = (1, 0)
        found |= np.pad(step, pad)
    return found


def scores(depth: np.ndarray, case: Case, tree: cKDTree, normals: np.ndarray) -> dict:
    """Return the measures of one depth map (H, W), 0 = dropped, by name."""
    points, _ = back_project(depth, case.camera)
    distance, _ = tree.query(points, distance_upper_bound=IN_AIR, workers=1)
    nearest = distance_transform_edt(depth <= 0, return_distances=False, return_indices=True)
    own, ideal = edges(depth[tuple(nearest)]), edges(case.depth)
    near = [cv2.dilate(e.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for e in (own, ideal)]
    mine = normals_of(depth, case.camera)
    flat = (mine != 0).any(axis=-1) & (normals != 0).any(axis=-1) & ~near[1]
    cosine = np.clip((mine * normals).sum(axis=-1)[flat], -1, 1)
    return {
        "in mid-air": float(np.isinf(distance).mean()),
        "edge precision": float((own & near[1]).sum() / max(own.sum(), 1)),
        "edge recall": float((ideal & near[0]).sum() / max(ideal.sum(), 1)),
        "normals": float(np.degrees(np.arccos(cosine)).mean()),
        "points left": float((depth > 0).sum() / depth.size),
    }


def predict(predictor: Predictor, case: Case, samples: int):
    """Return the network's prediction for that many measurements of a case, drawn at random."""
    chosen = np.random.default_rng(0).random(case.depth.shape) < samples / case.depth.size
    return predictor(case.rgb, np.where(chosen, case.depth, np.float32(0)))


def treatments(predictor: Predictor, case: Case, samples: int) -> pd.DataFrame:
    """Return a row of `scores` for each way to treat flying pixels, and for "drop" which fraction
    of the points that it drops were in mid-air."""
    found = predict(predictor, case, samples)
    tree, normals = cKDTree(case.points), normals_of(case.depth, case.camera)
    rows = {}
    for how in sorted(FLYING, key=("keep", "drop", "snap").index):
        treated = without_flying_pixels(found.depth, case.camera, found.error, how)
        rows[how] = scores(treated, case, tree, normals)
    flying = flying_pixels(found.depth, case.camera, found.error)
    dropped, _ = back_project(np.where(flying, found.depth, 0), case.camera)
    distance, _ = tree.query(dropped, distance_upper_bound=IN_AIR)
    rows["drop"]["of the dropped in mid-air"] = float(np.isinf(distance).mean())
    return pd.DataFrame(rows).T


def hidden_points(count: int, radii: tuple[int, ...] = (4, 6, 8)) -> pd.DataFrame:
    """Return, per radius, the fraction of the hidden and of the other points that are removed of
    the scans of `count` sample streets."""
    removed = []
    for number in range(count):
        moments = (STREETS.val_frames_per_scene + 1) // 2
        scene, rig, points = _moment(0, "val", number, moments, 0)
        camera = rig.camera("L")
        depth, true = project(points, camera), cast(scene, camera).depth
        behind = depth > BEHIND * cv2.dilate(true, np.ones((3, 3), np.uint8))
        for radius in radii:
            gone = hidden(depth, radius)
            kinds = {"hidden": behind, "other": (depth > 0) & ~behind}
            removed += [{"radius": radius} | {k: gone[m].mean() for k, m in kinds.items()}]
    return pd.DataFrame(removed).groupby("radius", as_index=False).mean()


def side_view(depth: np.ndarray, case: Case, turn: float = 42.0, size=(360, 480)) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 of a cloud, its camera turned by degrees around a vertical
    axis in the middle of the true one, which fills the picture; each point is a dot of 3x3 pixels,
    the nearer ones in front."""
    ideal, _ = back_project(case.depth, case.camera)
    middle, away = np.median(ideal, axis=0), 1.3 * np.percentile(ideal[:, 2], 90)
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    turned = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])

    def slopes(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        moved = (points - middle) @ turned.T + (0, 0, away)
        return moved[:, :2] / moved[:, 2:], moved[:, 2]

    low, high = np.quantile(slopes(ideal)[0], (0.002, 0.998), axis=0)
    focal = 0.94 * min(size[1] / (high[0] - low[0]), size[0] / (high[1] - low[1]))
    points, seen = back_project(depth, case.camera)
    at, z = slopes(points)
    order = np.argsort(-z)
    u, v = (
        np.rint(focal * (at - (low + high) / 2) + (size[1] / 2, size[0] / 2)).astype(int)[order].T
    )
    colors = case.rgb[seen][order]
    picture = np.full((*size, 3), 255, np.uint8)
    for down, right in np.ndindex(3, 3):
        rows, columns = v + down, u + right
        inside = (rows >= 0) & (rows < size[0]) & (columns >= 0) & (columns < size[1])
        picture[rows[inside], columns[inside]] = colors[inside]
    return picture


def draw(path: Path, predictor: Predictor, case: Case, samples: int) -> None:
    """Write the picture of a cloud as the network gives it beside that without flying pixels."""
    found = predict(predictor, case, samples)
    views = [
        side_view(without_flying_pixels(found.depth, case.camera, found.error, how), case)
        for how in ("keep", "drop")
    ]
    save_picture(
        path, np.hstack([views[0], np.full((len(views[0]), 8, 3), 255, np.uint8), views[1]])
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.point_cloud", allow_abbrev=False)
    parser.add_argument("--set", default="rooms", choices=("rooms", "nyu", "streets"))
    parser.add_argument("--data_root", default="data/nyudepth_hdf5", help="of NYU")
    parser.add_argument("--resume", help="checkpoint (default pretrained/)")
    parser.add_argument("--count", type=int, default=6, help="rooms, images or streets (default 6)")
    parser.add_argument("-n", "--n_sample", type=int, default=500)
    parser.add_argument("--picture", type=Path, help="draw a room's cloud instead")
    parser.add_argument("--room", type=int, default=6, help="which one (default 6)")
    args = parser.parse_args(argv)
    device = torch.device("cpu")
    if args.set == "streets":
        write_results("hidden_points", device, hidden_points(args.count).to_dict("records"))
        return
    predictor = Predictor.from_checkpoint(args.resume or shipped_network(), device="cpu")
    if args.picture:
        draw(args.picture, predictor, room_case(args.room), args.n_sample)
        return
    found = cases(args.set, args.data_root, args.count)
    tables = pd.concat([treatments(predictor, case, args.n_sample) for case in found])
    mean = tables.groupby(level=0, sort=False).mean().reset_index(names="flying pixels")
    mean["count"] = args.count
    write_results(f"point_cloud_{args.set}", device, mean.to_dict("records"))


if __name__ == "__main__":
    run_script(main)
