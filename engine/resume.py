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
    """How a run starts.

    Attributes:
        config: its settings.
        checkpoint: whose weights it starts with; None for a new network.
        goes_on: whether everything else of the checkpoint is taken up too.
        lr: rate to go on with, None for the checkpoint's.
        run_id: of the run; one that goes on keeps its own.
        notes: sentences for the user.
    """

    config: TrainConfig
    checkpoint: Checkpoint | None = None
    goes_on: bool = False
    lr: float | None = None
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    notes: list[str] = field(default_factory=list)

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
    way_out = ", or start from its weights with " if BEST in held else ""
    way_out += f"--resume {folder.path / BEST} and another --save_dir" if BEST in held else ""
    raise OptionError(
        f"{folder.path} holds {' and '.join(held)} but no {LAST} to go on from, and this run would "
        f"replace what it did not write; choose another --save_dir{way_out}"
    )


def _go_on(given: dict, checkpoint: Checkpoint) -> Start:
    """Start where the checkpoint is, with its settings and what may follow the command line.

    Raises:
        OptionError: the file holds weights alone, or a flag is refused; the sentence names it.
    """
    path = checkpoint.path
    if not checkpoint.training:
        raise OptionError(f"{path} holds weights alone, nothing to go on from")
    fields = TrainConfig.fields()
    saved = saved_settings(checkpoint.args)
    saved = {
        name: value
        for name, value in saved.items()
        if name in fields and fields[name].metadata["resume"] is not Resume.CALL
    }
    try:
        before = TrainConfig.of(saved)
    except OptionError as error:
        raise CheckpointError(f"{path}: its {error}") from error
    config = TrainConfig.of(saved, given)
    changed = [
        name
        for name in saved_settings(given)
        if name in fields and _effective(config, name) != _effective(before, name)
    ]
    rules = {name: fields[name].metadata["resume"] for name in changed}
    refused = [name for name in changed if rules[name] is Resume.FIXED]
    moved = [name for name in changed if rules[name] is Resume.FRAMES]
    if not refused and moved and not _same_frames(config, checkpoint):
        refused = moved
    if refused:
        flags = ", ".join(_spelled(name, getattr(config, name)) for name in refused)
        own = ", ".join(_spelled(name, getattr(before, name)) for name in refused)
        raise OptionError(
            f"{path} was trained with {own}, and {flags} would change what its numbers mean; leave "
            f"that out, or start a run of its own from the weights: --resume {path} and another "
            "--save_dir"
        )
    followed = [name for name in changed if rules[name] in (Resume.FOLLOW, Resume.FRAMES)]
    notes = [
        f"from now on {_spelled(name, getattr(config, name))}, "
        f"so far {_spelled(name, getattr(before, name))}"
        for name in followed
    ]
    lr = config.lr if "lr" in changed else None
    run_id = checkpoint.args.get(RUN_ID) or uuid.uuid4().hex
    return Start(config, checkpoint, True, lr, run_id, notes)


def _fine_tune(given: dict, checkpoint: Checkpoint, reason: str) -> Start:
    """Start a new run from the weights. Network and input are the checkpoint's unless a flag is
    given; the frames too, unless another data set or folder is."""
    fields = NetworkConfig.fields()
    saved = {
        name: value
        for name, value in evaluation_settings(checkpoint.args).items()
        if fields[name].metadata["resume"] is not Resume.FOLLOW
    }
    other_set = given.get("data_set", saved.get("data_set")) != saved.get("data_set")
    if other_set or "data_root" in given:
        for name in ("data_root", "train_list", "eval_list"):
            saved.pop(name, None)
    if other_set:
        saved.pop("depth_resize", None)
    try:
        TrainConfig.of(saved)
    except OptionError as error:
        raise CheckpointError(f"{checkpoint.path}: its {error}") from error
    start = Start(TrainConfig.of(saved, given), checkpoint)
    if reason:
        start.notes.append(f"{reason}: this is a new run, from its weights")
    return start


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


def _spelled(name: str, value: object) -> str:
    """Return a flag and its value as on a command line."""
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{name}"
    return f"no --{name}" if value is None else f"--{name} {value}"


def frames_record(dataset: DepthDataset) -> dict:
    """Return count and digest of a data set's frames, by which a resumed run recognises them.

    The digest is over all names, relative to the root, and what the first, the middle and the last
    frame hold; a frame that cannot be read counts as empty.
    """
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
    """Bring a new `run` to where it starts.

    The best score is kept only if it still means something: with the weights behind it in the
    folder, on the frames it was measured on.

    Returns:
        Sentences for the user, those of `start` first.

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
    distributed.check_equal(
        position, "--save_dir must be a folder that all machines share, to go on from"
    )
    frames = {
        f"{part} frames": f"{record['count']} ({record['digest'][:8]})"
        for part, record in run.frames.items()
    }
    distributed.check_equal(frames, "give every machine the same frames")
    rules = {name: field.metadata["resume"] for name, field in TrainConfig.fields().items()}
    means = [name for name, rule in rules.items() if rule in (Resume.FIXED, Resume.FOLLOW)]
    settings = {f"--{n}": getattr(config, n) for n in (*means, "max_steps") if n not in _MACHINES}
    distributed.check_equal(settings, "start every machine with the same flags")


def load_newest(folder: RunFolder) -> Checkpoint | None:
    """Return the run's newest good checkpoint, None where it has none yet. A damaged `last.pth` is
    put aside with a sentence, and the one before it is used.

    Raises:
        CheckpointError: there are files, and none of them is good.
    """
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
