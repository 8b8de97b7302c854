"""A case of the fault suite, and running cases where a crash or an endless wait cannot hurt."""

import multiprocessing
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

SECONDS = 30  # for one case, amply
MEMORY_MB = 900  # beyond what the process had before: a bomb went off

SENTENCE, IN_CONTRACT, OTHER = "intended sentence", "in contract", "other"


@dataclass(frozen=True)
class Case:
    """One malformed input.

    kind: the row of the table. name: unique within the suite.
    write: makes the input in an empty folder. read: what a user's program does with it.
    error, words: the exception and what its one sentence must hold.
    fine: where reading it may also succeed, whether the result keeps the contract.
    no case may leave a file `owned` behind: that is what the hostile ones try to create.
    """

    kind: str
    name: str
    write: Callable[[Path], object]
    read: Callable[[Path], object]
    error: type[Exception]
    words: tuple[str, ...] = ()
    fine: Callable[[object], bool] | None = None


@dataclass
class Outcome:
    """How a case ended: one of the verdicts, and the sentence or what happened instead."""

    case: Case
    verdict: str
    detail: str = field(default="", repr=False)


def run_cases(cases: list[Case]) -> Iterator[Outcome]:
    """Each case's outcome in order, read in a child process that may crash or hang."""
    context = multiprocessing.get_context("fork")
    start = 0
    while start < len(cases):
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_run_in_child, args=(cases[start:], theirs))
        child.start()
        theirs.close()
        for case in cases[start:]:
            start += 1
            if not ours.poll(SECONDS):
                yield Outcome(case, OTHER, f"still running after {SECONDS} s")
                break
            try:
                yield Outcome(case, *ours.recv())
            except EOFError:
                child.join()
                yield Outcome(case, OTHER, f"the process ended with {_ending(child.exitcode)}")
                break
        child.kill()
        child.join()
        ours.close()


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _run_in_child(cases: list[Case], pipe) -> None:
    torch.set_num_threads(1)  # the parent's threads are not in this process
    for case in cases:
        pipe.send(judge(case))
    pipe.close()


def judge(case: Case) -> tuple[str, str]:
    """Runs a case in this process: its verdict, and the sentence or what happened instead."""
    folder = Path(tempfile.mkdtemp(prefix="fault_"))
    try:
        case.write(folder)
        before = _peak_mb()
        verdict = _judge_reading(case, folder)
        if _peak_mb() - before > MEMORY_MB:
            return OTHER, f"took {_peak_mb() - before:.0f} MB"
        if any(folder.rglob("owned")):
            return OTHER, "what the input holds was executed"
        return verdict
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _judge_reading(case: Case, folder: Path) -> tuple[str, str]:
    try:
        result = case.read(folder)
    except case.error as error:
        sentence = str(error)
        missing = [word for word in case.words if word not in sentence]
        if missing:
            return OTHER, f"the sentence lacks {missing}: {sentence[:300]}"
        if "\n" in sentence or len(sentence) > 800:
            return OTHER, f"not one sentence: {sentence[:300]!r}"
        return SENTENCE, sentence
    except Exception as error:
        return OTHER, f"{type(error).__name__}: {str(error)[:300]}"
    if case.fine is None:
        return OTHER, "was accepted"
    with suppress(Exception):
        if case.fine(result):
            return IN_CONTRACT, ""
    return OTHER, "was accepted and is not what it should be"


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
