"""Settings under names that they no longer have: still read, with a note of today's name."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

LOSS = ("prototypes", "epsilon", "iterations", "temperature")  # were beside the loss
TARGETS = {"dino": "frozen"}  # kinds
RUN = r"(?P<run>(?:runs\.\w+\.)?)objective\."
# What an override was, and is.
OVERRIDES = (
    (rf"(\+*){RUN}({'|'.join(LOSS)})=(.*)", r"\1\g<run>objective.loss.\3=\4"),
    (rf"(\+*){RUN}mask\.motion\.(\w+)=(.*)", r"\1\g<run>objective.mask.\3=\4"),
    (rf"(\+*){RUN}target\.kind=dino", r"\1\g<run>objective.target.kind=frozen"),
)
# Kinds of masks and losses are choices of groups of their own.
GROUPS = re.compile(rf"{RUN}(?:(?P<mask>mask)\.kind|(?P<loss>loss))=(?P<choice>\w+)")


def current(overrides: Sequence[str]) -> list[str]:
    """Return overrides of the command line under today's names."""
    return [_current(override) for override in overrides]


def tell_overrides(overrides: Sequence[str]) -> None:
    """Note which overrides have other names today."""
    for before, after in zip(overrides, current(overrides), strict=True):
        if before != after:
            _note(before, after)


def _current(override: str) -> str:
    if match := GROUPS.fullmatch(override):
        part = match["mask"] or match["loss"]
        where = f"@{match['run']}objective.{part}" if match["run"] else ""
        return f"objective/{part}{where}={match['choice']}"
    for before, after in OVERRIDES:
        if match := re.fullmatch(before, override):
            return match.expand(after)
    return override


def objective(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of an objective with the keys of before under their names of today."""
    new = {key: value for key, value in values.items() if key not in LOSS}
    flat = {key: values[key] for key in LOSS if key in values}
    loss = new.get("loss")
    if isinstance(loss, str):
        new["loss"] = {"kind": loss}
    if isinstance(new.get("loss"), dict) and new["loss"].get("kind") != "mse":
        new["loss"] = new["loss"] | flat
    target = new.get("target")
    if isinstance(target, dict) and target.get("kind") in TARGETS:
        new["target"] = target | {"kind": TARGETS[target["kind"]]}
    mask = new.get("mask")
    if isinstance(mask, dict) and "motion" in mask:
        motion = (mask["motion"] or {}) if mask.get("kind") == "motion" else {}
        new["mask"] = {key: value for key, value in mask.items() if key != "motion"} | motion
    return new


def tell(values: dict[str, Any]) -> None:
    """Note which keys of a configuration file have other names today."""
    runs = values.get("runs")
    named = {f"runs.{name}": run for name, run in runs.items()} if isinstance(runs, dict) else {}
    for place, section in {"": values, **named}.items():
        values_before = section.get("objective") if isinstance(section, dict) else None
        if isinstance(values_before, dict) and objective(values_before) != values_before:
            prefix = f"{place}.objective".lstrip(".")
            _note(f"{prefix} of an earlier version", f"{prefix}: {objective(values_before)}")


def _note(before: str, after: str) -> None:
    print(f"note: {before} is now {after}", file=sys.stderr)
