"""All that changes while a run trains, and its way into a checkpoint and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.configuration.build import sigma_model
from pipeline.configuration.schema import Clip, Run
from pipeline.errors import UserError
from pipeline.method.sigma import SigmaModel
from pipeline.runtime.checkpoints import Checkpoints
from pipeline.training.engines import Engine
from pipeline.training.logs import MetricsLog
from pipeline.training.position import Position, deviations

Session = dict[str, Any]  # what one process contributed: first and last step, seconds, versions


@dataclass
class TrainingState:
    """A run after `done` steps. No random state belongs to it: each step seeds its own.

    `position` says of a step what it begins with: a checkpoint keeps that of the next one.

    All processes hold one and call its methods together; rank 0 alone reads and writes files.
    """

    engine: Engine
    log: MetricsLog
    position: Callable[[int], Position]
    done: int = 0
    sessions: list[Session] = field(default_factory=list)  # one per process that did a step

    @property
    def teacher_sha256(self) -> str | None:
        """Digest of the frozen networks' weights, of targets and mask; None without any."""
        return self.engine.core.teacher_digest

    @property
    def failed_clips(self) -> dict[str, str]:
        """Why each of the clips that no process could read was left out, by id."""
        each = (session.get("failed_clips", {}) for session in self.sessions)
        return {clip: reason for session in each for clip, reason in session.items()}

    def resume(self, checkpoints: Checkpoints) -> None:
        """Become what the newest checkpoint says; without one, begin with an empty log.

        Raises UserError where its frozen networks were others than this model's.
        """
        body: dict[str, Any] = {}

        def read() -> tuple[int, list[Session]]:
            body.update(checkpoints.latest() or {})
            self.log.rewind(body.get("log"))
            if body and body["teacher_sha256"] != self.teacher_sha256:
                raise UserError(
                    "the weights of the frozen network are not those that this run began with: "
                    f"their digest is {self.teacher_sha256}, was {body['teacher_sha256']}",
                    place="objective.target.weights, objective.mask.weights",
                    remedy="give those weights again, or delete "
                    f"{checkpoints.folder} to begin anew",
                )
            if body and (changed := deviations(body["position"], self.position(body["step"]))):
                checkpoints.say(
                    f"warning: {' and '.join(changed)} are not what they were when the checkpoint "
                    "was written (by other versions of numpy or PyTorch?): the run goes on, but "
                    "ends elsewhere than it would have"
                )
            return body.get("step", 0), body.get("sessions", [])

        self.done, self.sessions = self.engine.ranks.on_rank_zero(read)
        if self.done:
            self.engine.load_full_state(body or None)

    def save(self, checkpoints: Checkpoints) -> Path:
        """Write a checkpoint. Raises UserError where that cannot be done."""
        body = {
            **(self.engine.full_state() or {}),
            "log": self.log.state(),
            "position": self.position(self.done),
            "configuration": self.engine.trainer.model_dump_json(),  # who wrote it; not compared
            "sessions": self.sessions,
            "teacher_sha256": self.teacher_sha256,
        }
        return self.engine.ranks.on_rank_zero(lambda: checkpoints.save(self.done, body))

    def count(self, session: Session, *, seconds: float) -> None:
        """Note one more step, done by this process, whose training took `seconds` so far."""
        if not self.sessions or self.sessions[-1] is not session:
            session["first_step"] = self.done
            self.sessions.append(session)
        self.done += 1
        session |= {"last_step": self.done, "seconds": round(seconds, 3)}

    def trained_model(self, run: Run, clip: Clip) -> SigmaModel:
        """The model as it is to be used, whole and on the CPU, without the frozen network.

        Its weights are the averaged ones where an average is kept. Only rank 0 gets them; the
        model of any other rank is as it was built.
        """
        weights = self.engine.full_weights(averaged=True)
        model = sigma_model(run.model, run.objective, clip, load_target=False)
        model.teacher_digest = self.teacher_sha256
        if weights is not None:
            model.load_state_dict(weights)
        return model.eval()
