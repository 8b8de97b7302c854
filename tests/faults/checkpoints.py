"""Malformed checkpoints: damaged, of another kind, hostile, or lacking something."""

import io
import json
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from engine.checkpoint import (
    _TRAINING_PARTS,
    FORMAT,
    Checkpoint,
    CheckpointError,
    find_checkpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from engine.training import EpochScores, SkippedFrames, random_states
from tests.faults.cases import Case

NAME = "best_model.pth"
GOLDEN = Path(__file__).resolve().parent.parent / "golden"


def checkpoint_cases() -> Iterator[Case]:
    """All malformed checkpoints."""
    yield from _damaged()
    yield from _hostile()
    yield from _of_wrong_content()
    yield from _published()
    yield from _bombs()


def _state() -> dict:
    """What train.py saves, of a network of three tensors."""
    generator = torch.Generator().manual_seed(0)
    model = {
        "encoder.conv.weight": torch.randn(16, 4, 7, 7, generator=generator),
        "encoder.bn.running_mean": torch.randn(16, generator=generator),
        "encoder.bn.num_batches_tracked": torch.tensor(7),
    }
    momentum = {0: {"momentum_buffer": torch.randn(16, 4, 7, 7, generator=generator)}}
    return {
        "args": {"arch": "resnet18", "cspn_step": 24, "data_root": "data/nyudepth_hdf5"},
        "epoch": 3,
        "scores": {"RMSE": 0.5},
        "model": model,
        "optimizer": {"state": momentum, "param_groups": [{"lr": 0.01, "params": [0]}]},
        "schedule": {"best": 0.5, "bad_epochs": 0},
        "scaler": {},
        "step": 300,
        "position": 4,
        "best_rmse": 0.5,
        "rows": {"train": [{"epoch": 1, "LOSS": 0.5}], "eval": [{"epoch": 1, "RMSE": 0.5}]},
        "epoch_scores": EpochScores(torch.device("cpu")).state_dict(),
        "skipped": SkippedFrames(40).state_dict(),
        "rng": random_states(),
    }


STATE = _state()


class _Network:
    """Stands for a network with the parameters of `STATE`."""

    def __init__(self, tensors: dict[str, torch.Tensor]):
        self.tensors = tensors

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self.tensors

    def load_state_dict(self, tensors: dict[str, torch.Tensor]) -> None:
        for key, value in tensors.items():
            self.tensors[key].clone().copy_(value)


def _load(folder: Path) -> Checkpoint:
    checkpoint = load_checkpoint(find_checkpoint(folder / NAME))
    load_weights(_Network(STATE["model"]), checkpoint)
    return checkpoint


def is_undamaged(checkpoint: Checkpoint) -> bool:
    """Whether everything that was saved came back, bit for bit."""
    parts = ("model", "args", "epoch", "training")
    found = {part: getattr(checkpoint, part) for part in parts}
    found["training"] = {key: found["training"].get(key) for key in STATE}
    return _same(found, {**{p: STATE[p] for p in parts[:3]}, "training": STATE})


def _same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other


def _case(kind: str, name: str, make: Callable[[Path], object], *words: str, fine=None) -> Case:
    label = f"checkpoint: {kind}"
    return Case(label, name, make, _load, CheckpointError, (NAME, *words), fine)


def _save(folder: Path) -> Path:
    save_checkpoint(folder / NAME, STATE)
    return folder / NAME


def _altered(folder: Path, change: Callable[[bytearray], bytes | bytearray]) -> None:
    path = _save(folder)
    path.write_bytes(change(bytearray(path.read_bytes())))


def _damaged() -> Iterator[Case]:
    for i in range(24):
        cut = partial(_altered, change=partial(_cut, share=i / 24))
        yield _case("truncated", f"cut to {i}/24", cut, "truncated")
    for tail in (1, 10, 22, 100):
        cut = partial(_altered, change=partial(_cut_tail, bytes_off=tail))
        yield _case("truncated", f"the last {tail} bytes cut off", cut, "truncated")
    # Most of the file is tensors; three seeds of four hit what surrounds them.
    for seed in range(48):
        flip = partial(_altered, change=partial(_flip, seed=seed))
        yield _case("bit flips", f"flip {seed}", flip, fine=is_undamaged)
    for seed in range(12):
        zeroed = partial(_altered, change=partial(_zero, seed=seed))
        yield _case("overwritten", f"zeroed {seed}", zeroed, fine=is_undamaged)


def _cut(content: bytearray, share: float) -> bytearray:
    return content[: int(len(content) * share)]


def _cut_tail(content: bytearray, bytes_off: int) -> bytearray:
    return content[:-bytes_off]


def _flip(content: bytearray, seed: int) -> bytearray:
    rng = random.Random(seed)
    ends = ((0, len(content)), (0, 12_000), (len(content) - 3000, len(content)), (0, len(content)))
    content[rng.randrange(*ends[seed % 4])] ^= 1 << rng.randrange(8)
    return content


def _zero(content: bytearray, seed: int) -> bytearray:
    rng = random.Random(seed)
    start, length = rng.randrange(len(content)), rng.choice((8, 64, 512))
    content[start : start + length] = bytes(len(content[start : start + length]))
    return content


class _Calls:
    """Unpickling it calls a function, which creates the file `owned`."""

    def __init__(self, function: Callable, *arguments: object):
        self.called = (function, arguments)

    def __reduce__(self):
        return self.called


def _gadgets(owned: str) -> dict[str, _Calls]:
    import subprocess

    return {
        "open": _Calls(open, owned, "w"),
        "os.system": _Calls(os.system, f"touch {owned}"),
        "eval": _Calls(eval, f"open({owned!r}, 'w')"),
        "exec": _Calls(exec, f"open({owned!r}, 'w')"),
        "Popen": _Calls(subprocess.Popen, ["touch", owned]),
        "os.mkdir": _Calls(os.mkdir, owned),
        "Path.touch": _Calls(Path.touch, Path(owned)),
        "numpy": _Calls(np.save, owned, np.zeros(1)),
        "torch.save": _Calls(torch.save, {}, owned),
    }


def _hostile() -> Iterator[Case]:
    for name in _gadgets(""):
        for form in ("zip", "legacy", "pickle"):
            make = partial(_write_hostile, gadget=name, form=form)
            yield _case("hostile", f"{name} in a {form} file", make)


def _write_hostile(folder: Path, gadget: str, form: str) -> None:
    state = {**STATE, "format": FORMAT, "model": _gadgets(str(folder / "owned"))[gadget]}
    path = folder / NAME
    if form == "pickle":
        path.write_bytes(pickle.dumps(state["model"]))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    # Nothing may have run while it was written.
    assert not (folder / "owned").exists()


def _of_wrong_content() -> Iterator[Case]:
    for name, value in {
        "a list": [1, 2],
        "a tensor": torch.zeros(3),
        "nothing": None,
        "an empty dict": {},
        "a number": 7,
        "text": "weights",
        "a dict of numbers": {"a": 1},
        "keys that are numbers": {1: torch.zeros(2)},
        "another network's tensors": {"fc.weight": torch.zeros(2)},
        "a format of later days": {**STATE, "format": "cspn-depth 99"},
        "a format that is a number": {**STATE, "format": 1},
    }.items():
        yield _case("wrong content", name, partial(_torch_save, value=value))
    for key, values in {
        "model": ([], None, "weights", {}, {"encoder.conv.weight": 3}, {1: torch.zeros(2)}),
        "args": ([], None, 3),
        "epoch": ("3", None, 2.5, -1),
    }.items():
        for value in values:
            state = {**STATE, "format": FORMAT, key: value}
            make = partial(_torch_save, value=state)
            name = f"{key} is {str(value)[:40]}"
            yield _case("wrong content", name, make)
    for key in (*("model", "args", "epoch"), *_TRAINING_PARTS):
        state = {k: v for k, v in STATE.items() if k != key} | {"format": FORMAT}
        make = partial(_torch_save, value=state)
        yield _case("missing part", f"no {key}", make)
    yield from _of_wrong_tensors()


def _of_wrong_tensors() -> Iterator[Case]:
    key = "encoder.conv.weight"
    weight = STATE["model"][key]
    for name, value in {
        "of another shape": weight[:, :3].clone(),
        "transposed": weight.transpose(0, 1).contiguous(),
        "flat": weight.flatten(),
        "empty": weight[:0],
        "complex": weight.to(torch.complex64),
        "whole numbers": weight.to(torch.int64),
        "true or false": weight > 0,
        "sparse": weight.to_sparse(),
        "without values": weight.to("meta"),
        "NaN": weight * torch.nan,
        "infinite": weight * torch.inf,
    }.items():
        model = {**STATE["model"], key: value}
        state = {**STATE, "format": FORMAT, "model": model}
        make = partial(_torch_save, value=state)
        yield _case("wrong tensors", f"weights that are {name}", make)
    for name, model in {
        "one missing": {k: v for k, v in STATE["model"].items() if k != key},
        "one too many": {**STATE["model"], "other.weight": weight},
        "one renamed": {k.replace("conv", "cnv"): v for k, v in STATE["model"].items()},
        "with a prefix": {f"module.{k}": v for k, v in STATE["model"].items()},
    }.items():
        state = {**STATE, "format": FORMAT, "model": model}
        make = partial(_torch_save, value=state)
        yield _case("wrong tensors", name, make, "another network")


def _torch_save(folder: Path, value: object) -> None:
    torch.save(value, folder / NAME)


def _published() -> Iterator[Case]:
    """The release's key names with tensors of one value, and one key changed."""
    shapes = json.loads((GOLDEN / "released_state_dict_resnet18.json").read_text())
    live = [k for k in shapes if k.startswith("gud_") and not k.endswith("num_batches_tracked")]
    rng = random.Random(0)
    for key in rng.sample(live, 12):
        make = partial(_write_published, shapes=shapes, drop=key)
        yield _case("published", f"without {key}", make, "lacks", key)
    for key in rng.sample(live, 6):
        make = partial(_write_published, shapes=shapes, drop=key, add=key.replace("gud_", "gut_"))
        yield _case("published", f"{key} renamed", make, "lacks", key)
    for key in ("fc.weight", "encoder.conv1.weight", "gud_up_proj_layer9.conv1.weight", "a.b.c"):
        make = partial(_write_published, shapes=shapes, add=key)
        yield _case("published", f"with {key} too", make, "keys that the release does not", key)
    for key in ("conv2.weight", "conv1_1.weight", "layer1.0.conv1.weight"):
        make = partial(_write_published, shapes=shapes, drop=key)
        yield _case("published", f"without {key}", make)


def _write_published(
    folder: Path, shapes: dict[str, list[int]], drop: str | None = None, add: str | None = None
) -> None:
    # One channel of each: names are what matters, and 12 MB a case would not be.
    state = {
        key: torch.zeros(
            [min(n, 7) for n in shape], dtype=torch.int64 if key.endswith("tracked") else None
        )
        for key, shape in shapes.items()
    }
    if drop:
        del state[drop]
    if add:
        state[add] = torch.zeros(1)
    torch.save(state, folder / NAME)


def _bombs() -> Iterator[Case]:
    yield _case("bombs", "a zip of 1 GB of zeros", _zip_bomb)
    yield _case("bombs", "a zip of other files", partial(_zip, names=("a.txt", "b/../../owned")))
    yield _case("bombs", "a zip of nothing", partial(_zip, names=()))
    yield _case("bombs", "a pickle that nests 100,000 lists", _nested)
    yield _case("bombs", "a pickle that claims a text of 1 TB", _claims)
    yield _case("bombs", "a tensor that claims a terabyte", _claims_tensor)


def _zip_bomb(folder: Path) -> None:
    with zipfile.ZipFile(folder / NAME, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        with file.open("archive/data.pkl", "w", force_zip64=True) as stream:
            for _ in range(32):
                stream.write(bytes(1 << 25))
        file.writestr("archive/version", "3\n")


def _zip(folder: Path, names: tuple[str, ...]) -> None:
    with zipfile.ZipFile(folder / NAME, "w") as file:
        for name in names:
            file.writestr(name, "text")


def _zip_of_pickle(folder: Path, content: bytes) -> None:
    with zipfile.ZipFile(folder / NAME, "w") as file:
        file.writestr("archive/data.pkl", content)
        file.writestr("archive/byteorder", "little")
        file.writestr("archive/version", "3\n")


def _nested(folder: Path) -> None:
    depth = 100_000
    _zip_of_pickle(folder, b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".")


def _claims(folder: Path) -> None:
    _zip_of_pickle(folder, b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"abc.")


def _claims_tensor(folder: Path) -> None:
    """A view of a stored number that calls itself a terabyte, with steps of 0."""
    torch.save({"weight": torch.zeros(1)}, buffer := io.BytesIO())
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(folder / NAME, "w") as file:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                # The size (1,) becomes (2 ** 38,): in pickle, K\x01 and a long of five bytes.
                content = content.replace(
                    b"K\x01\x85", b"\x8a\x06" + (1 << 38).to_bytes(6, "little") + b"\x85", 1
                )
            file.writestr(name, content)
