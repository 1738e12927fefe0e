"""Data parallelism: ``torchrun`` starts the processes, this joins them. One process needs none of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist

from tinynas.files import process_number
from tinynas.train.loop import pick_device


@contextlib.contextmanager
def process_group() -> Iterator[torch.device]:
    """The process group of ``torchrun`` (NCCL on GPUs, Gloo on CPUs) for the length of a ``with``; gives the device.

    Without ``WORLD_SIZE`` in the environment there is no group, and every other call works on one process.
    """
    device = pick_device()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, within a group and after it; 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else process_number()


def barrier() -> None:
    """Wait for all processes."""
    if dist.is_initialized():
        dist.barrier()
