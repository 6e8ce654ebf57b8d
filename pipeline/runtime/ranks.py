"""The processes of a run: what they sum, gather and broadcast, and which one reports errors.

Every method is called by all processes, in the same order. In a run of one process none of them
costs anything. Numbers that steer the run travel between CPUs (gloo), and never make an
accelerator wait.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from pipeline.errors import UserError, first_line
from pipeline.runtime.accelerators import COLLECTIVES
from pipeline.runtime.processes import ProcessInfo

T = TypeVar("T")

LINGER = 1.0  # seconds
PATIENCE = 5.0  # seconds


class Ranks:
    """The processes of a run, seen from one of them."""

    def __init__(self, process: ProcessInfo | None = None, store: Any = None) -> None:
        self.process, self.store = process or ProcessInfo(), store
        self.group = dist.group.WORLD if self.world > 1 else None

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self.process.rank

    @property
    def world(self) -> int:
        """How many there are."""
        return self.process.world

    @property
    def is_first(self) -> bool:
        """Whether this is the process that prints, logs and writes."""
        return self.rank == 0

    @property
    def name(self) -> str:
        """Such as `rank 0 of 2`."""
        return f"rank {self.rank} of {self.world}"

    def all_reduce(self, values: Tensor, operation: Literal["sum", "min"] = "sum") -> Tensor:
        """Sum a tensor over all processes, elementwise, or take the least; in place."""
        if self.group is not None:
            which = dist.ReduceOp.SUM if operation == "sum" else dist.ReduceOp.MIN
            dist.all_reduce(values, op=which, group=self.group)
        return values

    def all_gather(self, value: T) -> list[T]:
        """The values of all processes, by rank. Slow: for what happens once."""
        if self.group is None:
            return [value]
        values: list[T | None] = [None] * self.world
        dist.all_gather_object(values, value, group=self.group)
        return values  # type: ignore[return-value]

    def broadcast(self, values: Tensor) -> Tensor:
        """Make a tensor equal to that of rank 0; in place."""
        if self.group is not None:
            dist.broadcast(values, src=0, group=self.group)
        return values

    def on_rank_zero(self, action: Callable[[], T]) -> T:
        """Do something on rank 0 alone; give its result, or raise its UserError, everywhere."""
        if self.group is None:
            return action()
        outcome: list[T | UserError | None] = [None]
        if self.is_first:
            try:
                outcome = [action()]
            except UserError as error:
                outcome = [error]
        dist.broadcast_object_list(outcome, src=0, group=self.group)
        (result,) = outcome
        if isinstance(result, UserError):
            raise result
        return result  # type: ignore[return-value]

    def claims_error_report(self) -> bool:
        """Return true on exactly one of the failing ranks: that one reports the error.

        Rank 0 is preferred, so the others wait a moment: launchers end all processes as soon as one
        has failed. The store that tells them is in rank 0, which therefore stays until all have
        asked, or `PATIENCE` seconds where others have not failed.
        """
        if self.store is None:
            return True
        if not self.is_first:
            time.sleep(LINGER)
        try:
            is_first_to_ask = bool(self.store.add("error reports", 1) == 1)
            deadline = time.monotonic() + PATIENCE
            while self.is_first and self.store.add("error reports", 0) < self.world:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.02)
            return is_first_to_ask
        except RuntimeError:  # it died with rank 0
            return True


@contextlib.contextmanager
def process_group(
    process: ProcessInfo, device: torch.device, *, timeout_s: float, needed: bool = False
) -> Iterator[Ranks]:
    """Join the process group of a run, and leave it at the end of the block.

    A process that nobody started as one of several has none, unless it is `needed`: engines other
    than `single` are built on one, whatever the number of processes.

    A collective that waits longer than `timeout_s` seconds fails. So does one whose other side
    has died; here that becomes a UserError. Where several processes end with a UserError, one of
    them raises it, and the others exit with its status.
    """
    if process.master is None and not needed:
        yield Ranks(process)
        return
    timeout = datetime.timedelta(seconds=timeout_s)
    collectives = COLLECTIVES.get(device.type)
    distributed: Any = dist  # (torch does not tell mypy of all that its documentation has)
    if process.master is None:
        store = distributed.HashStore()
    else:
        os.environ.update(MASTER_ADDR=process.master[0], MASTER_PORT=str(process.master[1]))
        store, *_ = next(
            distributed.rendezvous("env://", process.rank, process.world, timeout=timeout)
        )
    dist.init_process_group(
        f"cpu:gloo,{device.type}:{collectives}" if collectives else "gloo",
        store=distributed.PrefixStore("training", store),
        timeout=timeout,
        rank=process.rank,
        world_size=process.world,
    )
    ranks = Ranks(process, store)
    try:
        try:
            yield ranks
        except RuntimeError as error:
            if not is_collective_error(error):
                raise
            raise lost_process(ranks, error, "the last checkpoint stays as it is") from error
    except UserError as error:
        if ranks.claims_error_report():
            raise
        raise SystemExit(error.exit_code) from None
    dist.destroy_process_group()


def lost_process(ranks: Ranks, error: RuntimeError, last_good: str) -> UserError:
    """Return the error of a collective that failed; `last_good` says from where the run goes on."""
    return UserError(
        f"{ranks.name} has lost another process, which died, or hung for longer than "
        f"trainer.timeout_s: {first_line(error)}",
        place="trainer.nodes, trainer.devices",
        remedy="see what the other processes said last; run the same command again and it goes "
        f"on; {last_good}",
    )


def is_collective_error(error: RuntimeError) -> bool:
    """Whether a collective raised this error: torch has no single class for it."""
    kinds = (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)
    message = str(error).lower()
    return isinstance(error, kinds) or any(word in message for word in ("gloo", "closed by peer"))
