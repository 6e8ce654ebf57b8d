"""What one file of the pipeline says of how it was made: its inputs, with hashes, and on what.

Every stage writes a JSON file with the hashes of what it read (`inputs`, or keys `NAME_sha256`) and
wrote (`outputs`), its settings and its `provenance`; features and checkpoints hold the same. So
this knows no stage by name: a hash is of a file beside (BESIDE), of a run's file, or else of a data
set that has it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, combinations
from pathlib import Path
from typing import Any

from pipeline.cli.lineage import made
from pipeline.data.shards import by_hash
from pipeline.errors import UserError
from pipeline.runtime.files import read_json, sha256_file

# Where a file lies, by the name under which its hash is noted in a file of the same folder.
BESIDE = {
    "weights": "model.safetensors",
    "model": "model.safetensors",
    "metrics": "metrics.jsonl",
    "features": "features.npz",
    "clusters": "clusters.safetensors",
    "predictions": "predictions.csv",
    "clips": "{stem}.parquet",
}
OF_THE_RUN = ("weights", "model")  # the same ones whichever data set it is scored on
# Files that note nothing themselves, and the one that tells of them.
WRITTEN_WITH = {
    "metrics.json": "evaluation.json",
    "report.html": "evaluation.json",
    "predictions.csv": "evaluation.json",
    "predictions.parquet": "evaluation.json",
    "model.safetensors": "pretrain.json",
    "metrics.jsonl": "pretrain.json",
    "metrics.csv": "pretrain.json",
    "lost.csv": "shards/index.json",
}
SHA256 = 64  # characters
SETTINGS = ("settings", "configuration", "clip", "key")  # keys under which settings stand


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


def read(path: Path) -> Reading | None:
    """Read one file; None where it is not one of the pipeline's.

    Raises:
        UserError: where it is damaged.
    """
    if manifest := _manifest_of(path):
        return Reading(f"written with {manifest.name}", (Link(manifest, None, manifest.stem),))
    try:
        body = _content(path)
        title = _title(path, body)
        if not title:
            return None
        links, notes = [*_links(path, body)], [*_notes(body)]
        made_with = body.get("provenance") or {key: body[key] for key in ("code",) if key in body}
        settings = ", ".join(key for key in SETTINGS if key in body)
        if "provenance" not in body and _has_record(path):  # a stage of the data
            made_with, settings = {}, ""
            if record := made.read(path):
                made_with, settings = record["provenance"], made.place(path).as_posix()
                links.append(Link(path, record["sha256"], "these bytes"))
                links += [Link(Path(n), digest, "read") for n, digest in record["inputs"].items()]
            else:
                notes.append("no record of what it was made of")
        return Reading(title, tuple(links), made_with, settings, tuple(notes))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"what is known of this file cannot be read: {error!r}"
        raise UserError(problem, place=str(path), remedy="make it again") from None


def _manifest_of(path: Path) -> Path | None:
    """Return the file that tells of one which notes nothing itself."""
    if path.parent.name == "shards" and path.suffix in (".tar", ".jsonl", ".arrow"):
        return path.with_name("index.json")
    if path.name in WRITTEN_WITH:
        return path.parent / WRITTEN_WITH[path.name]
    return path.with_suffix(".json") if path.suffix == ".parquet" else None


def _content(path: Path) -> Mapping[str, Any]:
    """Return what a file notes; nothing where it is of another kind."""
    if path.suffix == ".json":
        body = read_json(path)
        return body if isinstance(body, dict) else {}
    if path.suffix == ".npz" and path.name.startswith("features"):
        import numpy as np

        with np.load(path, allow_pickle=False) as file:
            key = json.loads(str(file["key"]))
            made_with = json.loads(str(file["provenance"])) if "provenance" in file.files else {}
        inputs = {name: key[name] for name in ("weights", "index", "code") if name in key}
        return {"key": key, "inputs": inputs, "provenance": made_with}
    if path.suffix == ".pt" and {"checkpoints", "set-aside"} & set(path.parts[-3:-1]):
        import torch

        body = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        data = json.loads(body["settings"])["data"]
        kept = {name: body[name] for name in ("step", *SETTINGS) if name in body}
        return {**kept, "inputs": data, "provenance": (body["sessions"] or [{}])[-1]}
    return {}


def _title(path: Path, body: Mapping[str, Any]) -> str:
    """Say what a file is; empty where it is not one of the pipeline's."""
    match body:
        case {"step": step, "inputs": _}:
            return f"checkpoint of step {step:,}"
        case {"key": _, "inputs": _}:
            return "features"
        case {"run": run}:
            return f"{path.stem} of run {run}"
        case {"experiment": experiment, "inputs": _}:
            return f"scores of experiment {experiment}"
        case {"stage": stage, "chunk": chunk, "counts": counts}:
            return f"{stage}, chunk {chunk}: {_counted(counts)}"
        case {"name": name, "shards": _}:
            return f"index of data set {name}: {_counted(body.get('census', {}))}"
        case {"rows": rows, "source": _}:
            return f"{rows:,} rows of the list"
        case {"clips": clips, "splits": splits, "sha256": _}:
            return f"{clips:,} clips of {', '.join(splits)}, no label"
    return ""


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {outcome}" for outcome, count in counts.items())


