"""Writing a file so that its name never holds half of it."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pandas as pd


def replace_file(
    path: Path,
    write: Callable[[BinaryIO], object],
    *,
    keep_as: Path | None = None,
    durable: bool = True,
) -> None:
    """Fill a file beside `path`, flush it to disk, and only then give it the name.

    Whoever reads `path`, or finds it after a power cut, sees the old content or the new one. A
    write that fails (a full disk) leaves the old file and removes what was written beside it.

    Args:
        write: puts the content into the open file.
        keep_as: name under which the old file stays.
        durable: whether the file survives a power cut once this returns, which waits for the disk.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as stream:
            write(stream)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        if keep_as is not None and path.exists():
            path.replace(keep_as)
        part.replace(path)
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error  # name the file
        raise
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    if durable:
        _flush_folder(path.parent)


def replace_text(path: Path, text: str) -> None:
    """`replace_file` for a text in UTF-8. What a file name holds that is no text in this system's
    encoding is written with backslashes."""
    replace_file(path, lambda stream: stream.write(text.encode(errors="backslashreplace")))


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """`replace_file` for a table: a header, then a line per row, numbers to six digits."""
    text = table.to_csv(index=False, float_format="%.6g", na_rep="nan", lineterminator="\n")
    replace_text(path, text)


def _flush_folder(folder: Path) -> None:
    """A new name is on disk once its folder is; where folders cannot be opened, it is anyway."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems refuse to flush a folder
    finally:
        os.close(descriptor)
