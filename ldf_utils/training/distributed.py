"""Processes: one job on several cores, GPUs or machines, switched on by what ``torchrun`` sets.

Every process runs the same program, takes its shard of the work, and meets the others where results
are averaged or gathered. Without ``torchrun`` it is a team of one, and nothing here does anything.

    torchrun --standalone --nproc_per_node=2 -m ldf_utils.training --config configs/smoke.toml
    torchrun --nnodes=4 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_endpoint=HOST:29500 \
        -m ldf_utils.training --config configs/paper.toml --data DIR      # on each of 4 machines

Gradients are not averaged by `DistributedDataParallel`, although its averages are the same bits:
it exchanges them in the midst of the backward pass, and while the others wait there, a process
whose picture cannot be read has no way to say so.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed, nn

T = TypeVar("T")


class ProcessError(RuntimeError):
    """Another process of the job failed or is gone, so that this one cannot go on either."""


@dataclass(frozen=True)
class Team:
    """Name this process among those that work together: its number, how many, and its device."""

    rank: int
    count: int
    device: torch.device

    def average_gradients(self, network: nn.Module, failed: bool = False) -> None:
        """Replace the gradients by their mean over the processes, in one exchange.

        All gradients travel as one vector, with a flag behind it that says whether its sender
        failed in this step, so that no process waits for one that has given up.

        Args:
            network: whose gradients are averaged; a missing gradient counts as zero.
            failed: whether this process has no gradient to give; it raises its own error then.

        Raises:
            ProcessError: if another process failed, or the connection broke.
        """
        if self.count == 1:
            return
        gradients = []
        for parameter in network.parameters():
            if parameter.requires_grad:
                if parameter.grad is None or failed:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        flat = nn.utils.parameters_to_vector(gradients)
        flat = torch.cat([flat, flat.new_tensor([float(failed)])])
        with self._exchange("averaging gradients"):
            distributed.all_reduce(flat)
        failures = round(flat[-1].item())
        if failures and not failed:
            raise ProcessError(
                f"process {self.rank} of {self.count}: stopped, because {failures} other "
                "process(es) of this job failed in this step; the reason is in their messages"
            )
        nn.utils.vector_to_parameters(flat[:-1] / self.count, gradients)

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Return the mean of each value over the processes."""
        if self.count == 1:
            return values
        flat = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        with self._exchange("averaging losses"):
            distributed.all_reduce(flat)
        return dict(zip(values, (flat / self.count).tolist(), strict=True))

    def broadcast(self, network: nn.Module) -> None:
        """Give every process the weights of the first."""
        if self.count > 1:
            with self._exchange("broadcasting the weights"):
                for tensor in network.state_dict().values():
                    distributed.broadcast(tensor, src=0)

    def shard(self, items: Sequence[T]) -> list[T]:
        """Return this process's part: every ``count``-th item from number ``rank`` on."""
        return list(items[self.rank :: self.count])

    def gather(self, value: T) -> list[T]:
        """Return what every process gives, by rank, at all of them; it waits for the last one.

        Args:
            value: anything that can be pickled.
        """
        values = [value] * self.count
        if self.count > 1:
            with self._exchange("gathering results"):
                distributed.all_gather_object(values, value)
        return values

    @contextlib.contextmanager
    def _exchange(self, what: str) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # what gloo and NCCL raise when a partner is gone
            reason = str(error).strip().split("\n")[0][:160]
            raise ProcessError(
                f"process {self.rank} of {self.count}: the connection to the others broke while "
                f"{what} ({reason}). One of them has most likely ended; its message says why"
            ) from error


def join_team(device: str = "auto") -> Team:
    """Find out who we are from RANK, LOCAL_RANK and WORLD_SIZE, and connect if we are many.

    The connection is made once and kept until the process ends: a second one over the same store
    would find the addresses of the first.

    Args:
        device: ``auto`` takes GPU number LOCAL_RANK where there are GPUs, else the CPU.
    """
    rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    place = torch.device(device)
    if place.type == "cuda" and ":" not in device:
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(place)
    if count > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
        atexit.register(distributed.destroy_process_group)
    return Team(rank, count, place)