def _links(path: Path, body: Mapping[str, Any]) -> Iterator[Link]:
    """Yield every file whose hash is noted in `body`."""
    sources = _sources(body)
    for names, digest in _hashes(body):
        source = sources.get(names[-1], {})
        drawn = source.get("kind") == "drawn"
        if "root" not in source and (link := _link(path, names, digest, drawn=drawn)):
            yield link
    if "runs" not in (inputs := body.get("inputs", {})) and isinstance(inputs.get("weights"), dict):
        for run in inputs["weights"]:  # of an experiment scored before these hashes were noted
            yield Link(path.parent / "runs" / run / "evaluation.json", None, f"evaluation of {run}")
    for shard in body.get("shards", ()):
        yield Link(path.parent / shard["name"], shard["sha256"], "shard", bulk=True)
    if body.get("stage") == "download":
        for clip in body["clips"]:
            if clip.get("file") and clip.get("sha256"):
                yield Link(Path(clip["file"]), clip["sha256"], "video", bulk=True)
    source = body.get("source") or {}
    if "file" in source:
        yield Link(Path(source["file"]), source["sha256"], "list")
    for key in ("weights", "init"):
        if origin := body.get(key):  # a file, or a folder with these files
            whose = f"from run {origin['run']}" if origin.get("run") else "from elsewhere"
            begun = "training began with " if key == "init" else ""
            place = Path(origin["path"])
            for name, digest in origin["sha256"].items():
                file = place / name if place.is_dir() else place
                yield Link(file, digest, f"{begun}{origin['kind']}, {whose}")
    for run in body.get("inherited", {}).get("needs", {}):
        file = path.parent.parent / run / BESIDE["weights"]
        yield Link(file, None, f"weights of run {run}, of which its targets are made")
    if path.name == "pictures.json":
        yield _index_of_pictures(path, body)
    noted = path.with_name(f"{path.name}.sha256")
    if noted.is_file():
        yield Link(path, noted.read_text(encoding="utf-8").split()[0], "these bytes")


