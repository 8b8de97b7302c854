"""Errors as one sentence on stderr and an exit code, a traceback only with `--debug`."""

import sys
from collections.abc import Callable

from dataloaders import DataError
from dataloaders.workers import worker_death
from engine.checkpoint import CheckpointError
from engine.flags import OptionError
from engine.stopping import EXIT_STOPPED, Stopped
from models import PretrainedError


class RunError(RuntimeError):
    """A run that cannot go on; the message is one sentence."""


# What a user's files, flags or machine can cause; anything else is a bug and shows itself.
EXPECTED = (DataError, PretrainedError, CheckpointError, OptionError, RunError, OSError)


def run_script(main: Callable[[list[str] | None], None]) -> None:
    """Call `main` with the command line; exit 2 with a sentence where it raises what we expect,
    75 where it was asked to stop and has saved where it is."""
    try:
        main(None)
    except EXPECTED as error:
        if "--debug" in sys.argv[1:]:
            raise
        sys.exit(_fail(error))
    except Stopped as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        sys.exit(EXIT_STOPPED)
    except RuntimeError as error:
        # PyTorch reports a dead loader process from a signal handler, wherever that strikes.
        death = worker_death(error)
        if death is None:
            raise
        sys.exit(_fail(death))
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)


def _fail(error: BaseException) -> int:
    sentence = str(error).strip()
    # A loader worker hands its error over as text, with its traceback before the message.
    marker = f"{type(error).__name__}: "
    if "Original Traceback" in sentence and marker in sentence:
        sentence = sentence.rsplit(marker, 1)[1].strip()
    if "out of memory" in sentence.lower():
        sentence += " (try a smaller --batch_size_train or --batch_size_eval)"
    print(f"error: {sentence}", file=sys.stderr)
    return 2
