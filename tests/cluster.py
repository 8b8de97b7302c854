"""Two machines on one: network namespaces with a cable between them, and a torchrun in each.

    python -m tests.cluster                    # every fault: some minutes on two cores
    python -m tests.cluster --only partition   # those whose name holds a word

Prints for each fault what happened, the seconds until a process noticed, and what was lost. Needs
Linux, `ip`, `unshare` and `nsenter`, and root or user namespaces; nothing outlives the command.
"""

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import torch

from engine.run_folder import LAST, format_table
from tests.conftest import write_frames
from tests.faults.runs import ROOT, differing_files

STEPS = 6
FLAGS = ["--arch", "resnet10_half", "--cspn_step", "2", "--batch_size_train", "2", "--nesterov"]
FLAGS += ["--num_workers", "0", "--device", "cpu", "--resume", "auto", "--num_epoch", "3"]
EVERY_STEP = ["--save_minutes", "0.0001"]  # a checkpoint after each
PORT = 29500
# PyTorch 2.15 tells a node that joins later nothing of the store that the first ones share.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
LIMIT = 240  # seconds after which a case is given up
TRAINING = "-u train.py"  # of a training process's command line, not torchrun's
ENDED = r"error: (.*(?:ended|is stopped|cannot be reached|--dist_timeout).*)"


class Unavailable(Exception):
    """This machine does not let the test make networks; the message says why."""


