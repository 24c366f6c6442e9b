"""Several processes that train one model, each on its own microbatch of every batch.

A batch is divided as among the shards of one process, and the gradients of the
microbatches are added in the same order. So with portable numerics N processes
give the bits of `train.shards: N` in one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from core.pipeline.process_rank import ProcessRank
from core.training.parallel import sharding
from core.training.parallel.workers import Result, Workers

Value = TypeVar("Value")


class Processes:
    """The collective operations of a training; every process must call each method.

    Args:
        rank: of this process; a single one does not communicate.
        device: of the tensors that are exchanged.
    """

    def __init__(self, rank: ProcessRank, device: str = "cpu") -> None:
        self.rank = rank.rank
        self.count = rank.world_size
        self.device = device

    @property
    def first(self) -> bool:
        """Whether this is the one that prints and writes."""
        return self.rank == 0

    def broadcast(self, value: Value) -> Value:
        """Return the `value` that the first process has."""
        values = [value]
        if self.count > 1:
            distributed.broadcast_object_list(values, device=torch.device(self.device))
        return values[0]

    def gathered_objects(self, value: Value) -> list[Value]:
        """Return the `value` of each process, in order."""
        values = [value] * self.count
        if self.count > 1:
            distributed.all_gather_object(values, value)
        return values

    def gathered(self, tensor: Tensor) -> list[Tensor]:
        """Return the `tensor` of each process, in order; all have one shape and dtype."""
        if self.count == 1:
            return [tensor]
        tensors = [torch.empty_like(tensor, device=self.device) for _ in range(self.count)]
        distributed.all_gather(tensors, tensor.to(self.device))
        return [each.to(tensor.device) for each in tensors]


@contextmanager
def joined(rank: ProcessRank, device: str) -> Iterator[Processes]:
    """Join the process group, for as long as this lasts.

    Args:
        rank: of this process.
        device: `cpu`, with gloo, or `cuda`, with NCCL: each process of a machine
            then has a GPU of its own.
    """
    if device == "cuda":
        torch.cuda.set_device(rank.local_rank)
    if rank.world_size == 1:
        yield ONE_PROCESS
        return
    distributed.init_process_group("gloo" if device == "cpu" else "nccl")
    try:
        yield Processes(rank, device)
    finally:
        distributed.destroy_process_group()


ONE_PROCESS = Processes(ProcessRank())


class DistributedShards:
    """Computes each microbatch in a process of its own, by DistributedDataParallel.

    It has the interface of `sharding.Shards`, and returns the same in every process.

    Args:
        model: takes uint8 (B, H, W, C), returns logits (B, classes).
        processes: each computes a microbatch.
        seed: of the masks of dropout.
    """

    def __init__(self, model: nn.Module, processes: Processes, *, seed: int) -> None:
        self.model = model
        self.processes = processes
        self.parameters = list(model.parameters())
        self.generator = sharding.give_generator(model, seed, processes.rank)
        self.parts = processes.count  # of the current batch: a small one has fewer
        # Each process keeps buffers of its own, as a shard does.
        self.parallel = DistributedDataParallel(model, forward_sync_buffers=False)
        self.parallel.register_comm_hook(None, self._add_in_order)

    def gradients(
        self, images: Tensor, labels: Tensor, *, label_smoothing: float
    ) -> tuple[Tensor, list[Tensor]]:
        """As `sharding.Shards.gradients`, of the whole batch."""
        parts = sharding.parts(images, labels, self.processes.count)
        self.parts = len(parts)
        has_part = self.processes.rank < self.parts
        part, targets = parts[self.processes.rank if has_part else 0]
        for parameter in self.parameters:
            parameter.grad = None
        # All processes must take part in the exchange. The result of one without a
        # microbatch is not added, and its buffers and generator stay unchanged.
        self.model.train(has_part)
        logits = self.parallel(part)
        self.model.train()
        share = len(part) / len(images)
        loss = sharding.loss_of_part(logits, targets, share, label_smoothing)
        torch.autograd.backward(loss)
        loss, *others = self.processes.gathered(loss.detach())[: self.parts]
        for other in others:
            loss = loss + other
        return loss, [p.grad for p in self.parameters if p.grad is not None]

    def _add_in_order(
        self,
        _: None,
        bucket: distributed.GradBucket,  # type: ignore[name-defined]
    ) -> torch.futures.Future[Tensor]:
        """Add the gradients in order of rank: a backend's own sum has another order."""
        own: Tensor = bucket.buffer()
        every = own.new_empty(self.processes.count * len(own))
        exchange = distributed.all_gather_single(every, own, async_op=True)
        assert exchange is not None  # as it is asynchronous

        def add(_: object) -> Tensor:
            first: Tensor
            first, *others = every.view(self.processes.count, -1)[: self.parts]
            for other in others:
                first.add_(other)
            return first

        future: torch.futures.Future[Tensor] = exchange.get_future().then(add)
        return future

    @torch.no_grad()
    def average_buffers(self) -> None:
        """Give all processes the mean of their running statistics."""
        for buffer in self.model.buffers():
            if buffer.is_floating_point():
                buffer.copy_(sharding.mean(self.processes.gathered(buffer)))

    def buffers(self) -> list[Tensor]:
        """The running statistics of all processes, one process after the other."""
        gathered = [self.processes.gathered(buffer) for buffer in self.model.buffers()]
        return [buffer for part in zip(*gathered, strict=True) for buffer in part]

    def generator_states(self) -> list[Tensor]:
        """The state of the generator of each process."""
        return self.processes.gathered(self.generator.get_state())

    @torch.no_grad()
    def restore(self, buffers: Sequence[Tensor], generator_states: Sequence[Tensor]) -> None:
        """Restore what `buffers` and `generator_states` returned."""
        own = list(self.model.buffers())
        start = self.processes.rank * len(own)
        for buffer, saved in zip(own, buffers[start : start + len(own)], strict=True):
            buffer.copy_(saved)
        self.generator.set_state(generator_states[self.processes.rank])


class DistributedWorkers(Workers):
    """Workers that share calls with those of the other processes, and return all results.

    Args:
        processes: all of them call `map` with the same arguments.
        count: as of `Workers`, in this process.
        threads: likewise.
    """

    def __init__(self, processes: Processes, count: int, threads: int = 1) -> None:
        super().__init__(count, threads)
        self.processes = processes

    def map(self, function: Callable[..., Result], *arguments: Iterable[Any]) -> Iterator[Result]:
        """Call `function` as the built-in `map` does; what it returns is copied to the CPU."""
        rank, count = self.processes.rank, self.processes.count
        if count == 1:
            yield from super().map(function, *arguments)
            return
        calls = list(zip(*arguments, strict=True))
        own = list(super().map(lambda call: function(*call), calls[rank::count]))
        results = self.processes.gathered_objects(own)
        for number in range(len(calls)):
            yield results[number % count][number // count]
