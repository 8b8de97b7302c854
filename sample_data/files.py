"""Files of a sample set: frames, the manifest that marks the folder, and a contact sheet."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import h5py
import numpy as np

from sample_data.kinds import SampleSet


class SampleSetError(Exception):
    """A request that cannot be carried out; its message is one sentence for the user."""


def write_frame(path: Path, rgb: np.ndarray, depth: np.ndarray, *, compressed: bool = True) -> None:
    """Writes rgb (3, H, W) uint8 and depth (H, W) float32 [m] (0: not measured) as one file.

    The file appears under its name only when it is complete. Uncompressed, each array is stored
    in one piece, which reads fastest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    # Sensor noise hardly compresses: the lowest level loses nothing against the others.
    gzip = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    try:
        with h5py.File(part, "w") as file:
            for name, data in (("rgb", rgb), ("depth", depth)):
                chunks = (1, *data.shape[1:]) if data.ndim == 3 else data.shape
                options = {"chunks": chunks, **gzip} if compressed else {}
                file.create_dataset(name, data=data, **options)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def is_complete(path: Path) -> bool:
    """Whether the frame exists as an HDF5 file."""
    return path.is_file() and h5py.is_hdf5(path)


def read_manifest(kind: SampleSet, root: Path, settings: dict[str, int]) -> dict[str, int]:
    """Refuses a folder that is not this sample set; returns its manifest, {} for a new one."""
    if not root.exists():
        return {}
    if not root.is_dir():
        raise SampleSetError(f"{root} is a file; --root must name a folder")
    manifest = root / kind.manifest
    if not manifest.is_file():
        if any(not entry.name.startswith(".") for entry in root.iterdir()):
            raise SampleSetError(
                f"{root} holds something else than {kind.name} (no {kind.manifest}); "
                "choose an empty or new folder"
            )
        return {}
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
        differing = [key for key, value in settings.items() if found[key] != value]
        found = {**found, "n_train": int(found["n_train"]), "n_val": int(found["n_val"])}
    except (ValueError, KeyError, TypeError) as error:
        raise SampleSetError(f"{manifest} is damaged; choose another folder") from error
    if differing:
        details = ", ".join(f"{key} {found[key]}, not {settings[key]}" for key in differing)
        raise SampleSetError(f"{root} was made with {details}; choose another folder")
    return found


def write_manifest(kind: SampleSet, root: Path, contents: dict[str, int]) -> None:
    """Marks `root` as a sample set of this kind."""
    part = root / f".{kind.manifest}.{os.getpid()}.part"
    text = json.dumps({"generator": kind.package, **contents}, indent=2)
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(root / kind.manifest)


def contact_sheet(kind: SampleSet, root: str | Path, path: str | Path, most: int = 24) -> None:
    """Writes a PNG with rgb and coloured depth (black: 0, not measured) of frames of a set.

    Args:
        kind: the kind of sample set.
        root: folder of the set.
        path: picture to write.
        most: frames shown, spread evenly over the set.
    """
    files = sorted(Path(root).glob("train/*/*.h5")) + sorted(Path(root).glob("val/*/*.h5"))
    if not files:
        raise SampleSetError(f"{root} holds no frames to show")
    picked = [files[k] for k in np.unique(np.linspace(0, len(files) - 1, most).astype(int))]
    panels = []
    for name in picked:
        with h5py.File(name) as file:
            rgb, depth = file["rgb"][:], file["depth"][:]
        pair = np.hstack([rgb.transpose(1, 2, 0)[..., ::-1], _coloured(kind, depth)])
        panels.append(cv2.resize(pair, kind.panel, interpolation=cv2.INTER_AREA))
    panels += [np.zeros_like(panels[0])] * (-len(panels) % kind.columns)
    starts = range(0, len(panels), kind.columns)
    rows = [np.hstack(panels[k : k + kind.columns]) for k in starts]
    encoded, data = cv2.imencode(".png", np.vstack(rows))
    if not encoded:
        raise SampleSetError(f"{path} could not be encoded")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(data.tobytes())


def _coloured(kind: SampleSet, depth: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 depth in false colours; a scan's points are widened to stay visible."""
    if kind.dots:
        # The depth range of a street is wide: equal ratios get equal steps of colour.
        near = 0.04 * kind.farthest
        share = np.log(np.maximum(depth, near) / near) / np.log(kind.farthest / near)
    else:
        share = depth / kind.farthest
    scaled = np.clip(share * 255, 0, 255).astype(np.uint8)
    coloured = cv2.applyColorMap(scaled, cv2.COLORMAP_TURBO)
    coloured[depth == 0] = 0
    return cv2.dilate(coloured, np.ones((3, 3), np.uint8)) if kind.dots else coloured