class Node:
    """A machine: a network and a host name of its own, and what torchrun runs in them.

    Args:
        beside: a node whose user namespace this one shares, None for the first.
    """

    def __init__(self, number: int, beside: "Node | None"):
        self.number, self.address = number, f"10.77.0.{number + 1}"
        self.job: subprocess.Popen | None = None
        self.log = Path()
        user = [] if os.geteuid() == 0 else ["--map-root-user"]
        start = beside.inside if beside else []
        start = [*start, "unshare", *([] if beside else user), "--net", "--uts"]
        name = f"echo node{number} > /proc/sys/kernel/hostname; echo ready; exec sleep 3600"
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.holder = subprocess.Popen([*start, "sh", "-c", name], **pipes)
        if self.holder.stdout.readline() != "ready\n":
            raise Unavailable(" ".join(self.holder.communicate()[1].split()))
        self.network = (Path("/proc") / str(self.holder.pid) / "ns/net").readlink()
        self.inside = ["nsenter", f"--target={self.holder.pid}", "--net", "--uts"]
        self.inside += ["--user", "--preserve-credentials"] if user else []

    def call(self, *command: str) -> None:
        """Run a command on this machine to its end."""
        done = subprocess.run([*self.inside, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"{' '.join(command)}: {done.stderr.strip()}")

    def torchrun(self, data: Path, folder: Path, *flags: str, nnodes: str = "2") -> None:
        """Start torchrun with one process; it goes on where `folder` holds a run."""
        self.log = folder.parent / f"{folder.name}_node{self.number}.log"
        rendezvous = [f"--rdzv_endpoint=10.77.0.1:{PORT}", f"--local_addr={self.address}"]
        rendezvous += [f"--rdzv_conf=is_host={int(self.number == 0)},last_call_timeout=2"]
        command = ["-m", "torch.distributed.run", f"--nnodes={nnodes}", "--rdzv_backend=c10d"]
        command += [*rendezvous, "--nproc_per_node=1", "--max_restarts=3", "train.py", *FLAGS]
        command += ["--data_root", str(data), "--save_dir", str(folder), *flags]
        with self.log.open("a") as stream:
            self.job = subprocess.Popen(
                [*self.inside, sys.executable, *command],
                cwd=ROOT,
                stdout=stream,
                stderr=stream,
                env=ENVIRONMENT,
            )

    def processes(self, part: str = "") -> list[int]:
        """Return the processes of this machine whose command line holds `part`."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                if (process / "ns/net").readlink() == self.network:
                    command = (process / "cmdline").read_text().replace("\0", " ")
                    found += [int(process.name)] * (part in command)
        return [pid for pid in found if pid != self.holder.pid]

    def signal(self, number: int, part: str = "") -> None:
        """Send a signal to `processes(part)`."""
        for pid in self.processes(part):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """End every process of the machine, if there are any."""
        while self.job is not None and self.processes():
            self.signal(signal.SIGKILL)
            self.job.wait()

    def wait_for(self, pattern: str, seconds: float = LIMIT) -> str:
        """Wait until the log of torchrun matches; return the first group."""
        return wait_until(lambda: re.search(pattern, self.log.read_text()), pattern, seconds)[1]

    def close(self) -> None:
        self.kill()
        self.holder.kill()
        self.holder.communicate()


def wait_until(condition: Callable[[], object], what: str, seconds: float = LIMIT):
    """Return what `condition` returns once that is true; raise TimeoutError after `seconds`."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def two_nodes() -> Iterator[list[Node]]:
    """Two machines with a cable between them; both end with the context.

    Raises:
        Unavailable: this machine does not allow it.
    """
    with contextlib.ExitStack() as stack:
        try:
            nodes = [Node(0, None)]
            stack.callback(nodes[0].close)
            nodes.append(Node(1, nodes[0]))
        except FileNotFoundError as error:
            raise Unavailable(f"{error.filename} is not installed") from error
        stack.callback(nodes[1].close)
        peer = ["peer", "name", "cable", "netns", str(nodes[1].holder.pid)]
        nodes[0].call("ip", "link", "add", "cable", "type", "veth", *peer)
        for node in nodes:
            node.call("ip", "address", "add", f"{node.address}/24", "dev", "cable")
            node.call("ip", "link", "set", "lo", "up")
            node.call("ip", "link", "set", "cable", "up")
        yield nodes


def plug(node: Node, state: str) -> None:
    """Connect the cable ("up") or cut it ("down"): packets vanish, no connection is closed."""
    node.call("ip", "link", "set", "cable", state)


def untouched(data: Path, folder: Path, *flags: str) -> Path:
    """Train on one machine with two processes; return the run folder."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["train.py", *FLAGS, "--data_root", str(data), "--save_dir", str(folder), *flags]
    subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    return folder


def train(nodes: list[Node], data: Path, folder: Path, *flags: str, **options: str) -> None:
    """Start the run on every machine."""
    for node in nodes:
        node.torchrun(data, folder, *flags, **options)


def finish(nodes: list[Node], seconds: float = LIMIT) -> None:
    """Wait for the end of every machine's torchrun; raise RuntimeError where one failed."""
    for node in nodes:
        if node.job.wait(seconds):
            raise RuntimeError(f"node {node.number}: {node.log.read_text()[-3000:]}")


def saved_step(folder: Path) -> int:
    """Return the step of the last checkpoint."""
    return torch.load(folder / LAST, weights_only=True, mmap=True)["step"]


def events(folder: Path) -> pd.DataFrame:
    """Return the run's log."""
    return pd.read_json(folder / "log.jsonl", lines=True)


class Case:
    """One fault in a run of six steps, after the first checkpoint.

    Attributes:
        at: seconds since the epoch's clock at which the fault happened. step: of the checkpoint
            that was there.
    """

    def __init__(self, nodes: list[Node], data: Path, folder: Path):
        self.nodes, self.data, self.folder = nodes, data, folder
        self.row = {"noticed after": "-", "sentence": "", "processes at the end": 2}

    def start(self, *flags: str, **options: str) -> None:
        """Train until there is a checkpoint."""
        train(self.nodes, self.data, self.folder, *EVERY_STEP, *flags, **options)
        wait_until(lambda: (self.folder / LAST).exists(), "the first checkpoint")
        self.at, self.step = time.monotonic(), saved_step(self.folder)

    def noticed_by(self, node: Node) -> None:
        """Wait until the process on a machine says which other one is lost."""
        self.row["sentence"] = node.wait_for(ENDED).partition(" (")[0]
        self.row["noticed after"] = f"{time.monotonic() - self.at:.0f} s"

    def resumed_step(self) -> int | None:
        """Return the step that the run went on from, None where it never stopped."""
        log = events(self.folder)
        steps = log.loc[log["event"] == "resumed", "step"]
        return None if steps.empty else int(steps.iloc[0])


def node_killed(case: Case) -> None:
    """A machine ends and comes back."""
    case.start()
    case.nodes[1].kill()
    case.noticed_by(case.nodes[0])
    case.nodes[1].torchrun(case.data, case.folder, *EVERY_STEP)
    finish(case.nodes)


def power_cut(case: Case) -> None:
    """A machine vanishes without closing a connection, and comes back."""
    case.start("--dist_timeout", "0.5")
    plug(case.nodes[1], "down")
    case.nodes[1].kill()
    case.noticed_by(case.nodes[0])
    plug(case.nodes[1], "up")
    case.nodes[1].torchrun(case.data, case.folder, *EVERY_STEP, "--dist_timeout", "0.5")
    finish(case.nodes)


def node_gone(case: Case) -> None:
    """A machine ends for good; --nnodes=1:2 lets the other one go on alone."""
    case.start(nnodes="1:2")
    case.nodes[1].kill()
    case.noticed_by(case.nodes[0])
    finish(case.nodes[:1])
    case.row["processes at the end"] = 1


def slow_node(case: Case) -> None:
    """A training process stands still for five seconds, twice."""
    case.start()
    for _ in range(2):
        case.nodes[1].signal(signal.SIGSTOP, TRAINING)
        time.sleep(5)
        case.nodes[1].signal(signal.SIGCONT, TRAINING)
        time.sleep(1)
    finish(case.nodes)


def stopped_node(case: Case) -> None:
    """A training process stands still for longer than --dist_timeout."""
    case.start("--dist_timeout", "0.5")
    case.nodes[1].signal(signal.SIGSTOP, TRAINING)
    case.noticed_by(case.nodes[0])
    case.nodes[1].signal(signal.SIGCONT, TRAINING)
    finish(case.nodes)


def short_partition(case: Case) -> None:
    """The cable is cut for eight seconds."""
    case.start()
    plug(case.nodes[1], "down")
    time.sleep(8)
    plug(case.nodes[1], "up")
    finish(case.nodes)


def long_partition(case: Case) -> None:
    """The cable is cut for longer than --dist_timeout, and mended."""
    flags = ("--dist_timeout", "0.5")
    case.start(*flags)
    plug(case.nodes[1], "down")
    case.noticed_by(case.nodes[0])
    plug(case.nodes[1], "up")
    with contextlib.suppress(subprocess.TimeoutExpired):
        case.nodes[1].job.wait(20)
        case.nodes[1].torchrun(case.data, case.folder, *EVERY_STEP, *flags)
    finish(case.nodes)


def main_node_killed(case: Case) -> None:
    """The machine of process 0 ends, and with it the rendezvous: the job is started anew."""
    case.start()
    case.nodes[0].kill()
    case.noticed_by(case.nodes[1])
    case.nodes[1].job.wait(LIMIT)
    train(case.nodes, case.data, case.folder, *EVERY_STEP)
    finish(case.nodes)


FAULTS: dict[str, Callable[[Case], None]] = {
    "node killed": node_killed,
    "node without power": power_cut,
    "node gone for good": node_gone,
    "slow node": slow_node,
    "stopped node": stopped_node,
    "short partition": short_partition,
    "long partition": long_partition,
    "machine of rank 0 lost": main_node_killed,
}


def run_fault(name: str, data: Path, whole: Path, base: Path) -> dict:
    """Return a row on one fault; `failed` is empty where the run ended as it should."""
    folder = base / name.replace(" ", "_")
    started = time.monotonic()
    with two_nodes() as nodes:
        case, failed = Case(nodes, data, folder), ""
        try:
            FAULTS[name](case)
            resumed = case.resumed_step()
            lost = resumed is not None and resumed < case.step
            alone = case.row["processes at the end"] == 1
            if saved_step(folder) != STEPS or lost:
                failed = f"ends at step {saved_step(folder)}, went on from {resumed}"
            elif not alone:
                failed = ", ".join(differing_files(whole, folder))
            case.row["went on from step"] = "never stopped" if resumed is None else resumed
        except (TimeoutError, subprocess.TimeoutExpired, RuntimeError, OSError) as error:
            failed = f"{type(error).__name__}: {error}"[:3000]
    seconds = f"{time.monotonic() - started:.0f} s"
    return {"fault": name, **case.row, "in all": seconds, "failed": failed}


def main(argv: list[str] | None = None) -> int:
    """Run the faults asked for; return 1 where a run ended otherwise than it should."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument(
        "--only", nargs="+", default=[""], help="faults whose name holds one of these (default all)"
    )
    parser.add_argument(
        "--keep", type=Path, help="folder for runs and logs, whose undisturbed run serves again"
    )
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the machines end too
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        base = args.keep or Path(temporary)
        data = write_frames(base / "frames", n_train=4, n_val=2)
        whole = base / "whole"
        if not (whole / "eval.csv").exists():
            untouched(data, whole)
        for name in FAULTS:
            if any(word in name for word in args.only):
                rows.append(run_fault(name, data, whole, base))
                print(" | ".join(f"{key}: {value}" for key, value in rows[-1].items()), flush=True)
    print(format_table(rows))
    return int(any(row["failed"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
