"""A small form of the fault suite, and that its judge can tell good from bad."""

import mmap
import os
import signal
import time
from pathlib import Path

import pytest

from dataloaders import DataError
from tests.faults import cases as suite
from tests.faults import malformed
from tests.faults.cases import IN_CONTRACT, OTHER, SENTENCE, Case, run_cases


def test_malformed_inputs_of_every_kind_end_as_intended():
    outcomes = list(run_cases(malformed.some_cases()))
    assert len(outcomes) > 50
    wrong = [(o.case.kind, o.case.name, o.detail) for o in outcomes if o.verdict == OTHER]
    assert not wrong


def test_the_cases_are_many_and_distinct():
    cases = malformed.all_cases()
    assert len(cases) >= 200
    assert len({(case.kind, case.name) for case in cases}) == len(cases)


def raising(error):
    def read(folder):
        raise error

    return read


def die(folder):
    os.kill(os.getpid(), signal.SIGKILL)


def obey(folder):
    (folder / "owned").touch()
    raise DataError("a.h5 is refused")


def take_a_gigabyte(folder):
    """Not from the allocator, which may have as much at hand from what ran before."""
    memory = mmap.mmap(-1, 10**9)
    for page in range(0, len(memory), mmap.PAGESIZE):
        memory[page] = 1
    return 7


@pytest.mark.parametrize(
    ("read", "verdict", "detail"),
    [
        (raising(DataError("a.h5 is broken")), SENTENCE, "is broken"),
        (lambda folder: 7, IN_CONTRACT, ""),
        (lambda folder: 8, OTHER, "not what it should be"),
        (raising(DataError("it is broken")), OTHER, "lacks ['a.h5']"),
        (raising(DataError("a.h5\nis broken")), OTHER, "not one sentence"),
        (raising(KeyError("a.h5")), OTHER, "KeyError"),
        (die, OTHER, "SIGKILL"),
        (obey, OTHER, "was executed"),
        (take_a_gigabyte, OTHER, "MB"),
        (lambda folder: time.sleep(60), OTHER, "still running"),
    ],
)
def test_the_judge_tells_a_sentence_from_everything_else(read, verdict, detail, monkeypatch):
    monkeypatch.setattr(suite, "SECONDS", 2 if detail == "still running" else 60)
    case = Case("kind", "name", Path.touch, read, DataError, ("a.h5",), fine=lambda n: n == 7)
    case = Case(**{**vars(case), "write": lambda folder: None})
    last = Case(**{**vars(case), "read": lambda folder: 7})
    # What comes after a crash or an endless wait is still run.
    outcomes = list(run_cases([case, last]))
    assert (outcomes[0].verdict, outcomes[1].verdict) == (verdict, IN_CONTRACT)
    assert detail in outcomes[0].detail


def test_the_table_counts_every_kind_and_names_what_failed(capsys):
    case = Case("folder", "good", lambda folder: None, lambda folder: 7, DataError)
    assert not malformed.run([case])
    text = capsys.readouterr().out
    assert "folder" in text and "folder, good: was accepted" in text
