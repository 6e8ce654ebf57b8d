"""`data/NAME/made/`: what each stage of the data was given, and what it ran on.

The files that the stages of the data hand on hold nothing but content: equal clips, equal bytes, on
any machine and by any revision, so that a remark in the code makes no other data set of them. What
belongs to one execution alone stands here, beside the hash of what came out of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.configuration import stages
from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Params
from pipeline.runtime.files import read_json, remove_leftovers, sha256_file, write_json
from pipeline.runtime.provenance import provenance

STAGES = ("manifest", "download", "decode", "shard", "index")


def record(params: Params, stage: str, chunk: int | str = "") -> None:
    """Write down what the manifest that a stage of the data has just written was made of.

    The stages of a run say it in their own manifests.
    """
    output, inputs = files(params, stage, chunk)
    place = DataLayout(params.data.name).made(stage, chunk)
    remove_leftovers(place)
    write_json(
        place,
        {
            "stage": stage,
            "file": output.as_posix(),
            "sha256": sha256_file(output),
            "inputs": {path.as_posix(): sha256_file(path) for path in inputs},
            "settings": json.loads(stages.settings(params, stage)),
            "provenance": provenance(),
        },
    )


def files(params: Params, stage: str, chunk: int | str = "") -> tuple[Path, list[Path]]:
    """Return the manifest that a stage of the data writes, and the files that it reads."""
    data = DataLayout(params.data.name)
    sharded = [data.sharded(number) for number in range(params.data.chunks)]
    return {
        "manifest": (data.manifest, [Path(params.data.rows_from)]),
        "download": (data.downloaded(chunk), [data.manifest, data.chunk_list(chunk)]),
        "decode": (data.decoded(chunk), [data.downloaded(chunk)]),
        "shard": (data.sharded(chunk), [data.decoded(chunk)]),
        "index": (data.index, sharded),
    }[stage]


def read(output: Path) -> dict[str, Any] | None:
    """Return the record of a file that a stage of the data wrote; None where there is none."""
    try:
        body: dict[str, Any] = read_json(place(output))
    except (OSError, ValueError):
        return None
    return body


def place(output: Path) -> Path:
    """Return where the record of a manifest lies."""
    folder, stage, chunk = _stage_of(output)
    return folder.parent.parent / DataLayout(folder.name).made(stage, chunk)


def _stage_of(output: Path) -> tuple[Path, str, str]:
    """Return the data set's folder, the stage and the chunk that a manifest is of."""
    stage = {"downloaded": "download", "decoded": "decode", "sharded": "shard"}.get(
        output.parent.name
    )
    if stage:
        return output.parent.parent, stage, output.stem
    if output.name == "index.json":
        return output.parent.parent, "index", ""
    return output.parent, "manifest", ""
