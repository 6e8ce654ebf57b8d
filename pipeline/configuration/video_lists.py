"""The lists of videos that settings name: are they there, with the columns that are asked for?"""

from __future__ import annotations

import contextlib
import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from pipeline.configuration.schema import Data, Params
from pipeline.errors import UserError


def check_columns(params: Params) -> None:
    """Compare `labels` and mixtures with the list of each data set, where that is there already.

    Raises:
        UserError: for a column that the list lacks; but `label` is the default, and may be absent.
            For values of a mixture's column without weights, and weights of no value.
    """
    for name in params.data_sets:
        key = f"evaluation_data.{name}" if name in params.evaluation_data else "data"
        _check_labels(params.on(name).data, key)
    mixtures = {name: run.trainer.mixture for name, run in params.runs.items()}
    columns = {mixture.column for mixture in mixtures.values() if mixture}
    counted = {column: _values(params.data, column) for column in columns}
    for name, mixture in mixtures.items():
        if mixture and (clips := counted[mixture.column]) is not None:
            mixture.check(clips, f"runs.{name}.trainer.mixture")


def check_is_there(data: Data, key: str) -> None:
    """Raise UserError where the file that a data set's rows come from is not there.

    `key` is that of the data set's settings.
    """
    if not Path(data.rows_from).is_file():
        raise UserError(
            "there is no list of videos",
            place=data.rows_from,
            remedy=f"write it there, give {key}.manifest another path, or run from a project's "
            "folder: sigma-pipeline init DIR makes one",
        )


def _check_labels(data: Data, key: str) -> None:
    manifest = Path(data.manifest or "")
    if not manifest.is_file():
        return
    with _open_list(manifest) as file:
        columns = [name.strip() for name in next(csv.reader(file), [])]
    unknown = [name for name in data.labels if name not in columns and name != "label"]
    if unknown:
        raise UserError(
            f"the list has no column {', '.join(unknown)}, which {key}.labels names",
            place=str(manifest),
            remedy=f"its columns are {', '.join(columns)}",
        )


def _values(data: Data, column: str) -> Counter[str] | None:
    """Count the values that a column of the list has among the clips that are pretrained on.

    None where there is no such list yet, or it is damaged, which the manifest stage says.
    """
    manifest = Path(data.manifest or "")
    if not manifest.is_file():
        return None
    with _open_list(manifest) as file, contextlib.suppress(csv.Error):
        rows = csv.DictReader(file)
        rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]

        def text(row: Mapping[str, str | None], name: str) -> str:
            return (row.get(name) or "").strip()

        splits = data.pretrain_splits
        return Counter(
            text(row, column) for row in rows if (text(row, "split") or "train") in splits
        )
    return None


def _open_list(manifest: Path) -> TextIO:
    return manifest.open(encoding="utf-8-sig", errors="replace", newline="")
