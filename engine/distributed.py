"""One training run over several processes, started by torchrun; one process without it.

    torchrun --nproc_per_node=4 train.py ...

Every process holds the whole network and a part of each batch. The functions here do nothing, or
return what they are given, where there is one process, so that the script reads the same.

The processes may be on several machines: docs/cluster.md says what was tried.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engine.errors import OptionError, RunError, is_communication_error, message_of
from engine.heartbeat import Heartbeat
from engine.sync_batchnorm import convert_sync_batchnorm

# What torchrun sets for every process.
_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT", "MASTER_ADDR")
T = TypeVar("T")


@contextlib.contextmanager
def joined(device: torch.device, minutes: float = 30.0) -> Iterator[torch.device]:
    """Join the processes of this run (`start`) and leave them at the end; yield this one's own
    device. Raise RunError with those that are lost where the others cannot be reached any more."""
    device = start(device, minutes)
    heartbeat = Heartbeat(rank(), world_size()) if world_size() > 1 else None
    try:
        yield device
    except RuntimeError as error:
        if heartbeat is None or not is_communication_error(error):
            raise
        raise RunError(
            f"{heartbeat.lost()} ({message_of(error).splitlines()[0][:200]}); a message of its own "
            "may say why, and the run goes on from its last checkpoint with --resume auto"
        ) from error
    finally:
        if heartbeat is not None:
            heartbeat.over.set()
    if dist.is_initialized():
        dist.destroy_process_group()


def start(device: torch.device, minutes: float = 30.0) -> torch.device:
    """Join the processes that torchrun started, if it did, and return this one's own device.

    GPUs communicate through NCCL, CPUs through Gloo. A process waits `minutes` for the others
    before it fails. Raise OptionError for an environment that torchrun does not make, or too few
    GPUs.
    """
    if not os.environ.get("LOCAL_RANK"):
        return device
    local_rank = _local_rank()
    if device.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise OptionError(
                f"process {local_rank} of this machine has no GPU: PyTorch sees "
                f"{torch.cuda.device_count()}; start no more with --nproc_per_node"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        if interface := _interface_to(os.environ["MASTER_ADDR"]):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(minutes=minutes))
    return device


def _interface_to(host: str) -> str | None:
    """Return the network interface by which this machine reaches `host`, None where that is this
    machine itself or the system does not tell.

    Gloo alone takes the one that the machine's name resolves to, on many machines 127.0.0.1.
    """
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 1))  # sends nothing: UDP
            address = socket.inet_aton(probe.getsockname()[0])
            for _, name in socket.if_nameindex() if address[0] != 127 else ():
                with contextlib.suppress(OSError):  # an interface without an address
                    request = struct.pack("256s", name.encode())
                    if fcntl.ioctl(probe, 0x8915, request)[20:24] == address:  # SIOCGIFADDR
                        return name
    return None


def _local_rank() -> int:
    """Return LOCAL_RANK; raise OptionError unless the environment is one that torchrun makes."""
    advice = "start with torchrun, or unset LOCAL_RANK for one process"
    missing = [name for name in _VARIABLES if not os.environ.get(name)]
    if missing:
        raise OptionError(f"LOCAL_RANK is set but not {', '.join(missing)}; {advice}")
    try:
        rank, local_rank, world_size, port = (int(os.environ[name]) for name in _VARIABLES[:4])
    except ValueError:
        rank = local_rank = world_size = port = -1
    if not (0 <= local_rank <= rank < world_size and 0 < port < 2**16):
        found = ", ".join(f"{name}={os.environ[name]}" for name in _VARIABLES)
        raise OptionError(f"the environment is not one that torchrun makes ({found}); {advice}")
    return local_rank


def rank() -> int:
    """Return this process's number, 0 for the one that writes and prints."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return how many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Return whether this is the process that writes and prints."""
    return rank() == 0


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Return the sum of all processes' `tensor`; its own where there is one process."""
    if world_size() == 1:
        return tensor
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total


def any_rank(*flags: bool, device: torch.device) -> list[bool]:
    """Return for each flag whether any process has it set, the same in every process."""
    if world_size() == 1:
        return list(flags)
    return (all_reduce_sum(torch.tensor(flags, dtype=torch.int32, device=device)) > 0).tolist()


def all_gather(value: T) -> list[T]:
    """Return every process's value (plain values, lists, dicts), by rank, in every process."""
    if world_size() == 1:
        return [value]
    values: list = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def check_equal(values: dict[str, object], remedy: str) -> None:
    """Raise OptionError unless all processes, on whatever machine, have the same plain values, by
    what they are called; `remedy` is how they become equal.

    Every process must call it, and all raise the same sentence: the first value that differs.
    """
    (host, first), *others = all_gather((socket.gethostname(), values))
    for rank, (other_host, other) in enumerate(others, start=1):
        for name, value in first.items():
            if other[name] != value:
                raise OptionError(
                    f"process {rank} on {other_host} has {name} {other[name]}, and process 0 on "
                    f"{host} has {value}; {remedy}"
                )


def wrap_ddp(model: nn.Module, device: torch.device, *, sync_batchnorm: bool) -> nn.Module:
    """Return `model` as a process calls it in training: gradients are averaged over processes, and
    with `sync_batchnorm`, in place, batch statistics are those of the whole batch."""
    if world_size() == 1:
        return model
    if sync_batchnorm:
        convert_sync_batchnorm(model, device)
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices)


def sync_context(network: nn.Module, is_update_step: bool) -> contextlib.AbstractContextManager:
    """Return the context of a batch's forward and backward pass: gradients are averaged over the
    processes in that of the optimiser's step alone."""
    if is_update_step or world_size() == 1:
        return contextlib.nullcontext()
    return network.no_sync()


def broadcast_buffers(model: nn.Module) -> None:
    """Broadcast the main process's running statistics, so that all score one network."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def barrier() -> None:
    """Wait until every process calls this."""
    if dist.is_initialized():
        dist.barrier()
