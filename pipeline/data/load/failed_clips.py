"""Clips that the index has but that can no longer be read: counted and named, never replaced."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import UserError

SHOWN = 20  # clips in one error message
REMEDY = "the shard has changed since it was made: run the shard and index stages again"


@dataclass(frozen=True)
class FailedClip:
    """A clip that is missing from a batch, and why."""

    id: str
    reason: str


class ClipError(UserError):
    """One clip cannot be read."""

    def __init__(self, problem: str, *, failed: FailedClip | None = None, place: str = "") -> None:
        super().__init__(problem, place=place, remedy=REMEDY)
        self.failed = failed or FailedClip("", problem)  # the default is for unpickling alone


class FailedClips:
    """The clips of a training that failed so far: `reasons`, by id; `known` failed before.

    `add` raises UserError once more than `max_share` of the data set's `clips` have failed.
    """

    def __init__(
        self, clips: int, max_share: float, known: Mapping[str, str] | None = None
    ) -> None:
        self.clips, self.max_share = clips, max_share
        self.reasons: dict[str, str] = dict(known or {})

    def add(self, failed: Iterable[FailedClip], step: int | None = None) -> None:
        """Take note of clips; with the step that each is missing from, say it on standard error."""
        for each in failed:
            if each.id not in self.reasons:
                self.reasons[each.id] = each.reason
                if step is not None:
                    message = f"clip {each.id!r} is left out of step {step + 1:,}: {each.reason}"
                    print(message, file=sys.stderr, flush=True)
        if len(self.reasons) > self.max_share * self.clips:
            raise self.error(f"more than trainer.max_failed_share = {self.max_share:g}")

    def error(self, why: str) -> UserError:
        """Return the error that stops the run; it lists the clips."""
        some = list(self.reasons.items())
        more = [f"and {len(some) - SHOWN} more"] if len(some) > SHOWN else []
        return UserError(
            f"{len(some)} of {self.clips} clips cannot be read, {why}",
            place="\n          ".join(
                [*(f"clip {clip!r}: {reason}" for clip, reason in some[:SHOWN]), *more]
            ),
            remedy="`python -m pipeline shards verify DIR` finds damaged shards, and the shard and "
            "index stages make them anew; or accept the loss with trainer.max_failed_share",
        )


def scored(total: int, failed: Sequence[FailedClip]) -> str:
    """Return `scored 998/1000, missing: a, b`, or `scored 1000/1000`."""
    missing = f", missing: {', '.join(each.id for each in failed)}" if failed else ""
    return f"scored {total - len(failed)}/{total}{missing}"
