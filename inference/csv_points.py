"""Measurements as points in a CSV file: lines of u,v,depth.

u is the column and v the row, (0, 0) the centre of the top left pixel, so that an image of W x H
pixels reaches from -0.5 to W - 0.5 and H - 0.5. A header may name the columns in another order,
and others beside them.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from dataloaders.errors import DataError, counted

MAX_CSV_BYTES = 64 * 1024**2


def read_points(path: Path, size: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    """Read points into the pixels of an image of `size` (H, W).

    Returns:
        (H, W) float64 depth as it stands in the file, 0 = no measurement; and notes on points that
        were left out, or of which a nearer one in the same pixel was kept.

    Raises:
        DataError: other columns, text that is no number, negative or infinite depth, or most
            points outside of the image.
        OSError, ValueError: a file that cannot be read as text or as a table.
    """
    if path.stat().st_size > MAX_CSV_BYTES:
        raise DataError(f"{path} has {path.stat().st_size} bytes, more than {MAX_CSV_BYTES}")
    points, notes = _csv_points(path)
    wrong = points[~(np.isfinite(points["depth"]) & (points["depth"] >= 0))]
    if len(wrong):
        line, value = wrong.index[0], wrong["depth"].iloc[0]
        raise DataError(f"{path} line {line}: depth {value:g} is not a distance in metres")
    points[["row", "column"]] = cells = np.floor(points[["v", "u"]].to_numpy() + 0.5)
    inside = ((cells >= 0) & (cells < size)).all(axis=1)
    if not inside.all():
        outside = points[~inside]
        where = (
            f"{counted(len(outside), 'point')} of {len(points)} outside of the image of "
            f"{size[1]}x{size[0]} (width x height; (0, 0) is the first pixel's centre)"
        )
        first = next(outside.itertuples())
        example = f"line {first.Index}: u={first.u:g}, v={first.v:g}"
        if 2 * len(outside) > len(points):
            raise DataError(f"{path} has {where}, such as {example}")
        notes.append(f"left out {where}, such as {example}")
    measured = points[inside & (points["depth"] > 0)].astype({"row": int, "column": int})
    nearest = measured.sort_values("depth").drop_duplicates(["row", "column"])
    depth = np.zeros(size)
    depth[nearest["row"], nearest["column"]] = nearest["depth"]
    if hidden := len(measured) - len(nearest):
        notes.append(f"{counted(hidden, 'point')} dropped for a nearer one in the same pixel")
    return depth, notes


def _csv_points(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the columns u, v, depth (floats, not NaN) by the number of their line, and notes."""
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    skipped = next((number for number, line in enumerate(lines) if line.strip()), 0)
    names = [cell.strip(' "').lower() for cell in lines[skipped].split(",")]
    has_header = {"u", "v", "depth"} <= set(names)
    if not has_header and len(names) > 3:
        raise DataError(
            f"{path} has {len(names)} columns and no header; name them in a first line, such as "
            "id,u,v,depth, or leave u,v,depth alone"
        )
    options = {"skip_blank_lines": False, "skipinitialspace": True, "low_memory": False}
    skipped += has_header
    try:
        table = pd.read_csv(path, header=None, skiprows=skipped, encoding="utf-8-sig", **options)
    except pd.errors.EmptyDataError:
        table = pd.DataFrame()
    table.index += skipped + 1
    if has_header and table.shape[1] > len(names):
        raise DataError(
            f"{path} line {skipped + 1} has {table.shape[1]} cells, its header {len(names)}"
        )
    table = table.dropna(how="all")
    if table.empty:
        raise DataError(f"{path} holds no point, expected lines of u,v,depth")
    order = [names.index(name) for name in ("u", "v", "depth")] if has_header else range(3)
    points = table.reindex(columns=order).apply(pd.to_numeric, errors="coerce").astype(float)
    points.columns = ["u", "v", "depth"]
    bad = points.isna().any(axis=1)
    if bad.any():
        number = bad.idxmax()
        got = lines[number - 1].strip()[:60]
        raise DataError(f"{path} line {number}: expected u,v,depth, got {got!r}")
    guessed = f"its first line {lines[skipped].strip()} is read as a point"
    return points, [guessed] * (names == ["0", "1", "2"])
