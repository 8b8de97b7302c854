"""One training run over several processes, started by torchrun; one process without it.

    torchrun --nproc_per_node=4 train.py ...

Every process holds the whole network and a share of each batch. The functions here do nothing, or
return what they are given, where there is one process, so that the script reads the same.
"""

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engine.sync_batchnorm import convert_sync_batchnorm

# A process that waits this long for the others takes them for dead.
TIMEOUT = timedelta(minutes=30)


def start(device: torch.device) -> torch.device:
    """Join the processes that torchrun started, if it did; returns this one's own device.

    GPUs talk through NCCL, CPUs through Gloo.
    """
    if "LOCAL_RANK" not in os.environ:
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=TIMEOUT)
    return device


def stop() -> None:
    """Leave the other processes in good order."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, 0 for the one that writes and prints."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


def summed(tensor: Tensor) -> Tensor:
    """The sum of all processes' `tensor`; its own where there is one process."""
    if world_size() == 1:
        return tensor
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total


def any_process(*flags: bool, device: torch.device) -> list[bool]:
    """For each flag, whether any process has it set; all processes get the same answer."""
    if world_size() == 1:
        return list(flags)
    return (summed(torch.tensor(flags, dtype=torch.int32, device=device)) > 0).tolist()


def gathered(rows: list) -> list[list]:
    """Every process's list, by rank, in every process."""
    if world_size() == 1:
        return [rows]
    lists: list[list] = [[] for _ in range(world_size())]
    dist.all_gather_object(lists, rows)
    return lists


def shared(model: nn.Module, device: torch.device, *, sync_batchnorm: bool) -> nn.Module:
    """`model` as each process calls it in training: gradients are averaged over the processes.

    Args:
        sync_batchnorm: take batch statistics over all processes, in place; without it each
            process normalises by its own share of the batch.
    """
    if world_size() == 1:
        return model
    if sync_batchnorm:
        convert_sync_batchnorm(model, device)
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices)


def share_buffers(model: nn.Module) -> None:
    """Give every process the main one's running statistics, so that all score one network."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def wait_for_all() -> None:
    """Return once every process has come here."""
    if dist.is_initialized():
        dist.barrier()
