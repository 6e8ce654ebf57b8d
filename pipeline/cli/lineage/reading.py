"""What one file of the pipeline says of how it was made: its inputs, with hashes, and on what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, combinations
from pathlib import Path
from typing import Any

from pipeline.cli.lineage import made
from pipeline.errors import UserError
from pipeline.runtime.files import read_json, sha256_file


@dataclass(frozen=True)
class Link:
    """A file that another one was made from, or belongs to, and the hash that it noted of it."""

    path: Path | None  # None: no file that is here has this hash
    sha256: str | None  # None: it noted none
    what: str
    bulk: bool = False  # shards and videos, of which there may be terabytes
    drawn: bool = False  # drawn again wherever it is missing


@dataclass(frozen=True)
class Reading:
    """What a file is, what it was made with, and what it leads to."""

    what: str
    links: tuple[Link, ...] = ()
    made_with: Mapping[str, Any] = field(default_factory=dict)
    settings: str = ""  # where the settings stand in full
    notes: tuple[str, ...] = ()


def read(path: Path) -> Reading:
    """Read one file.

    Raises:
        UserError: where it is not one of the pipeline's, or damaged.
    """
    try:
        reader = _reader(path)
        return reader(path) if reader else Reading("not written by the pipeline")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"what is known of this file cannot be read: {error!r}"
        raise UserError(problem, place=str(path), remedy="make it again") from None


def is_ours(path: Path) -> bool:
    """Whether a file is one of those whose origin can be told."""
    return _reader(path) is not None


def _reader(path: Path) -> Callable[[Path], Reading] | None:
    folder, name = path.parent.name, path.name
    by_folder = {"downloaded": _chunk, "decoded": _chunk, "sharded": _chunk}
    if path.suffix == ".json" and folder in by_folder:
        return by_folder[folder]
    if path.suffix == ".pt" and {"checkpoints", "set-aside"} & {folder, path.parent.parent.name}:
        return _checkpoint
    if path.suffix == ".npz" and name.startswith("features"):
        return _features
    if folder == "shards" and path.suffix in (".tar", ".jsonl"):
        return lambda path: Reading("shard", (Link(path.with_name("index.json"), None, "index"),))
    if name == "index.json":
        return _index
    if name == "pictures.json":
        return _pictures
    if name == "evaluation.json" and path.parent.parent.name != "runs":
        return _experiment
    beside = {
        "metrics.json": ("scores, for DVC", "evaluation.json", "scores"),
        "report.html": ("report", "evaluation.json", "scores"),
        "model.safetensors": ("weights", "pretrain.json", "pretraining"),
        "metrics.jsonl": ("loss curve", "pretrain.json", "pretraining"),
        "metrics.csv": ("loss curve", "pretrain.json", "pretraining"),
        "predictions.csv": ("answers", "evaluation.json", "scores"),
        "predictions.parquet": ("answers", "evaluation.json", "scores"),
        "segmentation.parquet": ("segmentation by clip", "segmentation.json", "segmentation"),
        "severe.parquet": ("SEVERE by clip", "severe.json", "SEVERE"),
        "lost.csv": ("lost clips", "shards/index.json", "index"),
    }
    if name in beside:
        what, other, its = beside[name]
        return lambda path: Reading(what, (Link(path.parent / other, None, its),))
    names: dict[str, Callable[[Path], Reading]] = {
        "evaluation.json": _run,
        "segmentation.json": _run,
        "severe.json": _run,
        "pretrain.json": _pretrained,
        "manifest.json": _manifest,
    }
    return names.get(name)


def _experiment(path: Path) -> Reading:
    body = read_json(path)
    inputs, runs = body["inputs"], path.parent / "runs"
    scored = inputs.get("runs", {})
    links = [
        Link(runs / run / name, scored.get(run, {}).get(name), f"{title} of {run}")
        for run in inputs["weights"]
        for name, title in (
            ("evaluation.json", "recognition"),
            ("segmentation.json", "segmentation"),
            ("severe.json", "SEVERE"),
        )
        if (runs / run / name).is_file()
    ]
    for run, digest in inputs["weights"].items():
        links.append(Link(runs / run / "model.safetensors", digest, f"weights of {run}"))
    links.append(_index_of(inputs["index"]))
    made_with = body.get("provenance") or {"code": body.get("code")}
    return Reading(
        f"scores of experiment {body['experiment']}", tuple(links), made_with, "settings"
    )


def _run(path: Path) -> Reading:
    body = read_json(path)
    titles = {"evaluation": "recognition", "segmentation": "segmentation", "severe": "SEVERE"}
    links = [Link(path.with_name("model.safetensors"), body["inputs"]["weights"], "weights")]
    drawn = _drawn_tasks(body)
    links += [
        _index_of(digest, f"index for {name}" if name != "index" else name, drawn=name in drawn)
        for name, digest in body["inputs"].items()
        if name != "weights" and not _is_folder_of_masks(body, name)
    ]
    beside = {"features": "features.npz", "predictions": "predictions.csv", "clips": "*.parquet"}
    for name, digest in body.get("outputs", {}).items():
        file = path.with_suffix(".parquet").name if name == "clips" else beside[name]
        links.append(Link(path.with_name(file), digest, "written with it"))
    notes = tuple(
        f"{name}: masks of other origin, hash {digest[:12]}"
        for name, digest in body["inputs"].items()
        if _is_folder_of_masks(body, name)
    )
    what = f"{titles[path.stem]} of run {body['run']}"
    return Reading(what, tuple(links), body.get("provenance", {}), "settings, clip", notes)


def _is_folder_of_masks(body: Mapping[str, Any], name: str) -> bool:
    """DAVIS or YouTube-VOS: a folder of the user's, hashed by the names and sizes in it."""
    data = body["settings"].get("data", ()) if "tasks" not in body["settings"] else ()
    return any(each["name"] == name and each["kind"] != "embedded" for each in data)


