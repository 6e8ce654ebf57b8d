"""What the results were made from and with: the chain of hashes from the list to the scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from pipeline.report.results import Results
from pipeline.runtime.files import read_json, sha256_file
from pipeline.runtime.provenance import provenance


def facts(results: Results) -> dict[str, Any]:
    """Return what the page's last section shows."""
    here = provenance()
    runs = {run.name: run.pretrained.get("provenance") or {} for run in results.runs}
    machines = [each.get("hardware") or {} for each in runs.values()]
    versions = [_versions(each) for each in runs.values()]
    manifest = read_json(results.data.manifest) if results.data.manifest.is_file() else {}
    values = results.params.model_dump(mode="json")
    return {
        "configuration": yaml.safe_dump(values, sort_keys=False, allow_unicode=True),
        "code": _code(here["code"]),
        "run_codes": {name: _code(each.get("code") or {}) for name, each in runs.items()},
        "weights": {run.name: said for run in results.runs if (said := _taken(run.pretrained))},
        "hardware": _distinct([*machines, here["hardware"]]),
        "packages": _merged([*versions, _versions(here)]),
        "resumed": [line for run in results.runs for line in _resumed(run.name, run.pretrained)],
        "source": {"file": "", "sha256": ""} | manifest["source"] if manifest else {},
        "listed": sum(manifest.get("chunks", ())),
        "index_sha256": sha256_file(results.data.index),
    }


def _taken(pretrained: Mapping[str, Any]) -> str:
    """Say where a run's weights were taken from, and if they were given other clips than theirs."""
    weights = pretrained.get("weights")
    if not weights:
        return ""
    other = "; ".join(weights.get("other_clip") or ())
    given = f"; given other clips than they were trained on: {other}" if other else ""
    return f"{weights['kind']}, {weights['path']}{given}"


def _code(version: Mapping[str, Any]) -> str:
    """Say which code it was: a git revision, and a hash of the sources that tells edits apart."""
    revision, digest = version.get("revision"), version.get("source_sha256") or "unknown"
    if not revision:
        return f"sources {digest[:16]} (not in git)"
    edited = ", with uncommitted edits" if version.get("dirty") else ""
    return f"git {revision[:12]}{edited}, sources {digest[:16]}"


def _resumed(name: str, pretrained: Mapping[str, Any]) -> Iterator[str]:
    """Say where a training was gone on with though its code had changed."""
    for change in pretrained.get("code_changes", ()):
        files = ", ".join(change["files"]) or "files that were not noted"
        yield (
            f"{name} was gone on with by other code after step {change['step']:,} "
            f"(trainer.on_code_change=resume), which differs in {files}."
        )


def _versions(made_with: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions of packages, and of the programs that read and write videos."""
    codecs = made_with.get("codecs") or {}
    return (made_with.get("packages") or {}) | {n: v for n, v in codecs.items() if v}


def _distinct(machines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return each machine once, in words."""
    said = []
    for machine in machines:
        if not machine:
            continue
        accelerators = ", ".join(machine.get("accelerators") or []) or "no accelerator"
        parts = [
            str(machine.get("cpu") or "unknown processor"),
            f"{machine.get('cores')} cores",
            f"{machine.get('memory_gib')} GiB",
            accelerators,
            str(machine.get("system")),
        ]
        said.append(", ".join(parts))
    return list(dict.fromkeys(said))


def _merged(versions: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return every package's version; all of them where the runs differ."""
    found: dict[str, dict[str, None]] = {}
    for packages in versions:
        for name, version in packages.items():
            found.setdefault(name, {})[version] = None
    return {name: ", ".join(each) for name, each in sorted(found.items())}
