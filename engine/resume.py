"""Resolve `--resume`: a run starts anew, from the weights of another one, or where it stopped.

A resumed run keeps its checkpoint's settings. A flag with another value is followed, or refused
where it would change the meaning of the run's numbers, by the rule of its field in `engine.config`.
A checkpoint in another folder is resumed if its run has epochs left and no flag is refused;
otherwise a new run starts from its weights.
"""

import hashlib
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from dataloaders import DATA_SETS, DataError, DepthDataset
from dataloaders.hdf5 import read_frame
from engine import distributed
from engine.checkpoint import Checkpoint, find_checkpoint, load_checkpoint, load_weights
from engine.config import NetworkConfig, TrainConfig, evaluation_settings, saved_settings
from engine.data import DATA_ROOTS, build_training_sets
from engine.errors import CheckpointError, OptionError
from engine.flags import Resume
from engine.run_folder import BEST, LAST, PREVIOUS, RUN_ID, RunFolder
from engine.training import Training

# Flags that each machine may have its own value of: nothing but speed depends on them.
_MACHINES = ("num_workers", "batch_size_eval", "channels_last", "compile", "unpool")


@dataclass
class Start:
    """How a run starts."""

    config: TrainConfig
    checkpoint: Checkpoint | None = None  # whose weights it starts with; None: a new network
    goes_on: bool = False  # everything else of the checkpoint is taken up too
    lr: float | None = None  # to go on with, None for the checkpoint's
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)  # kept by a run that goes on
    notes: list[str] = field(default_factory=list)  # sentences for the user

    def settings(self) -> dict:
        """Return what args.json and the checkpoints record."""
        return {**self.config.to_dict(), RUN_ID: self.run_id}


def run_folder_path(config: TrainConfig) -> Path:
    """Return the folder that a run writes to: `--save_dir`, that of the run which `--resume` names,
    or one named for data set and network."""
    if config.save_dir:
        return Path(config.save_dir)
    default = Path(f"output/{config.data_set}_{config.arch}_{config.model}")
    named = default if config.resume in (None, "auto") else Path(config.resume)
    return named if (named / LAST).exists() else default


def resolve_resume(given: dict, folder: RunFolder) -> Start:
    """Decide how a run starts; files of another run are never replaced.

    Args:
        given: values of the flags on the command line. folder: that the run writes to.

    Raises:
        OptionError: the folder holds another run, or a flag does not fit the one that goes on.
        CheckpointError: no checkpoint, or none that can be read.
    """
    config = TrainConfig.of(given)
    held = folder.run_files()
    if config.resume is None:
        if held:
            raise OptionError(
                f"{folder.path} already holds a run ({', '.join(held)}); go on with --resume, or "
                "choose another --save_dir"
            )
        return Start(config)
    path = config.resume_path(folder.path)
    if path.resolve() in (folder.path.resolve(), (folder.path / LAST).resolve()):
        checkpoint = load_newest(folder)
        if checkpoint is None:
            return _start_anew(config, folder, held)
        return _go_on(given, checkpoint)
    found = find_checkpoint(path, (LAST, BEST))
    if held:
        raise OptionError(
            f"{folder.path} already holds another run than {found} ({', '.join(held)}); choose "
            "another --save_dir"
        )
    checkpoint = load_checkpoint(found)
    try:
        start = _go_on(given, checkpoint)
        if checkpoint.epoch < start.config.num_epoch:
            start.run_id = uuid.uuid4().hex
            return start
        reason = f"the {checkpoint.epoch} epochs of {found} are done"
    except OptionError as error:
        reason = str(error).partition("; ")[0]
    return _fine_tune(given, checkpoint, reason if checkpoint.training else "")