def _drawn_tasks(body: Mapping[str, Any]) -> set[str]:
    """The tasks of SEVERE whose clips are drawn, not taken from a data set."""
    tasks = body["settings"].get("tasks", ())
    return {task["name"] for task in tasks if task["clips"]["kind"] == "drawn"}


def _pretrained(path: Path) -> Reading:
    body = read_json(path)
    links = [
        Link(path.with_name("model.safetensors"), body["model_sha256"], "weights"),
        Link(path.with_name("metrics.jsonl"), body["metrics_sha256"], "loss curve"),
        _index_of(body["index_sha256"])
        if "index_sha256" in body  # made before labels were told from pictures
        else _pictures_of(body["pictures_sha256"]),
    ]
    if origin := body.get("weights"):  # a file, or a folder with these files
        place = Path(origin["path"])
        for name, digest in origin["sha256"].items():
            file = place / name if place.is_dir() else place
            links.append(Link(file, digest, f"{origin['kind']}, from elsewhere"))
    notes = [f"{len(body['sessions'])} session(s), {body['steps']:,} steps"]
    if body.get("teacher_sha256"):
        notes.append(f"frozen network, digest of its weights {body['teacher_sha256'][:12]}")
    what = f"pretraining of run {body['run']}"
    return Reading(what, tuple(links), body["provenance"], "configuration, clip", tuple(notes))


def _checkpoint(path: Path) -> Reading:
    import torch

    body = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    settings = json.loads(body["settings"])
    sessions = body["sessions"]
    data = settings["data"]
    links = [
        _index_with_shards(data["shards"]) if "shards" in data else _pictures_of(data["pictures"])
    ]
    noted = path.with_name(f"{path.name}.sha256")
    if noted.is_file():
        links.append(Link(path, noted.read_text(encoding="utf-8").split()[0], "these bytes"))
    return Reading(
        f"checkpoint of step {body['step']:,}",
        tuple(links),
        sessions[-1] if sessions else {},
        "settings, configuration",
        (links[0].what,),
    )


def _features(path: Path) -> Reading:
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        key = json.loads(str(file["key"]))
        made_with = json.loads(str(file["provenance"])) if "provenance" in file.files else {}
    links = [Link(path.with_name("model.safetensors"), key["weights"], "weights")]
    if "index" in key:
        links.append(_index_of(key["index"]))
    notes = (f"code of extraction {key['code'][:12]}",)
    return Reading("features", tuple(links), made_with, "key", notes)


