"""Malformed data folders and list files."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from dataloaders import DataError
from dataloaders.splits import list_frames
from tests.faults.cases import Case
from tests.faults.frames import write

GOOD = "train/scene/00001.h5"


def listing_cases() -> Iterator[Case]:
    """All malformed lists and folders."""
    yield from _lists()
    yield from _folders()


def make_root(folder: Path) -> Path:
    """A data root of two frames in `folder/root`."""
    root = folder / "root"
    for name in ("train/scene/00001.h5", "val/official/00001.h5"):
        (root / name).parent.mkdir(parents=True)
        write((root / name).parent)
    return root


def _read_list(folder: Path) -> list[Path]:
    return list_frames(folder / "root", "train", folder / "list.csv")


def _walk(folder: Path) -> list[Path]:
    return list_frames(folder / "root", "train")


def _write_list(folder: Path, content: bytes) -> None:
    make_root(folder)
    (folder / "list.csv").write_bytes(content)


def _lists() -> Iterator[Case]:
    for name, (content, words) in _contents().items():
        yield Case(
            "list",
            name,
            partial(_write_list, content=content),
            _read_list,
            DataError,
            ("list.csv", words),
        )
    rest = {
        "a list that is a folder": (lambda folder: (folder / "list.csv").mkdir(), "cannot be read"),
        "a list that is not there": (lambda folder: None, "cannot be read"),
        "a frame that is a link out": (_link_out, "a link that leads out of"),
        "a scene that is a link out": (_scene_out, "a link that leads out of"),
    }
    for name, (make, words) in rest.items():
        write_both = partial(_after_root, make=make)
        yield Case("list", name, write_both, _read_list, DataError, ("list.csv", words))


def _contents() -> dict[str, tuple[bytes, str]]:
    """Name -> (bytes of the list file, what the sentence must hold)."""
    outside = {
        "the password file": "/etc/passwd",
        "up and out": "../../../../../../etc/passwd",
        "up and out after a scene": "train/scene/../../../list.csv",
        "up and out with backslashes": "..\\..\\..\\etc\\passwd",
        "the root": ".",
        "a folder": "train/scene",
        "a slash": "/",
        "a missing frame": "train/scene/99999.h5",
        "a home folder": "~/frame.h5",
        "a variable": "$HOME/frame.h5",
        "a pattern": "train/scene/*.h5",
        "an address": "https://example.org/00001.h5",
        "a file address": "file:///etc/passwd",
        "a command": "; touch owned",
        "a device": "/dev/zero",
        "a file of the system": "/proc/self/mem",
        "a name of 300 letters": "train/" + "a" * 300 + ".h5",
        "a path of 5000 letters": "a/" * 2500 + "00001.h5",
        "a name of 100,000 letters": "a" * 100_000,
        "a terminal's escape": "train/\x1b[2J00001.h5",
        "a zero byte": "train/scene/00001.h5\0.png",
        "another writing": "обучение/сцена/00001.h5",
        "right to left": "train/\u202e5h.10000",
    }
    cases = {
        name: (f"Name\n{GOOD}\n{row}\n".encode(), "which is not under")
        for name, row in outside.items()
    }
    return cases | {
        "an empty file": (b"", "no column Name"),
        "a header alone": (b"Name\n", "is empty"),
        "a header and empty rows": (b"Name\n\n\n,\n\n", "is empty"),
        "no header": (f"{GOOD}\n{GOOD}\n".encode(), "no column Name"),
        "another header": (f"Path\n{GOOD}\n".encode(), "no column Name"),
        "a header in small letters": (f"name\n{GOOD}\n".encode(), "no column Name"),
        "semicolons": (f"Name;Depth\n{GOOD};1\n".encode(), "no column Name"),
        "UTF-16": (f"Name\n{GOOD}\n".encode("utf-16"), "cannot be read"),
        "Latin letters": ("Name\ntrain/café/1.h5\n".encode("latin-1"), "cannot be read"),
        "random bytes": (bytes(range(256)) * 40, "cannot be read"),
        "an HDF5 file": (b"\x89HDF\r\n\x1a\n" + bytes(2000), "cannot be read"),
        "zero bytes": (bytes(5000), "list.csv"),
        "a line of 10 MB": (b"Name\n" + b"a" * 10_000_000 + b"\n", "cannot be read"),
        "a header of 10 MB": (b"Name," * 2_000_000 + b"\n", "is empty"),
        "an open quote": (f'Name\n"{GOOD}\n{GOOD}\n'.encode(), "which is not under"),
        "a frame named twice": (f"Name\n{GOOD}\n{GOOD}\n".encode(), "twice"),
        "a frame named in two ways": (f"Name\n{GOOD}\n/data/{GOOD}\n".encode(), "twice"),
        "a frame named by a way up": (f"Name\n{GOOD}\na/../{GOOD}\n".encode(), "twice"),
        "a million missing frames": (b"Name\n" + b"nowhere.h5\n" * 1_000_000, "not under"),
    }


def _after_root(folder: Path, make: Callable[[Path], object]) -> None:
    make_root(folder)
    make(folder)


def _link_out(folder: Path) -> None:
    write(folder).rename(folder / "outside.h5")
    (folder / "root" / "train" / "scene" / "00002.h5").symlink_to(folder / "outside.h5")
    (folder / "list.csv").write_text("Name\ntrain/scene/00002.h5\n")


def _scene_out(folder: Path) -> None:
    (folder / "outside").mkdir()
    write(folder / "outside")
    (folder / "root" / "train" / "elsewhere").symlink_to(folder / "outside")
    (folder / "list.csv").write_text("Name\ntrain/elsewhere/00001.h5\n")


def _folders() -> Iterator[Case]:
    cases: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
        "no root": (lambda folder: None, ("root", "is not a folder")),
        "a root that is a file": (lambda folder: (folder / "root").touch(), ("is not a folder",)),
        "an empty root": (lambda folder: (folder / "root").mkdir(), ("no folder train/",)),
        "an empty split": (lambda folder: (folder / "root/train").mkdir(parents=True), ("no .h5",)),
        "a split that is a file": (_split_is_a_file, ("no folder train/",)),
        "hidden frames alone": (_hidden, ("holds no .h5 file",)),
        "a scene that is a link out": (
            _with_root(_scene_out),
            ("elsewhere", "is a link to a folder"),
        ),
        "a scene that is a loop": (_with_root(_loop), ("loop", "is a link to a folder")),
        "a frame that is a link out": (_with_root(_link_out), ("00002.h5", "leads out of")),
        "a frame that is a link to nothing": (_with_root(_dangling), ("00002.h5", "not a file")),
        "a frame that is a pipe": (_with_root(_pipe), ("00002.h5", "is not a file")),
    }
    for name, (make, words) in cases.items():
        yield Case("folder", name, make, _walk, DataError, words)


def _with_root(make: Callable[[Path], object]) -> Callable[[Path], object]:
    return partial(_after_root, make=make)


def _split_is_a_file(folder: Path) -> None:
    (folder / "root").mkdir()
    (folder / "root" / "train").touch()


def _hidden(folder: Path) -> None:
    (folder / "root/train/.scene").mkdir(parents=True)
    write(folder / "root/train/.scene")


def _loop(folder: Path) -> None:
    (folder / "root" / "train" / "loop").symlink_to("..")


def _dangling(folder: Path) -> None:
    (folder / "root" / "train" / "scene" / "00002.h5").symlink_to("nowhere.h5")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "root" / "train" / "scene" / "00002.h5")