def _start_anew(config: TrainConfig, folder: RunFolder, held: list[str]) -> Start:
    """Return a new run for `--resume` in a folder without a checkpoint to go on from; raise
    OptionError where it holds more than a run that was killed before its first last.pth."""
    if not held:
        return Start(config)
    own = folder.settings().get(RUN_ID)
    if held == [BEST] and own and load_checkpoint(folder.path / BEST).args.get(RUN_ID) == own:
        return Start(config, run_id=own)
    best = f", or start from its weights with --resume {folder.path / BEST} and another --save_dir"
    raise OptionError(
        f"{folder.path} holds {' and '.join(held)} but no {LAST} to go on from, and this run would "
        f"replace what it did not write; choose another --save_dir{best if BEST in held else ''}"
    )


def _go_on(given: dict, checkpoint: Checkpoint) -> Start:
    """Start where the checkpoint is, with its settings and what may follow the command line; raise
    OptionError for weights alone, or with the flags that are refused."""
    path, rules = checkpoint.path, TrainConfig.rules()
    if not checkpoint.training:
        raise OptionError(f"{path} holds weights alone, nothing to go on from")
    saved = saved_settings(checkpoint.args).items()
    saved = {name: v for name, v in saved if rules.get(name, Resume.CALL) is not Resume.CALL}
    before, config = _settings_of(checkpoint, saved), TrainConfig.of(saved, given)
    changed = {
        name: rules[name]
        for name in saved_settings(given)
        if name in rules and _effective(config, name) != _effective(before, name)
    }
    refused = [name for name, rule in changed.items() if rule is Resume.FIXED]
    moved = [name for name, rule in changed.items() if rule is Resume.FRAMES]
    if not refused and moved and not _same_frames(config, checkpoint):
        refused = moved
    if refused:
        own, flags = (", ".join(_spelled(c, name) for name in refused) for c in (before, config))
        raise OptionError(
            f"{path} was trained with {own}, and {flags} would change what its numbers mean; leave "
            f"that out, or start a run of its own from the weights: --resume {path} and another "
            "--save_dir"
        )
    notes = [
        f"from now on {_spelled(config, name)}, so far {_spelled(before, name)}"
        for name, rule in changed.items()
        if rule is not Resume.CALL
    ]
    lr = config.lr if "lr" in changed else None
    run_id = checkpoint.args.get(RUN_ID) or uuid.uuid4().hex
    return Start(config, checkpoint, True, lr, run_id, notes)


def _fine_tune(given: dict, checkpoint: Checkpoint, reason: str) -> Start:
    """Start a new run from the weights. Network and input are the checkpoint's unless a flag is
    given; the frames too, unless another data set or folder is."""
    rules, saved = NetworkConfig.rules(), evaluation_settings(checkpoint.args)
    other_set = given.get("data_set", saved.get("data_set")) != saved.get("data_set")
    left_out = {name for name in saved if rules[name] is Resume.FOLLOW}
    if other_set or "data_root" in given:
        left_out |= {name for name in saved if rules[name] is Resume.FRAMES}
    if other_set:
        left_out.add("depth_resize")
    saved = {name: value for name, value in saved.items() if name not in left_out}
    _settings_of(checkpoint, saved)
    start = Start(TrainConfig.of(saved, given), checkpoint)
    if reason:
        start.notes.append(f"{reason}: this is a new run, from its weights")
    return start


def _settings_of(checkpoint: Checkpoint, saved: dict) -> TrainConfig:
    """Return a checkpoint's settings; raise CheckpointError for a value that no flag would take."""
    try:
        return TrainConfig.of(saved)
    except OptionError as error:
        raise CheckpointError(f"{checkpoint.path}: its {error}") from error


def _effective(config: TrainConfig, name: str) -> object:
    """Return the value of a flag with defaults filled in and paths resolved."""
    value = getattr(config, name)
    if name == "data_root":
        return Path(value or DATA_ROOTS[config.data_set]).resolve()
    if name in ("train_list", "eval_list"):
        return value and Path(value).resolve()
    if name == "depth_resize":
        return value or DATA_SETS[config.data_set].default_depth_resize
    return value


def _spelled(config: TrainConfig, name: str) -> str:
    """Return a flag and its value as on a command line."""
    value = getattr(config, name)
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{name}"
    return f"no --{name}" if value is None else f"--{name} {value}"


