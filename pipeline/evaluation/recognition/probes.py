"""Benchmark I, recognition: which probes there are, and what each says of a task.

A finished probe's answer is kept beside the run, with a hash of all that it depends on, so that an
interrupted evaluation goes on with the next probe, and a changed setting runs only what reads it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.configuration import stages
from pipeline.configuration.schema import (
    AttentiveProbe,
    Clip,
    Evaluation,
    Finetune,
    LinearProbe,
    NearestNeighbours,
    Section,
    TrainedLinearProbe,
    Views,
)
from pipeline.data.load.view_cache import ViewCache
from pipeline.data.shards.clip_table import with_ids
from pipeline.data.shards.format import ClipEntry
from pipeline.evaluation import finetune, views
from pipeline.evaluation.clips import Clips, VideoClips
from pipeline.evaluation.features import SplitFeatures
from pipeline.evaluation.finetune import TrainingSet
from pipeline.evaluation.finetune_loss import Targets
from pipeline.evaluation.recognition import attentive, heads, knn, linear, task
from pipeline.evaluation.recognition.heads import Arrays, HeadTrainer, Inputs
from pipeline.evaluation.recognition.scores import (
    Score,
    Skipped,
    details,
    left_out,
    score,
    score_beside,
)
from pipeline.evaluation.recognition.task import Labelled, Prediction, Task
from pipeline.evaluation.rows import ExecutionOptions
from pipeline.method.pooling import Tokens
from pipeline.method.vit import Encoder
from pipeline.runtime.checkpoints import Resumption
from pipeline.runtime.store import Store

Probe = Callable[[Task], Prediction]
Answer = Callable[[Task, Any, "Subject", Resumption], Prediction]  # the second: its settings
Labels = Mapping[str, Mapping[str, str]]  # by clip, then by column


@dataclass
class Results:
    """What all probes of one run gave; `answers` has the prediction of each label and probe."""

    scores: list[Score] = field(default_factory=list)
    validation: list[Score] = field(default_factory=list)  # on val, beside those on test
    skipped: list[Skipped] = field(default_factory=list)
    details: list[dict[str, Any]] = field(default_factory=list)
    answers: list[tuple[str, str, Task, Prediction]] = field(default_factory=list)

    def extend(self, other: Results) -> None:
        """Add the results on another data set."""
        self.scores += other.scores
        self.validation += other.validation
        self.skipped += other.skipped
        self.details += other.details
        self.answers += other.answers


@dataclass(frozen=True)
class Subject:
    """One encoder on one data set: all that the probes can ask for."""

    weights: Path
    encoder: Encoder
    clip: Clip
    splits: Mapping[str, Clips]
    entries: Sequence[ClipEntry]  # empty for images
    features: Mapping[str, SplitFeatures]
    key: Mapping[str, Any]  # what the features depend on
    folder: Path  # for tokens, answers and checkpoints
    options: ExecutionOptions
    caches: Mapping[Views, ViewCache] = field(default_factory=dict)
    drop_tubes: float | None = None  # as the features were pooled

    @cached_property
    def pooled(self) -> Inputs:
        """The features as inputs of heads."""
        return Arrays.of(*((part.ids, part.values) for part in self.features.values()))

    def tokens(self, store_gib: float) -> Inputs:
        """All tokens, or those of the tubes that change, for the attentive probe."""
        return attentive.tokens(
            Tokens(self.encoder, self.drop_tubes),
            self.splits,
            path=self.folder / "tokens",
            key=self.key,
            options=replace(self.options, label=f"{self.options.label}, tokens"),
            store_gib=store_gib,
        )


def probes(settings: Evaluation, subject: Subject) -> dict[str, Probe]:
    """Return the configured probes by name; each remembers what it has answered."""
    linear_probe = _logistic if isinstance(settings.linear, LinearProbe) else _trained
    kinds: dict[str, tuple[Any, Answer]] = {
        "linear": (settings.linear, linear_probe),
        "attentive": (settings.attentive, _attentive),
        "knn": (settings.knn, _neighbours),
        "finetune": (settings.finetune if subject.entries else None, _finetuned),
    }
    return {
        name: _remembered(name, chosen, subject, answer)
        for name, (chosen, answer) in kinds.items()
        if chosen is not None
    }


def probe_all(
    columns: tuple[str, ...],
    labels: Labels,
    features: Mapping[str, SplitFeatures],
    lost: Mapping[str, str],
    probes: Mapping[str, Probe],
    only: Mapping[str, tuple[str, ...] | None] | None = None,
    split: str = "test",
) -> Results:
    """Run every probe on every label.

    Args:
        columns: labels to predict.
        labels: of every clip.
        features: by split.
        lost: split of every lost clip, by id.
        probes: by name.
        only: the labels that a probe is restricted to, by the probe's name.
        split: the one that is scored; where that is test, `val` is scored beside it.
    """
    results = Results()
    missing = {name: task.missing(name, lost, features) for name in ("val", split)}
    for label in columns:
        asked = task.build(label, labels, features, split)
        for name, probe in probes.items():
            chosen = (only or {}).get(name)
            if chosen is not None and label not in chosen:
                continue
            if isinstance(asked, str):
                results.skipped.append(Skipped(label=label, probe=name, reason=asked))
                continue
            answer = probe(asked)
            results.scores.append(score(asked, name, answer, missing[split]))
            if beside := score_beside(asked, name, answer, missing["val"]):
                results.validation.append(beside)
            results.skipped += left_out(asked, name)
            if name == "linear":
                results.details.append(details(asked, name, answer))
            results.answers.append((label, name, asked, answer))
    return results


def _logistic(asked: Task, settings: LinearProbe, _subject: Subject, _r: Resumption) -> Prediction:
    return linear.predict(asked, settings)


def _neighbours(
    asked: Task, settings: NearestNeighbours, _subject: Subject, _r: Resumption
) -> Prediction:
    return knn.predict(asked, settings)


def _trained(
    asked: Task, settings: TrainedLinearProbe, subject: Subject, resumption: Resumption
) -> Prediction:
    def build(classes: int) -> heads.LinearHead:
        return heads.LinearHead(subject.encoder.pooled_width, classes, settings.batch_norm)

    return HeadTrainer(settings, build, subject.pooled, resumption).predict(asked)


def _attentive(
    asked: Task, settings: AttentiveProbe, subject: Subject, resumption: Resumption
) -> Prediction:
    def build(classes: int) -> attentive.AttentiveHead:
        width = subject.encoder.width
        return attentive.AttentiveHead(width, classes, settings.heads, settings.mlp_ratio)

    inputs = subject.tokens(settings.store_gib)
    return HeadTrainer(settings, build, inputs, resumption).predict(asked)


def _finetuned(
    asked: Task, settings: Finetune, subject: Subject, resumption: Resumption
) -> Prediction:
    classes = asked.classes
    targets = Targets("single", np.searchsorted(classes, asked.train.truth), len(classes))
    entries = with_ids(subject.entries, asked.train.ids)
    train = TrainingSet(entries, subject.clip, targets)
    options = replace(subject.options, label=resumption.label, processes=1)
    classifier = finetune.fit(subject.weights, train, settings, resumption, options)

    def scores(clips: Labelled) -> NDArray[np.float32]:
        name = "answers" if clips is asked.test else "answers-beside"
        entries = with_ids(subject.entries, clips.ids)
        cache = subject.caches.get(settings.views)
        videos = VideoClips(entries, subject.clip, settings.views, cache=cache)
        store = Store(resumption.folder / name, resumption.settings)
        return views.predict(classifier, "single", videos, options, store)

    chosen: dict[str, object] = {"epochs": settings.epochs, "fitted_on": "train"}
    return task.predicted(asked, scores, classes, chosen)


MODULES = {
    "linear": ("pipeline.evaluation.recognition.linear", "pipeline.evaluation.recognition.heads"),
    "attentive": ("pipeline.evaluation.recognition.attentive",),
    "knn": ("pipeline.evaluation.recognition.knn",),
    "finetune": ("pipeline.evaluation.finetune", "pipeline.evaluation.views"),
}


def _remembered(name: str, settings: Any, subject: Subject, answer: Answer) -> Probe:
    def ask(asked: Task) -> Prediction:
        key = {
            "probe": name,
            "settings": _deciding(settings),
            "subject": dict(subject.key),
            "task": _digest(asked),
            "code": stages.modules_sha256(*MODULES[name]),
        }
        store = Store(subject.folder / f"{name}-{_digest(asked)[:16]}", key)
        if record := store.get("test"):
            print(f"[{subject.options.label}] {asked.label}, {name}: as answered before")
            beside = store.values("beside") if store.get("beside") else None
            classes = np.array(record["classes"], np.str_)
            return Prediction(store.values("test"), classes, record["chosen"], beside)
        label = f"{subject.options.label}, {asked.label}, {name}"
        resumption = Resumption(store.folder / "training", key, label)
        prediction = answer(asked, settings, subject, resumption)
        with store.writing():
            if prediction.beside is not None:
                store.add("beside", prediction.beside)
            classes, chosen = prediction.classes.tolist(), prediction.chosen
            store.add("test", prediction.scores, classes=classes, chosen=chosen)
        shutil.rmtree(resumption.folder, ignore_errors=True)
        return prediction

    return ask


def _deciding(settings: Section) -> dict[str, Any]:
    """Return the settings that decide an answer."""
    return settings.model_dump(mode="json", exclude={"store_gib", "checkpoint_every", "labels"})


def _digest(asked: Task) -> str:
    """Hash which clips learn, choose and are asked, and their labels."""
    digest = hashlib.sha256(asked.label.encode())
    for part in (asked.train, asked.val, asked.test):
        if part is not None:
            lines = zip(part.ids.tolist(), part.truth.tolist(), strict=True)
            digest.update("\n".join(f"{clip}\t{name}" for clip, name in lines).encode())
        digest.update(b"\0")
    return digest.hexdigest()
