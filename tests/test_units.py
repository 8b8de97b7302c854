"""Depth in other units is refused with the way out; what real scenes hold passes."""

import numpy as np
import pytest

from dataloaders import DataError
from dataloaders.units import check_metres, to_metres

RNG = np.random.default_rng(0)
ROOM = RNG.uniform(0.8, 4.2, (60, 80)).astype(np.float32)
LIDAR = np.where(RNG.random((60, 80)) < 0.05, RNG.uniform(3, 250, (60, 80)), 0).astype(np.float32)
MACRO = RNG.uniform(0.15, 0.25, (60, 80)).astype(np.float32)
DESK = RNG.uniform(0.3, 1.3, (60, 80)).astype(np.float32)


def stored(metres, scale, dtype):
    return np.rint(metres * scale).astype(dtype)


@pytest.mark.parametrize(
    ("metres", "values", "scale"),
    [
        (ROOM, ROOM, None),
        (LIDAR, LIDAR, None),
        (LIDAR, LIDAR.astype(np.float64), 1),
        (MACRO, MACRO, None),
        (ROOM, stored(ROOM, 1000, np.uint16), 1000),
        (ROOM, stored(ROOM, 5000, np.uint16), 5000),
        (ROOM, stored(ROOM, 100, np.uint16), 100),
        (ROOM, stored(ROOM, 1000, np.float32), 1000),
        (ROOM, ROOM * 1000, 1000),
        (LIDAR, stored(LIDAR, 256, np.uint16), 256),
        (MACRO, stored(MACRO, 1000, np.uint16), 1000),
        (MACRO, MACRO * 1000, 1000),
        (np.full((4, 4), 60.0), np.full((4, 4), 60.0), None),  # a wall far away, whole metres
        (np.full((4, 4), 120.0), np.full((4, 4), 120.0), None),
        (np.zeros((4, 4)), np.zeros((4, 4)), None),
        (np.zeros((4, 4)), np.zeros((4, 4), np.uint16), 1000),
    ],
)
def test_real_scenes_pass_in_every_way_they_are_stored(metres, values, scale):
    depth, notes = to_metres(values, "a", scale)
    assert depth.dtype == np.float32 and notes == []
    np.testing.assert_allclose(depth, metres, atol=0.51 / (scale or 1e9), rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "scale", "sentence"),
    [
        (stored(ROOM, 1000, np.uint16), None, "holds integers: give the depth scale"),
        (stored(ROOM, 1, np.int64), None, "holds integers: give the depth scale"),
        (ROOM * 1000, None, "reaches 41.* expected metres, at most 1000 .divide millimetres"),
        (DESK * 1000, None, "reaches 1299.* expected metres|nothing near"),
        (DESK[DESK < 0.9] * 1000, None, "nothing near.*millimetres by 1000"),
        (ROOM * 100, None, "nothing near, so it is not metres .divide centimetres by 100"),
        (stored(DESK, 100, np.float32), None, "nothing near"),
        (ROOM / 1000, None, "ends at 0.0042 m, nearer than any scene"),
        (ROOM, 1000, "which are metres as they stand: leave out the depth scale, got 1000"),
        (LIDAR, 256, "which are metres as they stand"),
        (LIDAR, 1000, "which are metres as they stand"),
        (np.array([2.0, 3, 4]), 1000, "ends at 0.004 m after division by the depth scale 1000"),
        (stored(ROOM, 1000, np.uint16), 0.001, "units per metre, got 0.001; .* give 1000"),
        (stored(ROOM, 4000, np.uint16), 0.00025, "give 4000"),
        (stored(ROOM, 1000, np.uint16), 1, "reaches 4199 after division by the depth scale 1,"),
        (stored(ROOM, 1000, np.uint16), 10, "nothing near"),
        (stored(ROOM, 1000, np.uint16), 1e6, "ends at 0.0042 m after division"),
        (stored(ROOM, 1000, np.uint16), 0, "must be a positive number"),
        (stored(ROOM, 1000, np.uint16), np.nan, "must be a positive number"),
        (-ROOM, None, "negative values, down to -4.19"),
    ],
)
def test_other_units_get_a_sentence_with_the_way_out(values, scale, sentence):
    with pytest.raises(DataError, match=sentence):
        to_metres(values, "a.npy", scale)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38, np.finfo(np.float32).max])
@pytest.mark.parametrize("count", [1, 2])
def test_endless_floats_are_no_measurement_and_refused(value, count):
    depth = ROOM.copy()
    depth.flat[:count] = value
    ends = f"value{'s' * (count - 1)}, expected metres; write 0 where nothing was measured"
    with pytest.raises(DataError, match=f"holds {count} [^ ]*.*{ends}"):
        to_metres(depth, "a", None)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32])
def test_the_largest_integer_of_a_type_is_no_measurement_and_that_is_said(dtype):
    largest = np.iinfo(dtype).max
    values = stored(ROOM, 10, dtype)
    values[0, :3] = largest
    depth, notes = to_metres(values, "a", 10)
    assert notes == [f"3 values of {largest}, the type's largest, read as no measurement"]
    assert not depth[0, :3].any() and (depth[1:] > 0).all() and depth.max() < 5


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_sixteen_bits_largest_value_is_noticed_in_a_wider_type(dtype):
    values = stored(ROOM, 1000, dtype)
    values[0, 0] = 65535
    depth, notes = to_metres(values, "a", 1000)
    assert depth[0, 0] == 0 and notes[0].startswith("1 value of 65535, ")


@pytest.mark.parametrize("scale", [100, 256, 1000, 5000])
def test_sixteen_bits_largest_value_is_noticed_in_metres(scale):
    depth = ROOM.copy()
    depth[:3] = np.float32(65535 / scale)
    with pytest.raises(DataError, match=f"65535 / {scale}, the largest value of 16 bits; write 0"):
        check_metres(depth, "frame.h5")
    depth[:3] = 1.5
    depth[0, 0] = np.float32(65535 / scale)  # a single point may happen to lie there
    assert check_metres(depth, "frame.h5") is depth
