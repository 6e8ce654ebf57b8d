"""What the processes of a run agree on, and who speaks for them.

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
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from pipeline.errors import UserError
from pipeline.runtime.launch import Place

T = TypeVar("T")

LINGER = 1.0  # seconds


class Ranks:
    """The processes of a run, seen from one of them."""

    def __init__(self, place: Place | None = None, store: Any = None) -> None:
        self.place, self.store = place or Place(), store
        self.group = dist.group.WORLD if self.world > 1 else None

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self.place.rank

    @property
    def world(self) -> int:
        """How many there are."""
        return self.place.world

    @property
    def is_first(self) -> bool:
        """Whether this is the process that prints, logs and writes."""
        return self.rank == 0

    @property
    def name(self) -> str:
        """Such as `rank 0 of 2`."""
        return f"rank {self.rank} of {self.world}"

    def sums(self, values: Tensor) -> Tensor:
        """Sum a tensor over all processes, elementwise; in place."""
        if self.group is not None:
            dist.all_reduce(values, group=self.group)
        return values

    def everyones(self, value: T) -> list[T]:
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

    def on_first(self, action: Callable[[], T]) -> T:
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

    def speaks(self) -> bool:
        """Whether this process is to say what ended the run; all that fail ask, one is told to.

        The others stay a moment: launchers end all processes as soon as one has failed, and the
        one that speaks shall have spoken.
        """
        if self.store is None:
            return True
        if not self.is_first:
            time.sleep(LINGER)
        try:
            return bool(self.store.add("said", 1) == 1)
        except RuntimeError:  # it died with rank 0
            return True


@contextlib.contextmanager
def joined(place: Place, device: torch.device, *, timeout_s: float) -> Iterator[Ranks]:
    """Meet the other processes, and part from them at the end.

    A collective that waits longer than `timeout_s` seconds fails. So does one whose other side
    has died; here that becomes a UserError. Where several processes end with a UserError, one of
    them raises it, and the others exit with its status.
    """
    if place.meeting is None:
        yield Ranks(place)
        return
    timeout = datetime.timedelta(seconds=timeout_s)
    os.environ.update(MASTER_ADDR=place.meeting[0], MASTER_PORT=str(place.meeting[1]))
    # (torch does not tell mypy of these two, but its documentation does.)
    meeting: Any = dist
    store, *_ = next(meeting.rendezvous("env://", place.rank, place.world, timeout=timeout))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        store=meeting.PrefixStore("training", store),
        timeout=timeout,
        rank=place.rank,
        world_size=place.world,
    )
    ranks = Ranks(place, store)
    try:
        try:
            yield ranks
        except RuntimeError as error:
            if not is_of_a_collective(error):
                raise
            raise lost(ranks, error, "the last checkpoint stays as it is") from error
    except UserError as error:
        if ranks.speaks():
            raise
        raise SystemExit(error.exit_code) from None
    dist.destroy_process_group()


def lost(ranks: Ranks, error: RuntimeError, last_good: str) -> UserError:
    """What to raise where a collective failed; `last_good` says from where the run goes on."""
    return UserError(
        f"{ranks.name} has lost another process, which died, or hung for longer than "
        f"trainer.timeout_s: {str(error).splitlines()[0]}",
        place="trainer.nodes, trainer.devices",
        remedy="see what the other processes said last; run the same command again and it goes "
        f"on; {last_good}",
    )


def is_of_a_collective(error: RuntimeError) -> bool:
    """Whether torch says so of an operation between processes; it has no one class for that."""
    kinds = (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)
    said = str(error).lower()
    return isinstance(error, kinds) or any(word in said for word in ("gloo", "closed by peer"))
