"""The way every command starts and ends: its streams, its errors, its exit code.

    if __name__ == "__main__":
        run_script(main)

Exit codes: 0 done; 1 a check that found something, or a bug with its traceback; 2 an error in one
sentence; 75 stopped on request and saved; 130 interrupted by Ctrl-C; 141 the output's reader has
ended (`| head`).
"""

import contextlib
import errno
import gc
import os
import select
import sys
from collections.abc import Callable
from typing import NoReturn

from dataloaders import DataError
from dataloaders.workers import worker_death
from engine.errors import UserError, is_memory_error, library_sentence, message_of, system_sentence
from engine.signals import EXIT_STOPPED, Stopped
from models import PretrainedError

EXIT_ERROR, EXIT_INTERRUPTED, EXIT_NO_READER = 2, 130, 141
# A command's main function: takes the command line, None for sys.argv; may return an exit code.
Main = Callable[[list[str] | None], int | None]


def run_script(main: Main, **options: object) -> NoReturn:
    """Run a command and end the process with its exit code; see `exit_code` for the options."""
    gc.freeze()  # what was imported is no garbage: at its end Python would look through all of it
    open_streams()
    code = exit_code(main, **options)
    try:
        sys.stdout.flush()
    except OSError as error:
        failed = EXIT_NO_READER if _reader_is_gone() else _say(f"error: stdout: {error.strerror}")
        code = code or failed
        _drop_output()
    sys.exit(code)


def exit_code(
    main: Main,
    argv: list[str] | None = None,
    *,
    lower: str = "",
    interrupted: str = "stopped",
    processes: bool = False,
) -> int:
    """Call `main`, print what a user can mend as one sentence on stderr, and return the exit code.

    With --debug, and for what is a bug, the error itself is raised.

    Args:
        lower: the advice after "memory ran out;", such as "try a smaller --batch_size_eval".
        interrupted: the sentence printed after Ctrl-C.
        processes: whether the command divides its work among the processes of torchrun; any other
            refuses to run several times at once.
    """
    command_line = sys.argv[1:] if argv is None else argv
    try:
        world_size = os.environ.get("WORLD_SIZE", "")
        several = os.environ.get("LOCAL_RANK") and world_size.isdecimal() and int(world_size) > 1
        if several and not processes:
            raise UserError(
                "this command runs in one process and torchrun started several; start it with "
                "python"
            )
        return main(argv) or 0
    except Stopped as stopped:
        return _say(f"\n{stopped}", EXIT_STOPPED)
    except KeyboardInterrupt:
        return _say(f"\n{interrupted}", EXIT_INTERRUPTED)
    except SystemExit as exit:  # argparse has printed its help, or what is wrong
        return exit.code if isinstance(exit.code, int) else 0 if exit.code is None else EXIT_ERROR
    except Exception as error:
        is_unread = isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.EIO)
        if is_unread and _reader_is_gone():
            return _drop_output()
        sentence = user_sentence(error, lower)
        if sentence is None or "--debug" in command_line:
            raise
        return _say(f"error: {sentence}")


def user_sentence(error: BaseException, lower: str = "") -> str | None:
    """Return the sentence for an error that a user can mend, None for a bug of this project."""
    if isinstance(error, (UserError, DataError, PretrainedError)):
        return message_of(error)
    if isinstance(error, OSError) and not is_memory_error(error):
        return system_sentence(error)
    # PyTorch reports a dead loader process from a signal handler, wherever that strikes.
    death = worker_death(error)
    return str(death) if death is not None else library_sentence(error, lower)


def open_streams() -> None:
    """Make printing safe whatever the caller left of stdin, stdout and stderr.

    A closed stream goes to the null device, so that no file that is opened later takes its number;
    a character that a stream's encoding lacks is printed with a backslash.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _say(sentence: str, code: int = EXIT_ERROR) -> int:
    with contextlib.suppress(OSError):  # stderr may be what failed
        print(sentence, file=sys.stderr, flush=True)
    return code


def _reader_is_gone() -> bool:
    """Return whether what read stdout or stderr has ended: a pipe (`| head`) or a terminal."""
    if not hasattr(select, "poll"):  # Windows
        return False
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _drop_output() -> int:
    """Send what is left of the output to the null device, so that the interpreter does not try to
    write it at its end; return the exit code."""
    null = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(null, number)
    return EXIT_NO_READER
