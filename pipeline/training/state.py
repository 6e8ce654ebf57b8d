"""All that changes while a run trains, and its way into a checkpoint and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import UserError
from pipeline.models.sigma import SigmaModel
from pipeline.models.teacher import FrozenTarget
from pipeline.training.checkpoints import Checkpoints
from pipeline.training.logs import MetricsLog

Session = dict[str, Any]  # what one process contributed: first and last step, seconds, versions


@dataclass
class TrainingState:
    """A run after `done` steps. No random state belongs to it: each step seeds its own."""

    model: SigmaModel
    optimiser: torch.optim.Optimizer
    log: MetricsLog
    done: int = 0
    sessions: list[Session] = field(default_factory=list)  # one per process that did a step

    @property
    def teacher_sha256(self) -> str | None:
        """Digest of the frozen network's weights; None for a target without one."""
        target = self.model.target
        return target.digest if isinstance(target, FrozenTarget) else None

    def resume(self, checkpoints: Checkpoints) -> None:
        """Become what the newest checkpoint says; without one, begin with an empty log.

        Raises UserError where its targets are of another frozen network than this model's.
        """
        body = checkpoints.latest()
        self.log.rewind(body["log"] if body else None)
        if body is None:
            return
        if body["teacher_sha256"] != self.teacher_sha256:
            raise UserError(
                "the weights of the frozen network are not those that this run began with: their "
                f"digest is {self.teacher_sha256}, was {body['teacher_sha256']}",
                place="objective.target.weights",
                remedy=f"give those weights again, or delete {checkpoints.folder} to begin anew",
            )
        self.model.load_state_dict(body["model"])
        self.optimiser.load_state_dict(body["optimiser"])
        self.done, self.sessions = body["step"], body["sessions"]

    def save(self, checkpoints: Checkpoints) -> Path:
        """Write a checkpoint. Raises UserError where that cannot be done."""
        body = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "log": self.log.state(),
            "sessions": self.sessions,
            "teacher_sha256": self.teacher_sha256,
        }
        return checkpoints.save(self.done, body)

    def count(self, session: Session, *, seconds: float) -> None:
        """Note one more step, done by this process, whose training took `seconds` so far."""
        if not self.sessions or self.sessions[-1] is not session:
            session["first_step"] = self.done
            self.sessions.append(session)
        self.done += 1
        session |= {"last_step": self.done, "seconds": round(seconds, 3)}
