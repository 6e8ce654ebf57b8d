"""SEVERE as published: the whole encoder is fine-tuned on each task (`evaluation.finetune`).

A count is learned as its logarithm, shifted and scaled to mean 0 and deviation 1 over the train
clips: the error that is scored is a relative one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.configuration.schema import Clip, FinetunedEncoder, Trainer
from pipeline.evaluation import finetune, views
from pipeline.evaluation.finetune import Kind, Targets
from pipeline.evaluation.rows import How
from pipeline.evaluation.severe.frozen import Answers
from pipeline.evaluation.severe.problem import Problem

KINDS: dict[str, Kind] = {"class": "single", "classes": "multi", "count": "regression"}


def answer(
    problem: Problem,
    weights: Path,
    clip: Clip,
    settings: FinetunedEncoder,
    trainer: Trainer,
    *,
    folder: Path,
    key: dict[str, Any],
    label: str,
) -> Answers:
    """Fine-tune on the train clips; answer for the test clips. An interrupted call goes on.

    Raises:
        ResumeLater: after SIGTERM or SIGUSR1, once a step is done and saved.
    """
    kind, truth = KINDS[problem.task.answer], problem.train.truth
    outputs, centre, spread = max(1, len(problem.classes)), 0.0, 1.0
    if kind == "regression":
        logarithms = np.log(truth)
        centre, spread = float(logarithms.mean()), float(logarithms.std()) or 1.0
        truth = ((logarithms - centre) / spread)[:, None].astype(np.float32)
    elif kind == "multi":
        truth = truth.astype(np.float32)
    network = finetune.fit(
        weights,
        clip,
        problem.train.entries,
        Targets(kind, truth, outputs),
        settings.model_copy(update={"sampling": problem.task.sampling}),
        folder=folder / "checkpoints",
        label=label,
        code=str(key["code"]),
        threads=trainer.threads,
        workers=trainer.workers,
    )
    said = views.predict(
        network,
        kind,
        problem.test.entries,
        clip,
        settings.views.model_copy(update={"sampling": problem.task.sampling}),
        how=How(settings.batch_size, workers=trainer.workers, threads=trainer.threads, label=label),
        path=folder / "answers",
        key=key,
    )
    values = said.astype(np.float64)
    if kind == "regression":
        values = np.exp(values[:, 0] * spread + centre)
    return Answers(values, {"epochs": settings.epochs, "base_lr": settings.base_lr})
