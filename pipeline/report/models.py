"""A run's model together with the frozen networks that its targets are features of."""

from __future__ import annotations

from pipeline.configuration.layout import RunLayout
from pipeline.errors import UserError
from pipeline.method.sigma import SigmaModel
from pipeline.report.results import RunResult
from pipeline.weights import hub, teachers


def load_with_targets(run: RunResult) -> SigmaModel:
    """Load the model that a run has trained, and what gave it its targets, on the CPU.

    Raises UserError where such a network is not there, or not the one of the training.
    """
    model = hub.load_pretraining(run.layout.weights, load_teacher=True)
    targets = run.settings.objective.all_targets
    teachers.hand_over(model, targets, lambda name: RunLayout(run.layout.experiment, name).weights)
    trained_with = run.pretrained.get("teacher_sha256")
    if model.teacher_digest != trained_with:
        raise UserError(
            f"the frozen network of run {run.name} is not the one that it was trained with: its "
            f"digest is {model.teacher_digest}, was {trained_with}",
            place=run.layout.pretrained.as_posix(),
            remedy="give those weights again, or train the run with these: "
            f"python -m pipeline pretrain --run {run.name}",
        )
    return model
