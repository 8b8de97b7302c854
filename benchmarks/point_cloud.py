"""Points in mid-air: how many a network's clouds have, before and after they are treated.

    python -m benchmarks.point_cloud --resume CHECKPOINT --rooms 6

Sample rooms have exact geometry. Their true surfaces are those that the camera sees and those that
four cameras 25 cm beside it see. A point farther than 5 cm from all of them is in mid-air. A depth
edge is where two neighbouring pixels differ by more than 5 % of the nearer one; it is found where
the other map has an edge at most one pixel away; what was dropped takes the nearest pixel's depth
for that. Normals are compared where both have one and the true surface has no edge near.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

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
from sample_data.camera import pinhole
from sample_data.render import cast
from sample_data.rooms.generation import ROOMS, _scene, render_frame
from sample_data.rooms.sensor import CX, CY, FOCAL, HEIGHT, WIDTH
from sample_data.rooms.view import find_view

CAMERA = Intrinsics(FOCAL, FOCAL, CX, CY)
IN_AIR = 0.05  # metres from the nearest surface
EDGE = 0.05  # of the nearer depth
BESIDE = 0.25  # metres from the camera to those that see its hidden surfaces


def surfaces(index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rgb (H, W, 3) uint8, exact depth (H, W) and points (N, 3) on true surfaces [m], in the
    camera's frame, of a room of the val split."""
    rgb, depth = render_frame(0, "val", index)
    number, frame = divmod(index, ROOMS.val_frames_per_scene)
    room = _scene(0, "val", number)
    camera, _ = find_view(room, np.random.default_rng([0, 1, number, 2, frame]))
    clouds = [back_project(depth, CAMERA)[0]]
    for offset in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)):
        position = camera.position + camera.axes @ (BESIDE * np.array(offset))
        beside = pinhole(position, camera.axes, (WIDTH, HEIGHT), FOCAL, (CX, CY), step=2)
        half = Intrinsics(FOCAL / 2, FOCAL / 2, CX / 2, CY / 2)
        clouds.append(back_project(cast(room, beside).depth, half)[0] + BESIDE * np.array(offset))
    return np.ascontiguousarray(rgb.transpose(1, 2, 0)), depth, np.concatenate(clouds)


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


def scores(depth: np.ndarray, true: np.ndarray, tree: cKDTree, normals: np.ndarray) -> dict:
    """Return the measures of one depth map (H, W), 0 = dropped, by name."""
    points, _ = back_project(depth, CAMERA)
    distance, _ = tree.query(points, distance_upper_bound=IN_AIR, workers=1)
    nearest = distance_transform_edt(depth <= 0, return_distances=False, return_indices=True)
    own, ideal = edges(depth[tuple(nearest)]), edges(true)
    near = [cv2.dilate(e.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for e in (own, ideal)]
    mine = normals_of(depth, CAMERA)
    flat = (mine != 0).any(axis=-1) & (normals != 0).any(axis=-1) & ~near[1]
    cosine = np.clip((mine * normals).sum(axis=-1)[flat], -1, 1)
    return {
        "in mid-air": float(np.isinf(distance).mean()),
        "edge precision": float((own & near[1]).sum() / max(own.sum(), 1)),
        "edge recall": float((ideal & near[0]).sum() / max(ideal.sum(), 1)),
        "normals": float(np.degrees(np.arccos(cosine)).mean()),
        "points left": float((depth > 0).sum() / depth.size),
    }


def room_scores(predictor: Predictor, index: int, samples: int) -> pd.DataFrame:
    """Return the measures of a room's cloud for each treatment, and how many of the points that it
    drops were in mid-air."""
    rgb, true, points = surfaces(index)
    rng = np.random.default_rng(index)
    sparse_depth = np.where(rng.random(true.shape) < samples / true.size, true, 0)
    prediction = predictor(rgb, sparse_depth.astype(np.float32))
    tree, normals = cKDTree(points), normals_of(true, CAMERA)
    return treatments(prediction.depth, prediction.error, true, tree, normals)


def treatments(
    depth: np.ndarray,
    error: np.ndarray | None,
    true: np.ndarray,
    tree: cKDTree,
    normals: np.ndarray,
) -> pd.DataFrame:
    """Return a row of `scores` for each way to treat flying pixels."""
    rows = {}
    for how in ("keep", "drop", "snap"):
        treated = without_flying_pixels(depth, CAMERA, error, how)
        rows[how] = scores(treated, true, tree, normals)
    flying = flying_pixels(depth, CAMERA, error)
    dropped, _ = back_project(np.where(flying, depth, 0), CAMERA)
    distance, _ = tree.query(dropped, distance_upper_bound=IN_AIR)
    rows["drop"]["of the dropped in mid-air"] = float(np.isinf(distance).mean())
    assert tuple(sorted(rows)) == tuple(sorted(FLYING))
    return pd.DataFrame(rows).T


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.point_cloud", allow_abbrev=False)
    parser.add_argument("--resume", required=True, metavar="CHECKPOINT")
    parser.add_argument("--rooms", type=int, default=6)
    parser.add_argument("-n", "--n_sample", type=int, default=500)
    parser.add_argument("--out", type=Path, help="CSV")
    args = parser.parse_args(argv)
    predictor = Predictor.from_checkpoint(args.resume)
    tables = [room_scores(predictor, 2 * i, args.n_sample) for i in range(args.rooms)]
    mean = pd.concat(tables).groupby(level=0, sort=False).mean()
    print(mean.round(4).to_string())
    if args.out:
        mean.to_csv(args.out, float_format="%.4f", index_label="flying pixels")


if __name__ == "__main__":
    run_script(main)
