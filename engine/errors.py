"""Errors that a user can mend, each one sentence: what was expected, what was found, the way out.

A leaf: it imports nothing of this project. `engine.cli` turns these errors into exit codes.
"""

import errno
import re


class UserError(Exception):
    """What a user's files, flags or machine caused; the message is one sentence."""


class OptionError(UserError, ValueError):
    """Flags that are wrong or do not go together."""


class CheckpointError(UserError, ValueError):
    """A checkpoint that cannot be used."""


class RunError(UserError, RuntimeError):
    """A run that cannot go on."""


# Pattern in "module.Class: message" of an error of PyTorch, NumPy or the system -> its sentence.
_LIBRARY_ERRORS = (
    (
        r"OutOfMemory|MemoryError|bad_alloc|DefaultCPUAllocator|out of memory|STATUS_ALLOC_FAILED"
        r"|Cannot allocate memory|could not create a (?:primitive|memory)",
        "memory ran out{detail}; {lower}",
    ),
    (
        r"^torch\._(?:dynamo|inductor)\..*(?:C\+\+ compiler|CppCompile|CXX|cl is not found)",
        "--compile needs a working C++ compiler: install g++, name one in CXX, or leave out "
        "--compile{detail}",
    ),
    (
        r"^torch\._(?:dynamo|inductor|functorch)\.|^triton\.",
        "--compile failed{detail}; leave out --compile",
    ),
    (
        r"^torch\.(?:distributed|_C\._distributed_c10d)\b|\b[Gg]loo\b|\bNCCL\b|\bTCPStore\b"
        r"|Connection (?:closed|reset) by peer",
        "another process of this run ended or cannot be reached{detail}; its own message says "
        "why, and a run goes on from its last checkpoint with --resume",
    ),
    (
        r"^RuntimeError: .*(?:unexpected pos \d+|PytorchStreamWriter failed)|No space left",
        "a file could not be written{detail}; is the disk full?",
    ),
)
_LARGEST_DETAIL = 200  # characters of a library's own words


def library_sentence(error: BaseException, lower: str = "") -> str | None:
    """Return the sentence for an error of PyTorch, NumPy or the C library that a user can mend,
    with the library's own words in brackets; None for any other error.

    Args:
        error: raised anywhere, in a loader process too.
        lower: what takes less memory in this command, such as "try a smaller --batch_size_eval".
    """
    is_library = isinstance(error, (RuntimeError, MemoryError, ImportError))
    if not is_library and getattr(error, "errno", None) != errno.ENOMEM:
        return None
    kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    for pattern, sentence in _LIBRARY_ERRORS:
        if re.search(pattern, f"{kind}: {error}", re.DOTALL):
            # The first line of the message, without the place it was raised at.
            text = re.sub(r"^\[[^\]]*\]\s*(?:err == 0\.\s*)?", "", message_of(error)).strip()
            words = text.partition("\n")[0].strip().rstrip(".")[:_LARGEST_DETAIL]
            detail = f" ({words})" if words else ""
            return sentence.format(detail=detail, lower=lower or "close other programs")
    return None


def is_memory_error(error: BaseException) -> bool:
    """Return whether memory ran out, on a CPU or on a GPU."""
    return (library_sentence(error) or "").startswith("memory ran out")


def is_communication_error(error: BaseException) -> bool:
    """Return whether another process of the run ended or cannot be reached."""
    return (library_sentence(error) or "").startswith("another process of this run")


def system_sentence(error: OSError) -> str:
    """Return an error of the system as "FILE: what happened"."""
    if error.strerror is None:
        return str(error)
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ": ".join([" -> ".join(names), error.strerror] if names else [error.strerror])


def message_of(error: BaseException) -> str:
    """Return the message alone; a loader process hands its error over behind a traceback."""
    text, marker = str(error).strip(), f"{type(error).__name__}: "
    if "Original Traceback" in text and marker in text:
        text = text.rsplit(marker, 1)[1].strip()
    return text
