"""Benchmark I, recognition: which probes there are, and what each says of a task.

A finished probe's answer is kept beside the run, with a hash of all that it depends on, so that an
interrupted evaluation goes on with the next probe, and a changed setting runs only what reads it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
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
    Section,
    TrainedLinearProbe,
    Trainer,
    Views,
)
from pipeline.data.load.view_cache import ViewCache
from pipeline.data.shards.format import ClipEntry
from pipeline.evaluation import finetune, views
from pipeline.evaluation.clips import Clips
from pipeline.evaluation.features import SplitFeatures
from pipeline.evaluation.recognition import attentive, heads, knn, linear, task
from pipeline.evaluation.recognition.heads import Arrays, Inputs, Resumption
from pipeline.evaluation.recognition.scores import (
    Score,
    Skipped,
    details,
    left_out,
    score,
    score_beside,
)
from pipeline.evaluation.recognition.task import Prediction, Task
from pipeline.evaluation.rows import How
from pipeline.method.vit import Encoder
from pipeline.runtime.files import atomic_path

Probe = Callable[[Task], Prediction]
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
    trainer: Trainer
    splits: Mapping[str, Clips]
    entries: Mapping[str, ClipEntry]  # by id; empty for images
    features: Mapping[str, SplitFeatures]
    key: Mapping[str, Any]  # what the features depend on
    folder: Path  # for tokens, answers and checkpoints
    how: How
    caches: Mapping[Views, ViewCache] = field(default_factory=dict)

    @cached_property
    def pooled(self) -> Inputs:
        """The features as inputs of heads."""
        return Arrays.of(*((part.ids, part.values) for part in self.features.values()))

    def tokens(self, store_gib: float) -> Inputs:
        """All tokens, for the attentive probe."""
        return attentive.tokens(
            self.encoder,
            self.splits,
            path=self.folder / "tokens",
            key=self.key,
            how=replace(self.how, label=f"{self.how.label}, tokens"),
            store_gib=store_gib,
        )


def probes(settings: Evaluation, subject: Subject) -> dict[str, Probe]:
    """Return the configured probes by name; each remembers what it has answered."""
    found: dict[str, Probe] = {}
    if isinstance(settings.linear, LinearProbe):
        found["linear"] = _remembered("linear", settings.linear, subject, _logistic)
    elif settings.linear is not None:
        found["linear"] = _remembered("linear", settings.linear, subject, _trained)
    if settings.attentive is not None:
        found["attentive"] = _remembered("attentive", settings.attentive, subject, _attentive)
    if settings.knn is not None:
        found["knn"] = _remembered(
            "knn", settings.knn, subject, lambda asked, chosen, *_: knn.predict(asked, chosen)
        )
    if settings.finetune is not None and subject.entries:
        found["finetune"] = _remembered("finetune", settings.finetune, subject, _finetuned)
    return found


def probe_all(
    columns: tuple[str, ...],
    labels: Labels,
    found: Mapping[str, SplitFeatures],
    lost: Mapping[str, str],
    probes: Mapping[str, Probe],
    only: Mapping[str, tuple[str, ...] | None] | None = None,
    split: str = "test",
) -> Results:
    """Run every probe on every label.

    Args:
        columns: labels to predict.
        labels: of every clip.
        found: features by split.
        lost: split of every lost clip, by id.
        probes: by name.
        only: the labels that a probe is restricted to, by the probe's name.
        split: the one that is scored; where that is test, `val` is scored beside it.
    """
    results = Results()
    missing = {name: _missing(name, lost, found) for name in ("val", split)}
    unusable = _unusable(found)
    for label in columns:
        asked = unusable or task.build(label, labels, found, split)
        for name, probe in probes.items():
            wanted = (only or {}).get(name)
            if wanted is not None and label not in wanted:
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


def _missing(split: str, lost: Mapping[str, str], found: Mapping[str, SplitFeatures]) -> list[str]:
    """Return the clips of a split that the data set has lost, or whose features are not there."""
    failed = found[split].failed if split in found else ()
    return [*(clip for clip, its in lost.items() if its == split), *failed]


def _unusable(found: Mapping[str, SplitFeatures]) -> str:
    """Say why no probe can use these features; nothing where they can."""
    broken = sum(int((~np.isfinite(part.values)).any(axis=(1, 2)).sum()) for part in found.values())
    return f"the features of {broken:,} clips are not finite: the encoder is broken" * bool(broken)


def _logistic(asked: Task, settings: LinearProbe, _subject: Subject, _r: Resumption) -> Prediction:
    return linear.predict(asked, settings)


def _trained(
    asked: Task, settings: TrainedLinearProbe, subject: Subject, resumption: Resumption
) -> Prediction:
    def build(classes: int) -> heads.LinearHead:
        return heads.LinearHead(subject.encoder.width, classes, settings.batch_norm)

    return heads.predict(asked, settings, build, subject.pooled, resumption)


def _attentive(
    asked: Task, settings: AttentiveProbe, subject: Subject, resumption: Resumption
) -> Prediction:
    inputs = subject.tokens(settings.store_gib)
    return attentive.predict(asked, settings, inputs, subject.encoder.width, resumption)


def _finetuned(
    asked: Task, settings: Finetune, subject: Subject, resumption: Resumption
) -> Prediction:
    classes, trainer = asked.classes, subject.trainer
    classifier = finetune.fit(
        subject.weights,
        subject.clip,
        [subject.entries[clip] for clip in asked.train.ids],
        finetune.Targets("single", np.searchsorted(classes, asked.train.truth), len(classes)),
        settings,
        folder=resumption.folder,
        label=resumption.label,
        code=stages.modules_sha256("pipeline.evaluation.finetune"),
        threads=trainer.threads,
        workers=trainer.workers,
        cache_mib=trainer.cache_mib,
    )

    def scores(clips: task.Labelled) -> NDArray[np.float32]:
        return views.predict(
            classifier,
            "single",
            [subject.entries[clip] for clip in clips.ids],
            subject.clip,
            settings.views,
            how=replace(subject.how, label=resumption.label, processes=1),
            path=resumption.folder / ("answers" if clips is asked.test else "answers-beside"),
            key=resumption.settings,
            cache=subject.caches.get(settings.views),
        )

    chosen: dict[str, object] = {"epochs": settings.epochs, "fitted_on": "train"}
    return task.predicted(asked, scores, classes, chosen)


MODULES = {
    "linear": ("pipeline.evaluation.recognition.linear", "pipeline.evaluation.recognition.heads"),
    "attentive": ("pipeline.evaluation.recognition.attentive",),
    "knn": ("pipeline.evaluation.recognition.knn",),
    "finetune": ("pipeline.evaluation.finetune", "pipeline.evaluation.views"),
}


def _remembered(
    name: str,
    settings: Any,
    subject: Subject,
    predict: Callable[[Task, Any, Subject, Resumption], Prediction],
) -> Probe:
    def ask(asked: Task) -> Prediction:
        key = {
            "probe": name,
            "settings": _deciding(settings),
            "subject": dict(subject.key),
            "task": _digest(asked),
            "code": stages.modules_sha256(*MODULES[name]),
        }
        path = subject.folder / f"{name}-{_digest(asked)[:16]}.npz"
        known = _read(path, key)
        if known is not None:
            print(f"[{subject.how.label}] {asked.label}, {name}: as answered before")
            return known
        working = path.with_suffix("")
        label = f"{subject.how.label}, {asked.label}, {name}"
        answer = predict(asked, settings, subject, Resumption(working, key, label))
        _write(path, key, answer)
        shutil.rmtree(working, ignore_errors=True)
        return answer

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


def _write(path: Path, key: Mapping[str, Any], answer: Prediction) -> None:
    arrays = {
        "key": np.array(json.dumps(key, sort_keys=True)),
        "scores": answer.scores,
        "classes": answer.classes,
        "chosen": np.array(json.dumps(answer.chosen)),
    }
    if answer.beside is not None:
        arrays["beside"] = answer.beside
    with atomic_path(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def _read(path: Path, key: Mapping[str, Any]) -> Prediction | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["key"]) != json.dumps(key, sort_keys=True):
                return None
            beside = file["beside"] if "beside" in file.files else None
            chosen = json.loads(str(file["chosen"]))
            return Prediction(file["scores"], file["classes"], chosen, beside)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # cut short: it is asked again
