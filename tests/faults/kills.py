"""Runs that are killed at random moments, again and again, until one of their processes ends.

What is left must then equal, bit for bit, the run that nobody touched: both checkpoints and both
tables. A power cut is played by copying the folder while it is written to and going on from there.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from engine.run_folder import format_table
from engine.signals import EXIT_STOPPED
from tests.faults.runs import command, differing_files, end_all, make_frames, start, untouched

# A checkpoint every second or so, so that many kills hit one being written.
OFTEN = ("--save_minutes", "0.02")
KINDS = ("SIGTERM", "SIGTERM to all", "SIGINT to all", "SIGKILL", "SIGKILL to all", "power cut")


def run(count: int = 50, seed: int = 0) -> bool:
    """At least `count` kills; prints a table, returns whether every run ended as it should."""
    rng = random.Random(seed)
    kills: Counter[str] = Counter()
    saved: Counter[str] = Counter()
    chains, wrong = 0, []
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        data = make_frames(base)
        started = time.monotonic()
        whole = untouched(data, base / "whole")
        seconds = time.monotonic() - started
        while kills.total() < count:
            chains += 1
            folder = base / f"run_{chains}"
            wrong += chain(data, folder, whole, rng, seconds, kills, saved)
            shutil.rmtree(folder, ignore_errors=True)
    rows = [{"how": k, "kills": kills[k], "left with code 75": saved[k]} for k in KINDS]
    print(format_table(rows))
    print(f"{kills.total()} kills in {chains} runs, {len(wrong)} of which ended otherwise")
    for line in wrong:
        print(f"  {line}")
    return not wrong


def chain(
    data: Path,
    folder: Path,
    whole: Path,
    rng: random.Random,
    seconds: float,
    kills: Counter,
    saved: Counter,
    kinds: tuple[str, ...] = KINDS,
    most: int = 8,
) -> list[str]:
    """Kill a run up to `most` times, then let it end; returns what went wrong."""
    for _ in range(most):
        kind = rng.choice(kinds)
        process = start(command(data, folder, *OFTEN))
        try:
            # Some are hit while Python still starts, most in training, validation or saving.
            time.sleep(rng.uniform(0.2, 1.0) * seconds)
            if process.poll() is not None:
                break
            kills[kind] += 1
            if kind == "power cut":
                cut_power(folder)
                end_all(process)
                restore_power(folder)
                continue
            send(process, kind)
            _, errors = process.communicate(timeout=120)
            saved[kind] += process.returncode == EXIT_STOPPED
            if "Traceback" in errors and process.returncode in (EXIT_STOPPED, 0, 2):
                return [f"{folder.name}: {kind} gave a traceback: {errors[-2000:]}"]
        finally:
            end_all(process)
    process = start(command(data, folder, *OFTEN))
    _, errors = process.communicate()
    if process.returncode:
        return [f"{folder.name}: did not go on: {errors[-2000:]}"]
    return [f"{folder.name}: {name} differs" for name in differing_files(whole, folder)]


def send(process: subprocess.Popen, kind: str) -> None:
    """A signal to the process alone, whose workers must notice, or to all of them."""
    number = getattr(signal, kind.split()[0])
    (os.killpg if kind.endswith("all") else os.kill)(process.pid, number)


def cut_power(folder: Path) -> None:
    """Copy the folder as it is while the run writes to it."""
    copy = folder.with_name(folder.name + "_copy")
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for path in list(folder.iterdir()) if folder.exists() else []:
        # A file renamed meanwhile is a name that the cut left without its file.
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(path, copy / path.name)


def restore_power(folder: Path) -> None:
    """Go on from the copy."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_name(folder.name + "_copy").rename(folder)