def frames_record(dataset: DepthDataset) -> dict:
    """Return count and digest of a data set's frames, by which a resumed run recognises them: of
    all names, relative to the root, and of what the first, the middle and the last frame hold."""
    frames = dataset.frames
    digest = hashlib.sha256()
    for name in dataset.names():
        digest.update(f"{name}\n".encode())
    for index in sorted({0, len(frames) // 2, len(frames) - 1}):
        try:
            for array in read_frame(frames[index]):
                digest.update(array.tobytes())
        except DataError:
            digest.update(b"unreadable")
    return {"count": len(frames), "digest": digest.hexdigest()}


def _same_frames(config: TrainConfig, checkpoint: Checkpoint) -> bool:
    sets = build_training_sets(config)
    records = dict(zip(("train", "val"), map(frames_record, sets), strict=True))
    return checkpoint.training.get("frames") == records


def take_up(run: Training, start: Start, folder: RunFolder) -> list[str]:
    """Bring a new `run` to where it starts; return sentences for the user, those of `start` first.

    The best score is kept only if it still means something: with the weights behind it in the
    folder, on the frames it was measured on.

    Raises:
        CheckpointError: the weights are another network's, or a part of the file does not fit.
    """
    notes, checkpoint = list(start.notes), start.checkpoint
    if checkpoint is None:
        return notes
    if not start.goes_on:
        load_weights(run.model, checkpoint)
        return notes
    run.resume(checkpoint, lr=start.lr)
    known = checkpoint.training.get("frames", run.frames)
    other = {part for part in run.frames if known.get(part) != run.frames[part]}
    if "train" in other:
        notes.append(
            f"the training frames have changed: {run.frames['train']['count']}, before "
            f"{known['train']['count']}"
        )
    if "val" in other:
        notes.append(
            f"the validation frames have changed ({run.frames['val']['count']}, before "
            f"{known['val']['count']}), so the best score starts anew"
        )
        run.forget_best()
    elif run.best_rmse < float("inf") and not (folder.path / BEST).exists():
        notes.append(f"{folder.path} does not hold the best model, so the best score starts anew")
        run.forget_best()
    return notes


def check_processes_agree(run: Training, config: TrainConfig) -> None:
    """Raise OptionError unless every process trains the same run from the same place on the same
    frames; machines have command lines and disks of their own."""
    position = {"finished epochs": run.epoch, "steps done": run.step, "images done": run.position}
    shared = "--save_dir must be a folder that all machines share, to go on from"
    distributed.check_equal(position, shared)
    frames = {
        f"{part} frames": f"{record['count']} ({record['digest'][:8]})"
        for part, record in run.frames.items()
    }
    distributed.check_equal(frames, "give every machine the same frames")
    rules = TrainConfig.rules()
    means = [name for name, rule in rules.items() if rule in (Resume.FIXED, Resume.FOLLOW)]
    settings = {f"--{n}": getattr(config, n) for n in (*means, "max_steps") if n not in _MACHINES}
    distributed.check_equal(settings, "start every machine with the same flags")


def load_newest(folder: RunFolder) -> Checkpoint | None:
    """Return the run's newest good checkpoint, None where it has none yet. A damaged `last.pth` is
    put aside with a sentence, and the one before it is used; raise CheckpointError where that is
    not good either."""
    last, previous = folder.path / LAST, folder.path / PREVIOUS
    if not last.exists():
        return load_checkpoint(previous) if previous.exists() else None
    try:
        return load_checkpoint(last)
    except CheckpointError as error:
        if not previous.exists():
            raise
        checkpoint = load_checkpoint(previous)
        distributed.barrier()  # every process has read it before it is moved
        if distributed.is_main():
            aside = folder.free_name("damaged.pth")
            print(f"{error}; going on from {PREVIOUS}, it stays as {aside.name}", file=sys.stderr)
            last.replace(aside)
            folder.log("damaged checkpoint", reason=str(error))
        return checkpoint
