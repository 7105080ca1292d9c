"""Several processes that train one net: each has mixtures of its own, and all take the same step.

On a CPU that is how more than one core is used: a recurrent net gains nothing by a second thread in one process.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor
from torch import distributed as dist

from rtsep.errors import RtsepError

PATIENCE = timedelta(minutes=10)  # for the slowest of them, in one step


class Team:
    """One of `size` processes, number `rank`; a process alone is a team of one."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def leads(self) -> bool:
        """Whether this one writes log and checkpoints."""
        return self.rank == 0

    def turn(self, step: int) -> int:
        """The batch of this one in a step: no two processes ever see the same."""
        return step * self.size + self.rank

    def any(self, wish: bool) -> bool:
        """Whether one of them wishes it."""
        return self.mean(float(wish)) > 0

    def mean(self, value: float) -> float:
        """Mean of a number of each."""
        return float(self._summed(torch.tensor([value], dtype=torch.float64))[0]) / self.size

    def average(self, parameters: Iterable[Tensor], buffers: Iterable[Tensor] = ()) -> None:
        """Make the gradients, and the buffers themselves, their means over all processes."""
        if self.size == 1:
            return
        parameters = list(parameters)
        for p in parameters:
            if p.grad is None:  # the batch of this one did without it
                p.grad = torch.zeros_like(p)
        found = [p.grad for p in parameters] + list(buffers)
        total = self._summed(torch.cat([x.reshape(-1) for x in found])) / self.size
        for x, part in zip(found, total.split([x.numel() for x in found]), strict=True):
            x.copy_(part.view_as(x))

    def joined(self, rows: Tensor) -> Tensor:
        """The rows of all processes, one below the other."""
        if self.size == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        with _told():
            dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    def _summed(self, x: Tensor) -> Tensor:
        if self.size > 1:
            with _told():
                dist.all_reduce(x)
        return x


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo's, when a process is gone
        raise RtsepError(f"another process of this training has stopped: go on with --resume ({error})") from None


def _join(rank: int, size: int, place: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=size, timeout=PATIENCE)


def _member(rank: int, size: int, place: str, threads: int, work: Callable[[Team], None]) -> None:
    """What the others run; errors are told by the one that leads, which misses them."""
    torch.set_num_threads(threads)
    with contextlib.suppress(KeyboardInterrupt, RtsepError):
        _join(rank, size, place)
        work(Team(rank, size))


@contextlib.contextmanager
def of(size: int, work: Callable[[Team], None]) -> Iterator[Team]:
    """The process as the leader of a team whose others do `work`, which pickle can take; they end with it.

    Raises
    ------
    RtsepError
        Inside: one of the others has stopped.
    """
    if size == 1:
        yield Team()
        return
    context = torch.multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "meeting")
        others = [
            context.Process(target=_member, args=(rank, size, place, torch.get_num_threads(), work), daemon=True)
            for rank in range(1, size)
        ]
        if sys.platform == "linux":  # elsewhere the loopback has another name
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        for other in others:
            other.start()
        try:
            with _told():
                _join(0, size, place)
            yield Team(0, size)
            for other in others:
                other.join()
        finally:
            for other in others:
                other.terminate()
            if dist.is_initialized():
                dist.destroy_process_group()
