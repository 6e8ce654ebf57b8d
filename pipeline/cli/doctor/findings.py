"""What the doctor says of one thing: whether it is there, what was found, what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Finding:
    """One row of the table. `needed`: the present params.yaml cannot do without it."""

    stage: str
    subject: str
    status: Status
    found: str
    remedy: str = ""
    needed: bool = False

    @property
    def is_failure(self) -> bool:
        """Whether the present experiment will fail for it."""
        return self.needed and self.status == "missing"


def ok(stage: str, subject: str, found: str) -> Finding:
    """It is there and works."""
    return Finding(stage, subject, "ok", found)


def warning(stage: str, subject: str, found: str, remedy: str) -> Finding:
    """It works, but not as well as it could, or could not be tried."""
    return Finding(stage, subject, "warning", found, remedy)


def missing(stage: str, subject: str, found: str, remedy: str, *, needed: bool = False) -> Finding:
    """It is not there, or does not work."""
    return Finding(stage, subject, "missing", found, remedy, needed)
