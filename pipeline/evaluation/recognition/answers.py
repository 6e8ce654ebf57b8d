"""What each probe said of each clip that is scored: the best five as CSV, all scores as Parquet."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.evaluation.metrics import PLACES
from pipeline.evaluation.recognition.probes import Results
from pipeline.runtime.files import atomic_path, write_text
from pipeline.runtime.spreadsheets import cell

HEADER = ["label", "probe", "id", "true", *(f"predicted_{n}" for n in range(1, PLACES + 1))]


def write_best(path: Path, results: Results) -> None:
    """Write `label, probe, id, true, predicted_1 .. predicted_5`, a row per probe and test clip."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for label, probe, asked, answer in results.answers:
        rows = zip(asked.test.ids, asked.test.truth, answer.ranking, strict=True)
        writer.writerows(
            [cell(text) for text in (label, probe, str(i), str(true), *map(str, best))]
            for i, true, best in rows
        )
    write_text(path, text.getvalue())


def write_all(path: Path, results: Results) -> None:
    """Write `label, probe, id, true, scores`: so that any other metric can be computed.

    `scores` has a value per class, the logarithm of the probability (averaged over views; minus
    infinity where k-NN gave no vote). The file's metadata name the classes of each label and probe,
    as JSON under `classes`: `{"label": {"probe": [...]}}`.
    """
    classes: dict[str, dict[str, list[str]]] = {}
    tables = []
    for label, probe, asked, answer in results.answers:
        classes.setdefault(label, {})[probe] = answer.classes.tolist()
        n = len(asked.test.ids)
        columns = {
            "label": pa.array([label] * n, pa.string()).dictionary_encode(),
            "probe": pa.array([probe] * n, pa.string()).dictionary_encode(),
            "id": pa.array(asked.test.ids.tolist(), pa.string()),
            "true": pa.array(asked.test.truth.tolist(), pa.string()),
            "scores": pa.array(list(answer.scores.astype(np.float32)), pa.list_(pa.float32())),
        }
        tables.append(pa.table(columns, schema=SCHEMA))
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    table = table.replace_schema_metadata({"classes": json.dumps(classes, sort_keys=True)})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


SCHEMA = pa.schema(
    [
        ("label", pa.dictionary(pa.int32(), pa.string())),
        ("probe", pa.dictionary(pa.int32(), pa.string())),
        ("id", pa.string()),
        ("true", pa.string()),
        ("scores", pa.list_(pa.float32())),
    ]
)