def _hashes(body: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the hashes in `body`, each with its name; in inputs of an experiment, of each run."""
    pending: list[tuple[tuple[str, ...], Any]] = [
        ((name,), value)
        for part in ("inputs", "outputs")
        for name, value in body.get(part, {}).items()
    ]
    pending += [((k.removesuffix("_sha256"),), v) for k, v in body.items() if k.endswith("_sha256")]
    for names, value in pending:
        if isinstance(value, str) and len(value) == SHA256:
            yield names, value
        elif isinstance(value, dict):
            pending += [((*names, name), each) for name, each in value.items()]


def _link(path: Path, names: tuple[str, ...], digest: str, *, drawn: bool) -> Link | None:
    """Return the file that a hash is of; None where it is of no file."""
    match names:
        case ("weights", run):
            file = path.parent / "runs" / run / BESIDE["weights"]
            return Link(file, digest, f"weights of {run}")
        case ("runs", run, name):
            return Link(path.parent / "runs" / run / name, digest, f"{Path(name).stem} of {run}")
        case ("teacher" | "code",):
            return None
        case ("shards",):
            return _index_with_shards(digest)
        case ("pictures",):
            pictures = by_hash.with_pictures(digest)
            return Link(pictures, sha256_file(pictures) if pictures else digest, "pictures")
        case (name,) if name in BESIDE:
            folder = _run_of(path) if name in OF_THE_RUN else path.parent
            return Link(folder / BESIDE[name].format(stem=path.stem), digest, name)
    what = names[-1] if names == ("index",) else f"index for {names[-1]}"
    return Link(by_hash.with_index(digest), digest, what, drawn=drawn)


def _run_of(path: Path) -> Path:
    """Return the folder of a run, also of its scores on a further data set: RUN/data/NAME/*."""
    return path.parents[2] if path.parts[-3:-2] == ("data",) else path.parent


def _sources(body: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return what a benchmark's settings say of each of its data sets or tasks, by name."""
    settings = body.get("settings")
    lists = settings.values() if isinstance(settings, dict) else ()
    entries = [e for each in lists if isinstance(each, list) for e in each if isinstance(e, dict)]
    return {
        entry["name"]: clips if isinstance(clips := entry.get("clips"), dict) else entry
        for entry in entries
        if "name" in entry
    }


def _notes(body: Mapping[str, Any]) -> Iterator[str]:
    """Say what else is noted."""
    sources = _sources(body)
    for names, digest in _hashes(body):
        if "root" in sources.get(names[-1], {}):  # the user's folder, hashed by names and sizes
            yield f"{names[-1]}: masks of other origin, hash {digest[:12]}"
        if names == ("teacher",):
            yield f"frozen network, digest of its weights {digest[:12]}"
        if names == ("code",):
            yield f"code of extraction {digest[:12]}"
    if "sessions" in body:
        yield f"{len(body['sessions'])} session(s), {body['steps']:,} steps"
    if "synthetic" in (source := body.get("source") or {}):
        yield f"drawn by version {source['synthetic']['version']}"


def _has_record(path: Path) -> bool:
    """Whether a stage of the data writes this file."""
    return path.name == "manifest.json" or path.parent.name in (
        *("downloaded", "decoded", "sharded"),
        *(["shards"] if path.name == "index.json" else []),
    )


def _index_of_pictures(path: Path, body: Mapping[str, Any]) -> Link:
    from pipeline.data.shards.index import DatasetIndex

    file = path.with_name("index.json")
    if not file.is_file():
        return Link(file, None, "index")
    # Labels may have changed since, and the file's hash with them.
    holds = DatasetIndex.load(path.parent).pictures(body["splits"]).sha256 == body["sha256"]
    return Link(file, sha256_file(file) if holds else body["sha256"], "index of these pictures")


def _index_with_shards(digest: str) -> Link:
    """Find the data set of which some splits have just the shards that a checkpoint was made of."""
    for path in by_hash.index_files():
        shards = read_json(path)["shards"]
        splits = sorted({shard["split"] for shard in shards})
        for chosen in chain(*(combinations(splits, n) for n in range(1, len(splits) + 1))):
            hashes = sorted(shard["sha256"] for shard in shards if shard["split"] in chosen)
            if hashlib.sha256("\n".join(hashes).encode()).hexdigest() == digest:
                return Link(path, sha256_file(path), f"index: its splits {', '.join(chosen)}")
    return Link(None, digest, "shards")
