"""How commands end: sentences, exit codes, and what the caller's environment passes on."""

import argparse
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dataloaders.loader import EpochSampler
from engine.cli import exit_code
from engine.config import resolve_device
from engine.errors import CheckpointError, OptionError, RunError, library_sentence
from engine.flags import seed
from engine.training import seed_everything

ROOT = Path(__file__).resolve().parent.parent


def raising(error):
    """A command that does nothing but raise `error`."""

    def main(argv):
        raise error

    return main


def command(code, *, shell="exec {python} -c {code}", **environment):
    """The finished process of a small command; `shell` is how a user starts it."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + code
    line = shell.format(python=sys.executable, code='"$CODE"')
    return subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        env=os.environ | {"CODE": code} | environment,
        timeout=300,
    )


PRINTING = """
from engine.cli import run_script
def main(argv):
    for _ in range(20000):
        print("caf\\u00e9 \\udcff")
run_script(main)
"""


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 419430400 bytes. Error code 12 (Cannot allocate memory)"
        ),
        RuntimeError("std::bad_alloc"),
        RuntimeError("could not create a primitive"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        MemoryError("Unable to allocate 2.00 GiB for an array with shape (1,)"),
    ],
    ids=str,
)
def test_memory_that_runs_out_is_a_sentence_with_the_flags_to_lower(error, capsys):
    assert exit_code(raising(error), [], lower="try a smaller --batch_size_eval") == 2
    message = capsys.readouterr().err
    assert message.startswith("error: memory ran out") and message.count("\n") == 1
    assert message.endswith("; try a smaller --batch_size_eval\n") and "[enforce" not in message


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            RuntimeError("[/pytorch/gloo/pair.cc:598] Connection closed by peer [127.0.0.1]:13"),
            "another process of this run ended",
        ),
        (torch.distributed.DistBackendError("NCCL error in: x.cpp"), "another process of this run"),
        (torch.distributed.DistNetworkError("client socket timed out"), "another process"),
        (torch._dynamo.exc.InternalTorchDynamoError("x"), "leave out --compile"),
        (
            RuntimeError("[enforce fail at x.cc:672] . unexpected pos 64 vs 0"),
            "disk",
        ),
    ],
    ids=str,
)
def test_what_a_library_says_of_the_machine_is_a_sentence(error, sentence, capsys):
    assert exit_code(raising(error), []) == 2
    message = capsys.readouterr().err
    assert sentence in message and message.count("\n") == 1


def test_what_a_user_can_mend_exits_with_2_and_a_bug_shows_itself(capsys):
    for error in (
        OptionError("no flag"),
        CheckpointError("no file"),
        RunError("no run"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "here.csv"),
    ):
        assert exit_code(raising(error), []) == 2
        assert capsys.readouterr().err.startswith("error: ")
        with pytest.raises(type(error)):
            exit_code(raising(error), ["--debug"])
    assert library_sentence(RuntimeError("shape '[2]' is invalid for input of size 3")) is None
    for bug in (RuntimeError("shape '[2]' is invalid"), KeyError("x"), ValueError("x")):
        with pytest.raises(type(bug)):
            exit_code(raising(bug), [])


def test_an_error_of_the_system_names_its_file_without_numbers(capsys):
    exit_code(raising(PermissionError(errno.EACCES, "Permission denied", "a/b.pth")), [])
    assert capsys.readouterr().err == "error: a/b.pth: Permission denied\n"


def test_a_reader_that_ends_early_ends_the_command_quietly():
    done = command(PRINTING, shell="{python} -c {code} | head -n 1; echo ${{PIPESTATUS[0]}}")
    assert done.stdout.splitlines()[-1] == b"141" and done.stderr == b""


def test_output_that_cannot_be_written_is_a_sentence():
    done = command(PRINTING, shell="exec {python} -c {code} > /dev/full")
    assert done.returncode == 2
    assert done.stderr.endswith(b"No space left on device\n") and done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_what_stdout_cannot_encode_is_printed_with_a_backslash(encoding):
    done = command(PRINTING, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines()[0].endswith(b"\\udcff")


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing_and_no_file_takes_their_place(closed, tmp_path):
    code = f"""
import os
from engine.cli import run_script
def main(argv):
    with open({str(tmp_path / "file")!r}, "w") as stream:
        os.write(2, b"a warning of a C library")
        print("printed")
        stream.write(f"{{stream.fileno() > 2}}")
run_script(main)
"""
    assert command(code, shell="exec {python} -c {code} " + closed).returncode == 0
    assert (tmp_path / "file").read_text() == "True"


@pytest.mark.parametrize("name", ["mps", "xpu", "meta", "cuda:99", "cuda:255", "cpu:1", "gpu", ""])
def test_a_device_that_is_not_here_is_a_sentence(name):
    with pytest.raises(OptionError, match="--device"):
        resolve_device(name)


@pytest.mark.parametrize("number", [20261125212345, 2**63 - 1])
def test_any_seed_of_63_bits_runs_and_a_larger_one_is_refused(number):
    assert seed(str(number)) == number
    seed_everything(number)
    sampler = EpochSampler(5, shuffle=True, seed=number)
    sampler.epoch = 3
    assert sorted(index for index, _ in sampler) == list(range(5))
    for text in (str(2**63), "-1", "1.5", "9" * 5000):
        with pytest.raises(argparse.ArgumentTypeError):
            seed(text)


def test_a_command_of_one_process_refuses_to_run_in_several(monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert exit_code(lambda argv: None, []) == 2
    assert "start it with python" in capsys.readouterr().err
    assert exit_code(lambda argv: None, [], processes=True) == 0


def test_a_closed_terminal_asks_a_run_to_save_and_what_it_prints_is_dropped():
    code = """
import os, pty, signal, sys, time
from engine.signals import StopRequest
pid, terminal = pty.fork()
if pid == 0:
    request = StopRequest()
    with request.received():
        print("ready", flush=True)
        while request.signal is None:
            time.sleep(0.05)  # not pause(): the signal may come just before it
        print("to a terminal that is gone", flush=True)
    os._exit(7 if request.signal == signal.SIGHUP else 1)
assert b"ready" in os.read(terminal, 100)
os.close(terminal)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert command(code).returncode == 7


def test_a_run_under_nohup_goes_on_without_its_terminal():
    code = """
import signal
from engine.signals import StopRequest
signal.signal(signal.SIGHUP, signal.SIG_IGN)
request = StopRequest()
with request.received():
    signal.raise_signal(signal.SIGHUP)
assert request.signal is None
"""
    assert command(code).returncode == 0
