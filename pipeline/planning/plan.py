"""What `snakemake -n` says: which jobs would run, each with its reason, on one screen.

Snakemake tells its reasons job by job, a screen for each, and in sum only by rule. Its log events
have them, too: from these the table is made in which jobs of one reason are one line.
"""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Params
from pipeline.configuration.stages import STAGES
from pipeline.data.manifest import local_files
from pipeline.planning import repetition

MOST = 4  # settings, runs or chunks that a line names


@dataclass(frozen=True)
class Job:
    """A job that Snakemake plans, in its own words."""

    rule: str
    part: str  # the run, or the chunk's number; "" for a rule of one job
    reason: str
    outputs: tuple[str, ...]


def rule_name(stage: str, data: str = "") -> str:
    """Return what the rule of a stage is called; `data` is the further data set that it is for."""
    return f"{stage}_{data}" if data else stage


def stages_of_rules(params: Params) -> dict[str, tuple[str, str]]:
    """Return the stage of every rule, and its data set, in the order of the chain."""
    return {
        rule_name(stage, further): (stage, further or params.data.name)
        for stage in STAGES
        for further in ("", *params.evaluation_data)
    }


class DryRun:
    """A filter of Snakemake's logger: puts the table in place of its second count of jobs."""

    def __init__(self, explain: Callable[[Sequence[Job]], str]) -> None:
        self.explain = explain
        self.jobs: list[Job] = []

    def __call__(self, record: logging.LogRecord) -> bool:
        """Return whether the record is to be shown."""
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO:
            self.jobs.append(_job(record))
        elif event == LogEvent.RUN_INFO and self.jobs:
            record.msg, record.args = self.explain(self.jobs), None
        # What follows says the same by rule: `Reasons: ...`, `Rules with provenance ...`.
        return not (self.jobs and _repeats_the_table(record.getMessage()))


def _job(record: logging.LogRecord) -> Job:
    fields: dict[str, Any] = record.__dict__
    wildcards: Mapping[str, str] = fields["wildcards"] or {}
    part = wildcards.get("run", wildcards.get("chunk", ""))
    return Job(fields["rule_name"], part, fields["reason"], tuple(fields["output"]))


def _repeats_the_table(message: str) -> bool:
    return message.startswith(("Reasons:", "Rules with provenance triggered jobs"))


def table(params: Params, jobs: Iterable[Job]) -> str:
    """Return what would run and why, and how much finished training would be repeated."""
    known = stages_of_rules(params)
    jobs = [job for job in jobs if job.rule in known]
    makers = {path: job.rule for job in jobs for path in job.outputs}
    rules = {job.rule for job in jobs}
    trained = {job.part for job in jobs if job.rule == "pretrain"}
    repeated = {run: repetition.of_run(params, run, rules, trained) for run in trained}
    lines: dict[tuple[str, str], list[str]] = {}
    for job in sorted(jobs, key=lambda job: _order(params, list(known), job)):
        reason = why(params, job, makers)
        if job.rule == "pretrain":
            first = [other for other in params.needed(job.part) if other in trained]
            notes = [f"after {_some(first)}"] if first else []
            reason = "; ".join([reason, *notes, *filter(None, [repeated[job.part].note])])
        lines.setdefault((job.rule, reason), []).append(job.part)
    rows = [(rule, _parts(known[rule][0], p), reason) for (rule, reason), p in lines.items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)] if rows else [0, 0]
    text = [
        f"  {rule:{widths[0]}}  {parts:{widths[1]}}  {reason}".rstrip()
        for rule, parts, reason in rows
    ]
    text = ["What would run, and why:", *text, repetition.in_sum(repeated.values())]
    return "\n".join(filter(None, text))


