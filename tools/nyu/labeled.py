"""NYU's official labelled file as HDF5 frames: 654 test and 795 training images.

`nyu_depth_v2_labeled.mat` is MATLAB 7.3, which is HDF5: `images` (N, 3, W, H) uint8 and `depths`
(N, W, H) float metres, in-painted. `splits.mat` is an older MATLAB file with the 1-based
`trainNdxs` and `testNdxs`. Frames are called by that number, as in the published HDF5 set.
"""

from pathlib import Path

import h5py
import numpy as np
import scipy.io
from tqdm import tqdm

from dataloaders.errors import DataError
from dataloaders.hdf5 import is_complete, write_frame
from dataloaders.units import check_metres

# Variable of splits.mat -> folder of the data root.
FOLDERS = {"trainNdxs": "train/labeled", "testNdxs": "val/official"}


def convert_labeled(mat: Path, splits: Path, root: Path) -> None:
    """Write the frames of `mat` into `train/labeled` and `val/official` of `root`.

    Frames that are complete there stay as they are. Raises DataError: a file that is missing,
    damaged or of another structure, numbers that are no frames or in both splits, or depth that
    cannot be metres. Raises OSError: a frame cannot be written.
    """
    numbers = _read_splits(splits)
    try:
        with h5py.File(mat, "r", locking=False) as file:
            images, depths = _arrays(file, mat)
            last = max(max(frames) for frames in numbers.values())
            if last > len(images):
                raise DataError(f"{splits} names frame {last}, {mat} holds {len(images)}")
            jobs = [
                (number, root / folder / f"{number:05d}.h5")
                for key, folder in FOLDERS.items()
                for number in numbers[key]
            ]
            for number, path in tqdm(jobs, unit="frame", desc="labeled"):
                if not is_complete(path):
                    rgb = images[number - 1].transpose(0, 2, 1)
                    depth = depths[number - 1].T.astype(np.float32)
                    write_frame(path, rgb, check_metres(depth, f"{mat} frame {number}"))
    except OSError as error:
        if error.errno:
            raise
        raise DataError(f"{mat} is not a readable MATLAB 7.3 file: {error}") from error
    counts = ", ".join(f"{len(numbers[key])} in {folder}" for key, folder in FOLDERS.items())
    print(f"{root}: {counts}")


def _read_splits(path: Path) -> dict[str, list[int]]:
    """Return the 1-based frame numbers of each variable of `FOLDERS`, sorted."""
    try:
        content = scipy.io.loadmat(path, variable_names=list(FOLDERS))
        numbers = {key: sorted(int(n) for n in np.ravel(content[key])) for key in FOLDERS}
    except OSError:
        raise
    except Exception as error:  # a damaged file can make its reader fail in any way
        raise DataError(f"{path} holds no {' and '.join(FOLDERS)}: {error}") from error
    train, test = numbers.values()
    together = train + test
    if not train or not test or min(together) < 1 or len(set(together)) < len(together):
        raise DataError(f"{path}: trainNdxs and testNdxs must be disjoint numbers from 1 up")
    return numbers


def _arrays(file: h5py.File, path: Path) -> tuple[h5py.Dataset, h5py.Dataset]:
    """Return `images` and `depths`, their structure checked."""
    for key in ("images", "depths"):
        if not isinstance(file.get(key), h5py.Dataset):
            raise DataError(f"{path} has no variable {key}, which NYU's labelled file has")
    images, depths = file["images"], file["depths"]
    fits = len(images.shape) == 4 and images.shape[1] == 3 and images.dtype == np.uint8
    if not fits or depths.shape != (len(images), *images.shape[2:]) or depths.dtype.kind != "f":
        raise DataError(
            f"{path}: expected images (N, 3, W, H) uint8 and depths (N, W, H) float, got "
            f"{images.shape} {images.dtype} and {depths.shape} {depths.dtype}"
        )
    return images, depths
