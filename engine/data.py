"""The data sets that a script's settings describe."""

from pathlib import Path

from dataloaders import DATA_SETS, DepthDataset
from dataloaders.splits import split_roots
from engine.config import DataConfig, TrainConfig
from engine.errors import OptionError

DATA_ROOTS = {"nyudepth": "data/nyudepth_hdf5", "kitti": "data/kitti_hdf5"}
# Settings that go to the data set as they are.
_OF_DATA = ("n_sample", "sampler", "noise", "outliers", "rgb_encoding", "depth_resize")


def build_dataset(config: DataConfig, split: str, *, seed: int, **options: object) -> DepthDataset:
    """Return the frames of `split` ("train" or "val") as the settings describe them; `options` are
    `augment`, and for training `crop` and `bad_frames`, of `DepthDataset`."""
    data_root = config.data_root or DATA_ROOTS[config.data_set]
    roots = [data_root] if Path(data_root).exists() else data_root.split(",")
    options |= {name: getattr(config, name) for name in _OF_DATA}
    options["file_list"] = config.train_list if split == "train" else config.eval_list
    return DATA_SETS[config.data_set](
        roots if split == "train" else roots[0], split, seed=seed, **options
    )


def build_training_sets(config: TrainConfig) -> tuple[DepthDataset, DepthDataset]:
    """Return the frames to train on and those that choose the best epoch: the val split, as in the
    release, or with `--holdout` that fraction of the training scenes (see `build_held_out_set`)."""
    train_set = build_dataset(
        config, "train", seed=config.seed, crop=config.crop, bad_frames=config.bad_frames
    )
    if not config.holdout:
        return train_set, build_dataset(config, "val", seed=config.seed)
    held_out_set = build_held_out_set(config, config.holdout, seed=config.seed)
    train_set.frames, _ = split_roots(train_set.frames, train_set.roots, config.holdout)
    return train_set, held_out_set


def build_held_out_set(config: DataConfig, holdout: float, *, seed: int) -> DepthDataset:
    """Return the training scenes that `--holdout` set aside, transformed as in evaluation; raise
    OptionError for none, or for a list of validation frames that nothing would read."""
    if not holdout:
        raise OptionError("no scenes were held out: the network was trained without --holdout")
    if config.eval_list:
        raise OptionError(
            "held-out scenes are training scenes (--holdout), so --eval_list "
            f"{config.eval_list} would not be read; give one of them"
        )
    dataset = build_dataset(config, "train", seed=seed, augment=False)
    _, dataset.frames = split_roots(dataset.frames, dataset.roots, holdout)
    return dataset
