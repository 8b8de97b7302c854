"""Medians of interleaved runs, peak memory, and the CSV files behind docs/benchmarks.md."""

import argparse
import csv
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from engine.precision import keep_freed_memory, use_exact_float32

RESULTS = Path(__file__).resolve().parent / "results"


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Where the forms run, and what they do with memory there; see `chosen_device`."""
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--give_back_memory",
        action="store_true",
        help="on a CPU hand freed memory back to the system at once, as PyTorch alone does",
    )


def chosen_device(args: argparse.Namespace) -> torch.device:
    """The device of `add_device_options`. On a CPU this process keeps from now on what it frees,
    as this project's scripts do, the plain form's memory too, unless --give_back_memory forbids."""
    device = torch.device(args.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        use_exact_float32()
        torch.backends.cudnn.benchmark = True  # as in train.py and eval.py
    elif not args.give_back_memory:
        keep_freed_memory()
    return device


def medians(
    functions: dict[str, Callable[[], object]], device: torch.device, repeats: int, run: int = 1
) -> dict[str, float]:
    """Median seconds of each function, after a warm-up; the functions take turns of `run` calls, so
    that a busy moment of the machine does not fall on one of them alone. In turns of several calls
    most find the caches as they left them, not as another function did."""
    for function in functions.values():
        function()
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            for _ in range(run):
                _synchronize(device)
                started = time.perf_counter()
                function()
                _synchronize(device)
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def saved_bytes(function: Callable[[], object], excluded: list[torch.Tensor] = ()) -> int:
    """Bytes of the tensors that autograd keeps for backward while `function` runs, each storage
    once; `excluded` (the inputs, which exist anyway) do not count."""
    known = {tensor.untyped_storage().data_ptr() for tensor in excluded}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        held.append(tensor)  # alive until the count is taken, so that no address is used twice
        return tensor

    held: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()
    del result
    return sum(kept.values())


def reset_peak_memory() -> int:
    """Forget this process's peak; returns the bytes resident now (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak_memory() -> int:
    """The most bytes resident since `reset_peak_memory` (Linux)."""
    return _status("VmHWM")


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_new_process(module: str, *arguments: object) -> str:
    """Run `python -m module arguments` and return what it prints, for memory measurements."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout.strip()


def describe(device: torch.device) -> str:
    """Hardware, versions and date: what every results file must say."""
    if device.type == "cuda":
        hardware = torch.cuda.get_device_name(device)
    else:
        hardware = f"{_cpu_name()}, {torch.get_num_threads()} threads"
    return (
        f"{hardware}; torch {torch.__version__}, Python {platform.python_version()}; "
        f"{time.strftime('%Y-%m-%d')}"
    )


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def write_results(name: str, device: torch.device, rows: list[dict]) -> Path:
    """Print rows as a table and write them to results/<name>_<cpu or cuda>.csv."""
    about = describe(device)
    print(about)
    widths = {key: max(len(key), *(len(_text(row[key])) for row in rows)) for key in rows[0]}
    print("  ".join(key.ljust(widths[key]) for key in rows[0]))
    for row in rows:
        print("  ".join(_text(row[key]).ljust(widths[key]) for key in row))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}_{device.type}.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=[*rows[0], "measured_on"])
        writer.writeheader()
        writer.writerows(
            {**{k: _text(v) for k, v in row.items()}, "measured_on": about} for row in rows
        )
    print(f"written to {path}")
    return path


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
