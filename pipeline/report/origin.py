"""What the results were made from and with: the chain of hashes from the list to the scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from pipeline.report.results import Results
from pipeline.runtime.files import read_json, sha256_file
from pipeline.runtime.provenance import provenance


def facts(results: Results) -> dict[str, Any]:
    """Return what the page's last section shows."""
    here = provenance()
    runs = {run.name: run.pretrained.get("provenance") or {} for run in results.runs}
    machines = [each.get("hardware") or {} for each in (*runs.values(), here)]
    manifest = read_json(results.data.manifest) if results.data.manifest.is_file() else {}
    values = results.params.model_dump(mode="json")
    return {
        "configuration": yaml.safe_dump(values, sort_keys=False, allow_unicode=True),
        "code": here["code"],
        "run_codes": {name: each.get("code") or {} for name, each in runs.items()},
        "hardware": [m for k, m in enumerate(machines) if m and m not in machines[:k]],
        "packages": _merged(_versions(each) for each in (*runs.values(), here)),
        "source": {"file": "", "sha256": ""} | manifest["source"] if manifest else {},
        "listed": sum(manifest.get("chunks", ())),
        "index_sha256": sha256_file(results.data.index),
    }


def _versions(made_with: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions of packages, and of the programs that read and write videos."""
    codecs = made_with.get("codecs") or {}
    return (made_with.get("packages") or {}) | {n: v for n, v in codecs.items() if v}


def _merged(versions: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return every package's version; all of them where the runs differ."""
    merged: dict[str, dict[str, None]] = {}
    for packages in versions:
        for name, version in packages.items():
            merged.setdefault(name, {})[version] = None
    return {name: ", ".join(each) for name, each in sorted(merged.items())}
