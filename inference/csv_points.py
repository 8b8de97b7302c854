"""Measurements as points in a CSV file: lines of u,v,depth.

u is the column and v the row, (0, 0) the centre of the top left pixel, so that an image of W x H
pixels reaches from -0.5 to W - 0.5 and H - 0.5. A header may name the columns in another order,
and others beside them.
"""

import itertools
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
    u, v, values = (points[name].to_numpy() for name in ("u", "v", "depth"))
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        line, value = points.index[wrong][0], values[wrong][0]
        raise DataError(f"{path} line {line}: depth {value:g} is not a distance in metres")
    columns, rows = np.floor(u + 0.5), np.floor(v + 0.5)
    inside = (columns >= 0) & (columns < size[1]) & (rows >= 0) & (rows < size[0])
    outside = np.flatnonzero(~inside)
    if outside.size:
        line, first = points.index[outside[0]], outside[0]
        where = (
            f"{counted(outside.size, 'point')} of {len(points)} outside of the image of "
            f"{size[1]}x{size[0]} (width x height; (0, 0) is the first pixel's centre)"
        )
        example = f"line {line}: u={u[first]:g}, v={v[first]:g}"
        if 2 * outside.size > len(points):
            raise DataError(f"{path} has {where}, such as {example}")
        notes.append(f"left out {where}, such as {example}")
    columns, rows, values = columns[inside], rows[inside], values[inside]
    depth = np.zeros(size)
    # Of points in one pixel the nearest hides the others: written last, it stays.
    order = np.argsort(-np.where(values > 0, values, np.inf), kind="stable")
    depth[rows[order].astype(np.int64), columns[order].astype(np.int64)] = values[order]
    hidden = int(np.count_nonzero(values)) - int(np.count_nonzero(depth))
    if hidden:
        notes.append(f"{counted(hidden, 'point')} dropped for a nearer one in the same pixel")
    return depth, notes


def _csv_points(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the columns u, v, depth (floats, not NaN) by the number of their line, and notes."""
    with path.open(encoding="utf-8-sig") as stream:
        lines = ((number, line) for number, line in enumerate(stream) if line.strip())
        skipped, first = next(lines, (0, ""))
    names = [cell.strip(' "\r\n').lower() for cell in first.split(",")]
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
        number = int(bad.idxmax())
        with path.open(encoding="utf-8-sig") as stream:
            line = next(itertools.islice(stream, number - 1, None)).strip()[:60]
        raise DataError(f"{path} line {number}: expected u,v,depth, got {line!r}")
    guessed = [f"its first line {first.strip()} is read as a point"]
    return points, guessed if names == ["0", "1", "2"] else []
