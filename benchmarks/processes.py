"""Training by one and by several processes of one machine: images a second, and memory of each.

    python -m benchmarks.processes --arch resnet18 --batch 4

Every process has as many threads as `--threads`; the batch is that of all of them together, and its
gradients go through Gloo on a CPU (NCCL on a GPU), as in train.py under torchrun.
"""

import argparse
import statistics
import subprocess
import sys
import time

import torch

from benchmarks.timing import peak_memory, write_results
from benchmarks.training import Step
from engine import distributed
from engine.precision import keep_freed_memory


def one_process(args: argparse.Namespace) -> None:
    """Train on this process's part of the batch; the first one prints seconds a step and the
    largest peak of memory in bytes."""
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    with distributed.joined(torch.device(args.device)) as device:
        part = args.batch // distributed.world_size()
        step = Step("this project, float32", args.arch, part, tuple(args.size), str(device))
        step.network = distributed.wrap_ddp(step.network, device, sync_batchnorm=False)
        step()
        seconds = []
        for _ in range(args.repeats):
            distributed.barrier()
            started = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - started)
        on_gpu = device.type == "cuda"
        memory = torch.cuda.max_memory_allocated(device) if on_gpu else peak_memory()
        peak = max(distributed.all_gather(memory))
        if distributed.is_main():
            print(f"\n{statistics.median(seconds)},{peak}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--processes", type=int, nargs="+", default=(1, 2), help="default 1 2")
    parser.add_argument("--threads", type=int, default=1, help="of each process (default 1)")
    parser.add_argument("--arch", default="resnet18", help="resnet18 (default) or resnet50")
    parser.add_argument("--batch", type=int, default=4, help="images of all together (default 4)")
    parser.add_argument("--size", type=int, nargs=2, default=(228, 304), help="height width")
    parser.add_argument("--repeats", type=int, default=7, help="timed steps (default 7)")
    parser.add_argument("--of_torchrun", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.of_torchrun:
        one_process(args)
        return
    own = sys.argv[1:] if argv is None else argv
    rows = []
    for processes in args.processes:
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command = [sys.executable, *launch, "-m", "benchmarks.processes", *own, "--of_torchrun"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        seconds, peak = map(float, done.stdout.strip().splitlines()[-1].split(","))
        rows.append(
            {
                "processes": processes,
                "arch": args.arch,
                "batch": args.batch,
                "size": f"{args.size[0]}x{args.size[1]}",
                "ms": 1000 * seconds,
                "images_per_second": args.batch / seconds,
                "times_one": 1.0,
                "peak_MB": peak / 1e6,
            }
        )
        rows[-1]["times_one"] = rows[-1]["images_per_second"] / rows[0]["images_per_second"]
    torch.set_num_threads(args.threads)
    write_results("processes", torch.device(args.device), rows)


if __name__ == "__main__":
    main()
