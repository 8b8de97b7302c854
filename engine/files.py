"""Writing a file so that its name never holds half of it."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import pandas as pd


@contextlib.contextmanager
def whole_file(path: Path, *, keep_as: Path | None = None, durable: bool = False) -> Iterator[Path]:
    """Yield the path of a file beside `path`, of the same ending, for the context to write; only
    when it is written does it get the name.

    A reader of `path`, or of what a power cut leaves, finds the old content or the new one. A write
    that fails (a full disk) leaves the old file and removes what was written beside it.

    Args:
        keep_as: name under which the old file stays.
        durable: whether the file survives a power cut from here on, which waits for the disk.

    Raises:
        OSError: the disk is full, or the folder cannot be written to; it names `path`.
    """
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield part
        if durable:
            _flush(part)
        if keep_as is not None and path.exists():
            path.replace(keep_as)
        part.replace(path)
    except OSError as error:
        if error.errno is None:  # NumPy's, which counts what was written
            raise OSError(f"{path} could not be written: {error}") from error
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    if durable:
        with contextlib.suppress(OSError):  # some file systems cannot open or flush a folder
            _flush(path.parent)  # a new name is on disk once its folder is


def replace_file(
    path: Path, write: Callable[[BinaryIO], object], *, keep_as: Path | None = None
) -> None:
    """Write a durable `whole_file` through `write`, which puts the content into an open file."""
    with whole_file(path, keep_as=keep_as, durable=True) as part, part.open("wb") as stream:
        write(stream)


def replace_text(path: Path, text: str) -> None:
    """Write a text durably, in UTF-8, as `replace_file` does. Bytes of a file name that are no text
    in this system's encoding are written with backslashes."""
    replace_file(path, lambda stream: stream.write(text.encode(errors="backslashreplace")))


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table durably: a header, then a line per row, numbers to six digits."""
    text = table.to_csv(index=False, float_format="%.6g", na_rep="nan", lineterminator="\n")
    replace_text(path, text)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