def _index(path: Path) -> Reading:
    body = read_json(path)
    links = [
        Link(path.parent / shard["name"], shard["sha256"], "shard", bulk=True)
        for shard in body["shards"]
    ]
    if path.parent.name != "shards":
        return Reading(f"clips drawn for SEVERE: {body['name']}", tuple(links))
    census = ", ".join(f"{count:,} {outcome}" for outcome, count in body["census"].items())
    return _with_record(path, f"index of data set {body['name']}: {census}", links)


def _pictures(path: Path) -> Reading:
    from pipeline.data.shards.index import DatasetIndex

    body, file = read_json(path), path.with_name("index.json")
    index = Link(file, None, "index")
    if file.is_file():  # labels may have changed since, and the file's hash with them
        holds = DatasetIndex.load(path.parent).pictures(body["splits"]).sha256 == body["sha256"]
        digest = sha256_file(file) if holds else body["sha256"]
        index = Link(file, digest, "index of these pictures")
    return Reading(f"{body['clips']:,} clips of {', '.join(body['splits'])}, no label", (index,))


def _manifest(path: Path) -> Reading:
    body = read_json(path)
    source = body["source"]
    links = [Link(Path(source["file"]), source["sha256"], "list")] if "file" in source else []
    if "synthetic" in source:
        notes: tuple[str, ...] = (f"drawn by version {source['synthetic']['version']}",)
    else:
        notes = ()
    return _with_record(path, f"{body['rows']:,} rows of the list", links, notes)


def _chunk(path: Path) -> Reading:
    body = read_json(path)
    links = []
    if body["stage"] == "download":
        links = [
            Link(Path(clip["file"]), clip["sha256"], "video", bulk=True)
            for clip in body["clips"]
            if clip.get("file") and clip.get("sha256")
        ]
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in body["counts"].items())
    return _with_record(path, f"{body['stage']}, chunk {body['chunk']}: {counts}", links)


def _with_record(path: Path, what: str, links: list[Link], notes: tuple[str, ...] = ()) -> Reading:
    """Add what stands of this file in the folder `made`, where that is there and of these bytes."""
    found = made.read(path)
    if found is None:
        return Reading(what, tuple(links), notes=(*notes, "no record of what it was made of"))
    own = Link(path, found["sha256"], "these bytes")
    inputs = [Link(Path(name), digest, "read") for name, digest in found["inputs"].items()]
    where = made.place(path).as_posix()
    return Reading(what, (own, *links, *inputs), found["provenance"], where, notes)


def _index_of(digest: str, what: str = "index", *, drawn: bool = False) -> Link:
    """Find the data set whose index has this hash."""
    for path in _indexes():
        if sha256_file(path) == digest:
            return Link(path, digest, what, drawn=drawn)
    return Link(None, digest, what, drawn=drawn)


def _pictures_of(digest: str) -> Link:
    """Find the data set of whose pictures this is the hash."""
    for path in sorted(Path("data").glob("*/shards/pictures.json")):
        if read_json(path)["sha256"] == digest:
            return Link(path, sha256_file(path), "pictures")
    return Link(None, digest, "pictures")


def _index_with_shards(digest: str) -> Link:
    """Find the data set of which some splits have just the shards that a checkpoint was made of."""
    for path in _indexes():
        shards = read_json(path)["shards"]
        splits = sorted({shard["split"] for shard in shards})
        for chosen in chain(*(combinations(splits, n) for n in range(1, len(splits) + 1))):
            hashes = sorted(shard["sha256"] for shard in shards if shard["split"] in chosen)
            if hashlib.sha256("\n".join(hashes).encode()).hexdigest() == digest:
                return Link(path, sha256_file(path), f"index: its splits {', '.join(chosen)}")
    return Link(None, digest, "shards")


def _indexes() -> Iterator[Path]:
    """Yield the index of every data set in the project, those that were drawn for SEVERE last."""
    yield from sorted(Path("data").glob("*/shards/index.json"))
    yield from sorted(Path("data").glob("*/severe/*/*/index.json"))
