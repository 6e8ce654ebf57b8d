"""One export: written beside its place, loaded back, compared, and only then put there."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.configuration.known_weights import SEEN
from pipeline.errors import UserError
from pipeline.runtime.files import sha256_file, write_json, write_text
from pipeline.runtime.provenance import code_version
from pipeline.use.exporting import beside, card, comparison, real_input
from pipeline.use.exporting.card import Export
from pipeline.use.exporting.comparison import Expected
from pipeline.weights.hub import seen
from pipeline.weights.video_model import VideoModel

KINDS = ("huggingface", "safetensors", "onnx", "timm")
MANIFEST = "export.json"
READERS = ("transformers", "onnx", "onnxruntime", "timm", "torch", "safetensors")


@dataclass(frozen=True)
class ExportResult:
    """What was written, and the largest difference of each output."""

    folder: Path
    files: tuple[str, ...]
    differences: Mapping[str, float]
    checked_on: str


def export(
    model: VideoModel,
    kind: str,
    folder: Path,
    *,
    videos: Sequence[Path] = (),
    licence: str = "",
    data_licence: str = "",
) -> ExportResult:
    """Write `model` as one of KINDS into `folder`, with a model card and `export.json`.

    Raises:
        UserError: where the folder holds something else, a library is missing, or the exported
            model says something else than this one; then nothing is written.
    """
    _refuse_others(folder)
    if (network := model.settings.network) is not None:
        raise UserError(
            f"its encoder is Transformers' {network.config['model_type']}, which is not exported",
            place=model.origin.path,
            remedy="use the folder that its weights are from",
        )
    known = beside.find(Path(model.origin.path), model.sha256)
    clips, checked_on = real_input.clips(videos, model.clip, known.data)
    expected = comparison.expected(model, clips)
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        write, check = _kind(kind, model)
        files = write(temporary)
        differences = check(temporary, expected)
        comparison.refuse_if_far(differences, kind)
        about = Export(kind, folder.name, differences, checked_on, licence, data_licence)
        write_text(temporary / "README.md", card.text(model, known, about))
        digests = {name: sha256_file(temporary / name) for name in sorted({*files, "README.md"})}
        write_json(temporary / MANIFEST, _manifest(model, about, digests))
        _put(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return ExportResult(folder, (*files, "README.md", MANIFEST), differences, checked_on)


Write = Callable[[Path], list[str]]
Check = Callable[[Path, Expected], dict[str, float]]


def _kind(kind: str, model: VideoModel) -> tuple[Write, Check]:
    """Return how an export is written and loaded back; libraries are imported where they are
    needed."""
    if kind == "huggingface":
        from pipeline.use.exporting import transformers_directory as theirs

        return (
            lambda folder: theirs.write(model, folder),
            lambda folder, expected: theirs.check(folder, expected, model),
        )
    if kind == "onnx":
        from pipeline.use.exporting import onnx_file

        return lambda folder: onnx_file.write(model, folder), onnx_file.check
    from pipeline.use.exporting import state_dicts

    if kind == "timm":
        return lambda folder: state_dicts.write_timm(model, folder), state_dicts.check_timm
    return (
        lambda folder: state_dicts.write_safetensors(model, folder),
        state_dicts.check_safetensors,
    )


def _manifest(model: VideoModel, about: Export, digests: Mapping[str, str]) -> dict[str, Any]:
    versions = {}
    for name in READERS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "kind": about.kind,
        "clip": model.clip.model_dump(mode="json", include=set(SEEN))
        | seen(model.fps).model_dump(mode="json"),
        "checkpoint": {"kind": model.origin.kind, "sha256": model.origin.sha256},
        "files": digests,
        "differences": about.differences,
        "checked_on": about.checked_on,
        "limit": comparison.LIMIT,
        "code": code_version(),
        "packages": versions,
    }


def _refuse_others(folder: Path) -> None:
    if folder.is_file() or (
        folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file()
    ):
        raise UserError(
            "there is something else already, which no export replaces",
            place=str(folder),
            remedy="name another folder with -o",
        )


def _put(temporary: Path, folder: Path) -> None:
    """Put the finished folder into its place; an earlier export there goes."""
    if folder.is_dir():
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        temporary.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        temporary.rename(folder)
