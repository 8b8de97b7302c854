"""A CPU run keeps the memory it frees."""

import platform
import subprocess
import sys

import pytest

# In a process of its own: the request cannot be taken back.
PROGRAM = """
import resource, sys, torch
from engine.precision import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

assert keep_freed_memory() or sys.argv[1] == "without"
for _ in range(10):  # the heap finds its size
    torch.ones(2**24)  # 64 MiB, freed at once
before = faults()
for _ in range(4):
    torch.ones(2**24)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the GNU C library")
def test_freed_memory_is_used_again_without_asking_the_system():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "with"], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 1000  # of 65536 pages that four times 64 MiB are


def test_another_c_library_changes_nothing(monkeypatch):
    from engine import precision

    monkeypatch.setattr(precision.ctypes, "CDLL", lambda name: object())
    assert precision.keep_freed_memory() is False
