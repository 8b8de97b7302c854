"""Makes a sample set of streets: ray-cast drives in the HDF5 layout of KITTI odometry.

    python -m sample_data.streets --root data/sample_streets

writes `train/<sequence>/<frame>-L.h5` and `-R.h5`, sequences 00 to 10, and `val/...`, sequences
11 to 21: the left and the right camera of one moment, 0.54 m apart. A file holds `rgb`
(3, 375, 1242) uint8 and `depth` (375, 1242) float32 in metres: one scan of a 64-beam LiDAR
projected into the camera, about 4 % of the pixels; 0 means "not measured".
"""

from sample_data.streets.generation import STREETS, frame_path, render_frame

# generate(root, n_train=..., n_val=..., seed=..., workers=...) makes the missing frames of a set.
generate = STREETS.generate

__all__ = ["STREETS", "frame_path", "generate", "render_frame"]
