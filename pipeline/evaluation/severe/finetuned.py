"""SEVERE as published: the whole encoder is fine-tuned on each task (`evaluation.finetune`).

A count is learned as its logarithm, shifted and scaled to mean 0 and deviation 1 over the train
clips: the error that is scored is a relative one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.configuration.schema import Clip, FinetunedEncoder
from pipeline.evaluation import finetune, views
from pipeline.evaluation.clips import VideoClips
from pipeline.evaluation.finetune import TrainingSet
from pipeline.evaluation.finetune_loss import Kind, Targets
from pipeline.evaluation.rows import ExecutionOptions
from pipeline.evaluation.severe.frozen import Answers
from pipeline.evaluation.severe.problem import Problem
from pipeline.runtime.checkpoints import Resumption
from pipeline.runtime.store import Store

KINDS: dict[str, Kind] = {"class": "single", "classes": "multi", "count": "regression"}


def answer(
    problem: Problem,
    weights: Path,
    clip: Clip,
    settings: FinetunedEncoder,
    resumption: Resumption,
    options: ExecutionOptions,
) -> Answers:
    """Fine-tune on the train clips; answer for the test clips. An interrupted call goes on.

    Raises:
        ResumeLater: after SIGTERM or SIGUSR1, once a step is done and saved.
    """
    kind, truth = KINDS[problem.task.answer], problem.train.truth
    outputs, mean, std = max(1, len(problem.classes)), 0.0, 1.0
    if kind == "regression":
        logarithms = np.log(truth)
        mean, std = float(logarithms.mean()), float(logarithms.std()) or 1.0
        truth = ((logarithms - mean) / std)[:, None].astype(np.float32)
    elif kind == "multi":
        truth = truth.astype(np.float32)
    sampling = {"sampling": problem.task.sampling}
    train = TrainingSet(problem.train.entries, clip, Targets(kind, truth, outputs))
    classifier = finetune.fit(
        weights, train, settings.model_copy(update=sampling), resumption, options
    )
    test = VideoClips(problem.test.entries, clip, settings.views.model_copy(update=sampling))
    store = Store(resumption.folder / "answers", resumption.settings)
    values = views.predict(classifier, kind, test, options, store).astype(np.float64)
    if kind == "regression":
        values = np.exp(values[:, 0] * std + mean)
    return Answers(values, {"epochs": settings.epochs, "base_lr": settings.base_lr})
