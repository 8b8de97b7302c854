"""Makes the built-in sample set: ray-cast furnished rooms in the HDF5 layout of NYU Depth v2.

    python -m sample_data.rooms --root data/sample_rooms

writes `train/<room>/<frame>.h5` with holes like those of a Kinect and `val/official/<id>.h5`
without any; the rooms of the two splits are different. A file holds `rgb` (3, 480, 640) uint8
and `depth` (480, 640) float32 in metres, whole millimetres, where 0 means "not measured".
"""

from sample_data.rooms.generation import ROOMS, frame_path, render_frame

# generate(root, n_train=..., n_val=..., seed=..., workers=...) makes the missing frames of a set.
generate = ROOMS.generate

__all__ = ["ROOMS", "frame_path", "generate", "render_frame"]
