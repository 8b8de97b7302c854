"""Two runs started on one folder: the second refuses, the first does not notice."""

import tempfile
import time
from pathlib import Path

from tests.faults.runs import command, differing_files, end_all, make_frames, start, untouched


def run() -> bool:
    """Prints what happened; returns whether it is what should."""
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        data = make_frames(base)
        wrong = twins(data, base / "run", untouched(data, base / "whole"))
    print(f"two runs on one folder: {'; '.join(wrong) or 'the second refused in a sentence'}")
    return not wrong


def twins(data: Path, folder: Path, whole: Path) -> list[str]:
    """What went otherwise than it should."""
    first = start(command(data, folder))
    try:
        while not (folder / "log.jsonl").exists() and first.poll() is None:
            time.sleep(0.1)
        second = start(command(data, folder))
        _, errors = second.communicate()
        wrong = []
        if second.returncode != 2 or "is in use by another run" not in errors:
            wrong.append(f"the second ended with {second.returncode}: {errors[-500:]}")
        first.communicate()
        if first.returncode:
            return [*wrong, f"the first ended with {first.returncode}"]
    finally:
        end_all(first)
    return wrong + differing_files(whole, folder)
