"""One training by many processes, as ``torchrun`` starts them.

Each holds the whole network and takes an equal part of every batch; the gradients are averaged, so
that all copies stay alike. Rank 0, the first, alone writes files and tells of epochs.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from misgiving.runtime.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Team:
    """The processes of one training, as one of them sees them; by default it is alone."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    """Among those of this machine; names the GPU."""
    local_count: int = 1

    @classmethod
    def of_torchrun(cls) -> "Team":
        """The processes that torchrun started with this one; alone where it did not."""
        if not distributed.is_torchelastic_launched():
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        return cls(*(int(os.environ[name]) for name in names))

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def check_batch(self, size: int) -> None:
        """Raise InvalidInput where a batch has no equal parts of whole pairs."""
        if size % (2 * self.count):
            raise InvalidInput(
                f"batch_size is {size}; expected a multiple of {2 * self.count}, one pair for each "
                f"of {self.count} processes. Change the recipe, or torchrun's --nproc-per-node"
            )

    def part(self, rows: Tensor) -> Tensor:
        """This process's part of batches (S, B, ...), as (S, B / count, ...).

        It takes the same places of both halves of a batch: image k and its pair, image k + B/2,
        stay together, so that those pairs are the ones of a single process.
        """
        steps, size, *rest = rows.shape
        halves = rows.reshape(steps, 2, self.count, size // (2 * self.count), *rest)
        return halves[:, :, self.rank].flatten(1, 2)

    @contextmanager
    def meeting(self, device: torch.device) -> Iterator[None]:
        """Exchange with the others inside this block: by NCCL between GPUs, else by Gloo."""
        if self.count == 1:
            yield
            return
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        yield
        distributed.destroy_process_group()  # not after an error: it might wait for the others

    def choose_gpu(self) -> None:
        """Let ``cuda`` mean this process's own GPU.

        Raises:
            InvalidInput: this machine has fewer GPUs than processes.
        """
        if self.local_count > torch.cuda.device_count():
            raise InvalidInput(
                f"torchrun started {self.local_count} processes on {torch.cuda.device_count()} "
                "GPU(s); expected at most one a GPU. Lower --nproc-per-node"
            )
        torch.cuda.set_device(self.local_rank)

    def shared(self, network: nn.Module, device: torch.device) -> nn.Module:
        """The network as a step calls it: its backward pass averages the gradients.

        Batch normalisation on GPUs takes its statistics over the whole batch, as one process
        does. On CPUs torch has no such thing: each process takes its own part's, and :meth:`even`
        gives all the first one's running ones.
        """
        if self.count == 1:
            return network
        if device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        wrapped = DistributedDataParallel(network)
        # The running statistics: no step needs them. The argument has other names in other torches.
        wrapped.broadcast_buffers = False
        return wrapped

    def mean(self, values: Tensor) -> Tensor:
        """The mean of every process's values."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values / self.count

    def even(self, network: nn.Module) -> None:
        """Give every process the first one's buffers, in which alone the copies may differ."""
        if self.count > 1:
            for buffer in network.buffers():
                distributed.broadcast(buffer, 0)
