"""Depth in metres, whatever it was stored in, and the refusal of what cannot be metres.

Every reader of depth calls this: of HDF5 frames, of files for predict.py and the demo, of arrays
for `Predictor`. The limits are wide: a macro shot of 5 cm and a LiDAR that reaches 250 m
pass. Depth beyond them, or in another unit, is refused with the way out. 0 means no measurement.
"""

import math

import numpy as np

from dataloaders.errors import DataError, counted

# Beyond any sensor of these data sets: such values are other units, or damage.
MAX_METRES = 1000
# The farthest point of a scene is not nearer than this: 4 m divided by 1000 are 4 mm.
MIN_FARTHEST = 0.05
# A scene that ends farther away than this shows something nearer than MAX_NEAREST, such as the
# ground before the camera, and has its median below MAX_MEDIAN; a room in centimetres does not.
MAX_UNSUSPECTED, MAX_NEAREST, MAX_MEDIAN = 100, 20, 150
# So many measurements, all whole numbers, are another unit's, such as a desk's in centimetres.
MIN_WHOLE_COUNT = 10
# Floats that start and end below these and are not whole numbers are metres without a scale.
METRES_NEAREST, METRES_FARTHEST = 100, 250
# Largest values of types stand for "no measurement" in many files, also after a conversion.
LARGEST_INTEGERS = (65535, 2**31 - 1, 2**32 - 1)
LARGEST_FLOAT = 1e30
LARGEST_IN_METRES = {float(np.float32(65535 / scale)): scale for scale in (100, 256, 1000, 5000)}
WRITE_ZERO = "write 0 where nothing was measured"


def to_metres(
    values: np.ndarray, source: object, scale: float | None = None
) -> tuple[np.ndarray, list[str]]:
    """Convert stored depth to metres = values / scale, float32, finite, 0 = no measurement; return
    notes on what was read as no measurement too.

    Args:
        values: (H, W) or (N,) integers or floats, 0 = no measurement.
        source: what holds them, for sentences.
        scale: units per metre: 1000 for millimetres, 256 for KITTI. Integers need one; floats are
            metres without.

    Raises:
        DataError: integers without a scale, a scale that is none or stands beside metres, or what
            `check_metres` refuses.
    """
    notes, divided = [], ""
    if scale is None and values.dtype.kind in "iu":
        raise DataError(
            f"{source} holds integers: give the depth scale, values / scale = metres "
            "(--depth-scale 1000 for millimetres, 256 for KITTI)"
        )
    if scale is not None:
        check_scale(scale)
        if scale != 1 and values.dtype.kind == "f" and _are_metres(values):
            raise DataError(
                f"{source} holds floats up to {values.max():g}, which are metres as they stand: "
                f"leave out the depth scale, got {scale:g}"
            )
        values, notes = _without_largest(values)
        divided = f" after division by the depth scale {scale:g}"
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is refused
        metres = (values / np.float64(scale or 1)).astype(np.float32)
    return check_metres(metres, source, divided), notes


def check_scale(scale: float) -> None:
    """Raise `DataError` unless a depth scale is a number of units per metre, 1 or more."""
    if not 0 < scale < math.inf:
        raise DataError(f"the depth scale must be a positive number, got {scale}")
    if scale < 1:
        raise DataError(
            f"the depth scale is units per metre, got {scale:g}; where that is metres per unit, "
            f"give {1 / scale:g}"
        )


def check_metres(depth: np.ndarray, source: object, divided: str = "") -> np.ndarray:
    """Return depth as it is where it can be metres.

    Args:
        depth: float32 of any shape but an empty one, 0 = no measurement.
        source: what holds it, for the sentence. divided: how it was converted, likewise.

    Raises:
        DataError: NaN, infinite or negative values, another unit, or the largest value of an
            integer type where nothing was measured.
    """
    low, high = float(depth.min()), float(depth.max())  # either is NaN where any value is
    usual = high == 0 or MIN_FARTHEST <= high <= MAX_UNSUSPECTED
    is_plain = low >= 0 and usual and high not in LARGEST_IN_METRES
    if not is_plain and (problem := _problem(depth, low, high, divided)):
        raise DataError(f"{source}: {problem}")
    return depth


def _problem(depth: np.ndarray, low: float, high: float, divided: str) -> str | None:
    """Return what is wrong with depth that ends at `low` and `high`, and the way out."""
    endless = np.count_nonzero(~np.isfinite(depth) | (depth >= LARGEST_FLOAT))
    if endless:
        kind = f"{high:.3g}" if math.isfinite(low + high) else "NaN or infinite"
        return f"depth holds {counted(endless, f'{kind} value')}, expected metres; {WRITE_ZERO}"
    if low < 0:
        return f"depth holds negative values, down to {low:.6g} m; {WRITE_ZERO}"
    if high > MAX_METRES:
        return (
            f"depth reaches {high:.6g}{divided}, expected metres, at most {MAX_METRES} "
            "(divide millimetres by 1000)"
        )
    if high < MIN_FARTHEST:
        return (
            f"depth ends at {high:.3g} m{divided}, nearer than any scene; was it divided once "
            "too often? (multiply kilometres by 1000)"
        )
    known = depth[depth > 0]
    at_end = np.count_nonzero(known == high)
    if high in LARGEST_IN_METRES and at_end >= max(2, 0.01 * known.size):
        return (
            f"depth ends at {high:.6g} m in {at_end} pixels, which is 65535 / "
            f"{LARGEST_IN_METRES[high]}, the largest value of 16 bits; {WRITE_ZERO}"
        )
    nearest, median = np.quantile(known, (0.01, 0.5))
    if high > MAX_UNSUSPECTED and nearest > MAX_NEAREST:
        whole = known.size >= MIN_WHOLE_COUNT and at_end < known.size and _are_whole(known)
        if whole or median > MAX_MEDIAN:
            return (
                f"depth from {known.min():.6g} to {high:.6g}{divided} has nothing near, so it is "
                "not metres (divide centimetres by 100, millimetres by 1000)"
            )
    return None


def _are_metres(values: np.ndarray) -> bool:
    """Return whether floats beside a scale would be a scene in metres without it."""
    known = values[values > 0]
    ends_near = known.size and known.min() <= METRES_NEAREST and known.max() <= METRES_FARTHEST
    return bool(ends_near) and not _are_whole(known)


def _are_whole(values: np.ndarray) -> bool:
    return bool((values == np.rint(values)).all())


def _without_largest(values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return stored values with 0 for their type's largest one, and a note where that was met."""
    own = [np.iinfo(values.dtype).max] if values.dtype.kind in "iu" else []
    high = values.max()
    if high not in (*LARGEST_INTEGERS, *own):
        return values, []
    marked = values == high
    count = counted(np.count_nonzero(marked), "value")
    note = f"{count} of {high:.0f}, the type's largest, read as no measurement"
    return np.where(marked, 0, values), [note]