def why(params: Params, job: Job, makers: Mapping[str, str]) -> str:
    """Return the reason of one job in a few words; `makers` has the rule of each output."""
    reasons = []
    params_changed = re.search(r"before: (.*) now: (.*?) ?$", job.reason, re.DOTALL)
    if params_changed:
        reasons += _changed_params(params, job, *map(_values, params_changed.groups()))
    rest = job.reason[: params_changed.start()] if params_changed else job.reason
    files = _files(rest)
    changed = files["Updated input files"]
    if "Code has changed" in rest or any(path.startswith("pipeline/") for path in changed):
        reasons.append("code changed")
    if others := [path for path in changed if not path.startswith("pipeline/")]:
        reasons.append(f"changed: {_some(others)}")
    if "Set of input files has changed" in rest:
        reasons.append("other files go in")
    if "Software environment" in rest:
        reasons.append("its environment changed")
    if files["Incomplete output files"]:
        reasons.append("was interrupted")
    if "Forced execution" in rest:
        reasons.append("asked for")
    if files["Missing output files"] and not reasons:
        reasons.append("its result is not there")
    if not reasons:
        before = dict.fromkeys(
            makers.get(p, p) for p in files["Input files updated by another job"]
        )
        reasons.append(f"after {_some(list(before))}" if before else rest.strip())
    return "; ".join(dict.fromkeys(reasons))


def _changed_params(params: Params, job: Job, old: list[str], new: list[str]) -> list[str]:
    """What differs between the params of a rule: settings, local files, or code."""
    reasons = []
    before, now = _settings(old), _settings(new)
    if before is not None and now is not None:
        reasons.append(f"settings changed: {_some(differences(before, now, job.part))}")
    rest_old, rest_new = ([v for v in side if _settings([v]) is None] for side in (old, new))
    if any(value.startswith(local_files.REPLACED) for value in rest_new):
        _, data = stages_of_rules(params)[job.rule]
        paths = local_files.replaced(DataLayout(data).local_files(job.part))
        reasons.append(f"replaced since: {_some(paths)}" if paths else "files replaced")
    elif rest_old or rest_new:
        reasons.append("code changed")
    return reasons


def differences(old: Mapping[str, Any], new: Mapping[str, Any], run: str = "") -> list[str]:
    """Return `trainer.epochs 10 -> 20` for each setting that differs, keys of the run shortened."""
    before, now = _flat(old), _flat(new)
    texts = []
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            sides = " -> ".join(_short(side.get(key, "nothing")) for side in (before, now))
            texts.append(f"{key.removeprefix(f'runs.{run}.')} {sides}")
    return texts


def _flat(values: Any, key: str = "") -> dict[str, Any]:
    if isinstance(values, Mapping) and values:
        parts = (_flat(v, f"{key}.{name}" if key else name) for name, v in values.items())
        return {name: value for part in parts for name, value in part.items()}
    return {key: values}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _values(text: str) -> list[str]:
    """Read the values that Snakemake prints of params, as Python writes them."""
    try:
        return [str(value) for value in ast.literal_eval(f"[{text}]")]
    except (ValueError, SyntaxError):  # `<nothing exclusive>`
        return []


def _settings(values: Iterable[str]) -> dict[str, Any] | None:
    for value in values:
        if value.startswith("{"):
            settings: dict[str, Any] = json.loads(value)
            return settings
    return None


def _files(reason: str) -> dict[str, list[str]]:
    """Return the files that follow each kind of reason."""
    kinds = (
        "Missing output files",
        "Incomplete output files",
        "Updated input files",
        "Input files updated by another job",
    )
    files_by_kind: dict[str, list[str]] = {kind: [] for kind in kinds}
    for part in reason.split("; "):
        kind, _, files = part.partition(": ")
        if kind in files_by_kind:
            files_by_kind[kind] = [path for path in files.split(", ") if path]
    return files_by_kind


def _order(params: Params, rules: Sequence[str], job: Job) -> tuple[int, int, str]:
    number = int(job.part) if job.part.isdigit() else 0
    if job.rule == "pretrain":  # a run after those that it needs
        number = len(params.needed(job.part))
    return rules.index(job.rule), number, job.part


def _parts(stage: str, parts: Sequence[str]) -> str:
    """Name the runs, or the chunks, of a line."""
    if "chunk" not in STAGES[stage].per:
        return _some([part for part in parts if part], most=12)
    if len(parts) > MOST:
        return f"{len(parts)} chunks"
    return f"chunk{'s' if len(parts) > 1 else ''} {', '.join(parts)}"


def _some(names: Sequence[str], most: int = MOST) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
