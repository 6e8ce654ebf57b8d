"""What the doctor says of one thing: whether it is there, what was found, what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Finding:
    """One row of the table. `needed`: the present params.yaml cannot do without it."""

    stage: str  # empty: that of its area
    subject: str
    status: Status
    found: str
    remedy: str = ""
    needed: bool = False

    @property
    def is_failure(self) -> bool:
        """Whether the present experiment will fail for it."""
        return self.needed and self.status == "missing"


def ok(subject: str, found: str, *, stage: str = "") -> Finding:
    """It is there and works."""
    return Finding(stage, subject, "ok", found)


def warning(subject: str, found: str, remedy: str) -> Finding:
    """It works, but not as well as it could, or could not be tried."""
    return Finding("", subject, "warning", found, remedy)


def missing(
    subject: str, found: str, remedy: str, *, needed: bool = False, stage: str = ""
) -> Finding:
    """It is not there, or does not work."""
    return Finding(stage, subject, "missing", found, remedy, needed)
