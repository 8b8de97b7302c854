"""Reading what `torch.save` wrote, and a true sentence about a file that it did not write.

PyTorch stores a file as an archive whose records carry checksums, but does not look at them when
it loads. They are looked at here, so a file that a bad disk or transfer has altered is refused.
"""

import pickle
import re
import warnings
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from engine.errors import CheckpointError, is_memory_error

# Kinds of files that are taken for checkpoints: by the first bytes, by records of an archive.
_NOT_CHECKPOINTS = (
    (rb"version https://git-lfs", "a pointer of Git LFS, not the file itself: git lfs pull"),
    (rb"\s*<(?:!DOCTYPE|!doctype|html|\?xml)", "a web page: the download did not work"),
    (rb"\x89HDF", "an HDF5 file, expected a checkpoint of PyTorch"),
)
_NOT_CHECKPOINT_RECORDS = (
    (
        r"^[^/]+/(?:constants\.pkl$|code/)",
        "a TorchScript program (torch.jit.save), which holds code; expected weights: "
        "torch.save(model.state_dict(), PATH)",
    ),
    (
        r"serialized_exported_program|^[^/]+/(?:archive_format$|models/)",
        "a program of torch.export, expected weights: torch.save(model.state_dict(), PATH)",
    ),
    (r"\.npy$", "an archive of NumPy arrays, expected a checkpoint of PyTorch"),
)


def safe_load(path: Path) -> object:
    """Return what `torch.save` or safetensors wrote, checksums compared, nothing in it executed;
    raise CheckpointError where it is damaged or holds more than tensors and builtins."""
    with path.open("rb") as stream:  # a file that may not be read raises its own error
        start = stream.read(64)
    for pattern, kind in _NOT_CHECKPOINTS:
        if re.match(pattern, start, re.DOTALL):
            raise CheckpointError(f"{path} is {kind}")
    try:
        if re.match(rb".{7}\x00\s*\{", start, re.DOTALL):
            return load_file(path)
        if start.startswith(b"PK"):
            _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's guesses about a strange file
            return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f" but a pickled {found[1]} too" if found else ""
        raise CheckpointError(
            f"{path} is not a checkpoint of tensors and plain values{what}, which is all that is "
            "loaded; torch.save(model.state_dict(), PATH) makes one"
        ) from error
    except Exception as error:  # a damaged file can make its reader fail in any way
        if is_memory_error(error):
            raise
        raise CheckpointError(f"{path} is truncated or not a checkpoint") from error


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for pattern, kind in _NOT_CHECKPOINT_RECORDS:
            if any(re.search(pattern, name) for name in archive.namelist()):
                raise CheckpointError(f"{path} is {kind}")
        # PyTorch never compresses; a small file that unpacks to terabytes would have to.
        if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
            raise CheckpointError(f"{path} holds compressed records, which PyTorch never writes")
        altered = archive.testzip()
    if altered is not None:
        raise CheckpointError(f"{path} is damaged: the checksum of its part {altered} differs")
