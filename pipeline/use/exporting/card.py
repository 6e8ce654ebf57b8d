"""A model card: what is known of a model, where each number is from, and what is not known."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.evaluation.registry import BENCHMARKS
from pipeline.runtime.provenance import code_version, packages
from pipeline.use.exporting.beside import Beside
from pipeline.use.exporting.comparison import LIMIT
from pipeline.weights.video_model import VideoModel

SYNTHETIC = (
    "drawn by the pipeline (Apache-2.0) from the handwritten digits of scikit-learn's "
    "`load_digits` (Optical Recognition of Handwritten Digits, published by UCI under CC BY 4.0)"
)
USE = {
    "huggingface": """\
    from transformers import VideoMAEImageProcessor, {architecture}

    processor = VideoMAEImageProcessor.from_pretrained("{name}")
    model = {architecture}.from_pretrained("{name}").eval()
    inputs = processor(frames, return_tensors="pt")  # {frames} frames: {taken}
    outputs = model(**inputs)""",
    "safetensors": """\
    from pipeline.weights import hub

    model = hub.load("{name}/model.safetensors")
    features = model.embed("clip.mp4")""",
    "onnx": """\
    import onnxruntime

    session = onnxruntime.InferenceSession("{name}/model.onnx")
    tokens, features, *logits = session.run(None, {{"pixel_values": pixels}})

Pixels are B,{frames},3,{size},{size}: scaled to 0..1, then ImageNet's mean and deviation.""",
    "timm": """\
    import json
    from safetensors.torch import load_file
    from pipeline.use.exporting.state_dicts import build_timm

    model = build_timm(json.load(open("{name}/config.json")))  # timm's VisionTransformer
    model.load_state_dict(load_file("{name}/model.safetensors"))
    tokens = model.forward_features(videos)  # B,3,{frames},{size},{size}""",
}
LIBRARY = {"huggingface": "transformers", "timm": "timm", "onnx": "onnx"}


@dataclass(frozen=True)
class Export:
    """What was written, and how it was checked."""

    kind: str  # a key of USE
    name: str
    differences: Mapping[str, float]
    checked_on: str
    licence: str = ""  # of the weights
    data_licence: str = ""


def text(model: VideoModel, beside: Beside, export: Export) -> str:
    """Return README.md: YAML for hubs, then the card."""
    task = "feature-extraction" if model.classifier is None else "video-classification"
    front = {
        "library_name": LIBRARY.get(export.kind, "sigma-pipeline"),
        "pipeline_tag": task,
        "tags": ["video", "videomae", "self-supervised", "sigma-pipeline"],
        "license": export.licence or "unknown",
    }
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {export.name}",
        _what(model),
        "## How to use it",
        _use(model, export),
        "## Intended use",
        _intended(model),
        "## Data",
        *_data(beside, export),
        "## Training",
        *_training(model, beside),
        "## Metrics",
        *_metrics(beside),
        "## Check of this export",
        _checked(export),
        "## Provenance",
        _provenance(model, beside),
    ]
    return "\n\n".join(parts) + "\n"


def _what(model: VideoModel) -> str:
    settings, clip = model.settings, model.clip
    t, h, w = settings.tube
    head = ""
    if model.classifier is not None:
        known = "" if model.labels else ", whose names the checkpoint does not say"
        head = f" It has a linear head for {model.classifier.head.out_features} classes{known}."
    return (
        f"A video transformer (VideoMAE's architecture) of width {settings.width}, "
        f"{settings.depth} blocks and {settings.heads} heads, for clips of {clip.frames} frames of "
        f"{clip.size} x {clip.size} pixels in tubes of {t} x {h} x {w}{_rate(model)}. "
        f"Exported from {model.origin.kind}.{head}"
    )


def _rate(model: VideoModel) -> str:
    """Say which frames of a video it was trained on."""
    return f", {_taken(model)}" + (
        f", of videos of {model.fps:g} frames a second" if model.fps else ""
    )


def _taken(model: VideoModel) -> str:
    """Say which frames of a video a clip has."""
    if model.clip.sampling == "per_segment":
        return "one frame of each of as many parts of the video"
    stride = model.clip.stride
    return "every frame" if stride == 1 else f"one frame of {stride}"


def _use(model: VideoModel, export: Export) -> str:
    architecture = "VideoMAEModel"
    if model.classifier is not None:
        architecture = "VideoMAEForVideoClassification"
    clip = model.clip
    return USE[export.kind].format(
        name=export.name,
        architecture=architecture,
        frames=clip.frames,
        taken=_taken(model),
        size=clip.size,
    )


def _intended(model: VideoModel) -> str:
    classes = "Classifying short clips into the classes of its head, and as"
    purpose = "As" if model.classifier is None else classes
    return (
        f"{purpose} features for research: probing, retrieval, fine-tuning. It was not examined "
        "for bias, nor for videos unlike those that it was trained on, and is not meant for "
        "decisions about people."
    )


def _data(beside: Beside, export: Export) -> Iterator[str]:
    index = beside.data
    if index is not None:
        splits = ", ".join(f"{name} {count:,}" for name, count in sorted(index.splits.items()))
        yield f"Data set `{index.name}`: {splits} clips. Of its list {_census(index.census)}."
    elif census := beside.results.get("evaluation", {}).get("census"):
        yield f"The data set is not beside the checkpoint. Of its list {_census(census)}."
    else:
        yield "What it was trained on is not recorded beside the checkpoint."
    pretrain = beside.pretrain
    if pretrain and not pretrain["epochs"]:
        yield "The run trained nothing: its data are what it was evaluated on."
    elif pretrain:
        yield (
            f"Pretrained on {pretrain['clips']:,} clips, {pretrain['epochs']} epochs. SHA-256 of "
            + (
                f"the data set's index: `{pretrain['index_sha256']}`."
                if "index_sha256" in pretrain
                else f"their pictures: `{pretrain['pictures_sha256']}`."
            )
        )
        if mixture := pretrain.get("mixture"):
            parts = mixture["components"].items()
            shares = ", ".join(f"{name} {part['share']:.1%}" for name, part in parts)
            yield f"Its samples were a mixture by `{mixture['column']}`: {shares}."
        if init := pretrain.get("init"):
            whose = f"of run `{init['run']}`" if init.get("run") else f"of {init['kind']}"
            parts = "encoder and decoder" if init["decoder"] else "encoder"
            yield (
                f"Its training began with the {parts} {whose}; SHA-256 "
                + ", ".join(f"`{digest}`" for digest in init["sha256"].values())
                + "."
            )
    synthetic = index is not None and index.name.startswith("synthetic")
    licence = export.data_licence or (SYNTHETIC if synthetic else "")
    yield f"Licence of the data: {licence or 'not recorded; ask those who publish the data'}."


def _census(census: Mapping[str, int]) -> str:
    total = sum(census.values())
    lost = [f"{count:,} {name}" for name, count in census.items() if name != "ok"]
    kept = f"{census.get('ok', 0):,} of {total:,} clips could be used"
    return f"{kept} (lost: {', '.join(lost)})" if lost else kept


def _training(model: VideoModel, beside: Beside) -> Iterator[str]:
    pretrain = beside.pretrain
    if not pretrain:
        yield f"Not recorded beside the checkpoint ({model.origin.kind})."
        return
    run = f"Run `{pretrain['run']}` of experiment `{pretrain['experiment']}`"
    encoder = f"{pretrain['encoder_parameters']:,}"
    settings = {"clip": pretrain["clip"], **pretrain["configuration"]}
    if pretrain["epochs"]:
        yield (
            f"{run}: {pretrain['steps']:,} steps, final loss {_number(pretrain['final_loss'])}, "
            f"{pretrain['parameters']:,} parameters ({encoder} in the encoder), "
            f"{pretrain['seconds']:,.0f} s."
        )
    else:  # of its settings those of training say nothing
        settings = {key: settings[key] for key in ("clip", "model")}
        yield f"{run}: {encoder} parameters in the encoder, not trained there. {_origin(pretrain)}"
    yield f"```yaml\n{yaml.safe_dump(json.loads(json.dumps(settings)), sort_keys=True)}```"


def _origin(pretrain: Mapping[str, Any]) -> str:
    """Say what an encoder is that was given to a run, or drawn by it."""
    given = pretrain.get("weights")
    if not given:
        return f"Its weights are as drawn, of seed {pretrain['configuration']['trainer']['seed']}."
    files = ", ".join(f"`{Path(name).name}` `{sha256}`" for name, sha256 in given["sha256"].items())
    return (
        f"Its weights are of {given['kind']}; SHA-256: {files}. What they were trained on is not "
        "recorded here."
    )


def _metrics(beside: Beside) -> Iterator[str]:
    if not beside.results:
        yield "None are recorded beside the checkpoint."
    for name, content in beside.results.items():
        rows = list(_rows(name, content.get("scores", [])))
        if not rows:
            yield f"`{name}.json` has no score."
            continue
        header, *body = rows
        lines = [header, ["---"] * len(header), *body]
        place = Path(name)
        yield f"### {place.name}{f' on {place.parent.name}' if place.parent.name else ''}"
        yield "\n".join(f"| {' | '.join(line)} |" for line in lines)
        code = content.get("provenance", {}).get("code", {})
        yield (
            f"From `{name}.json` (SHA-256 `{beside.digests[name + '.json']}`), code "
            f"`{code.get('revision') or code.get('source_sha256')}`. Scores are shares from 0 to 1 "
            "unless their name says otherwise; clips that are missing were not scored."
        )


def _rows(name: str, scores: list[dict[str, Any]]) -> Iterator[list[str]]:
    shown = [
        key for key in BENCHMARKS[Path(name).name].card if any(key in score for score in scores)
    ]
    if scores:
        yield shown
    for score in scores:
        yield [_number(score.get(key)) for key in shown]


def _number(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return " to ".join(map(_number, value))
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _checked(export: Export) -> str:
    lines = [f"- {name}: {value:.2g}" for name, value in export.differences.items()]
    return (
        f"Loaded back and compared with the original on {export.checked_on}. Largest absolute "
        f"differences ({LIMIT:g} is allowed):\n\n" + "\n".join(lines)
    )


def _provenance(model: VideoModel, beside: Beside) -> str:
    files = "\n".join(
        f"- `{Path(name).name}`: `{sha256}`" for name, sha256 in model.origin.sha256.items()
    )
    code = code_version()
    notes = "".join(f"\n- note: {note}" for note in beside.notes)
    versions = ", ".join(f"{name} {version}" for name, version in packages().items())
    return (
        f"SHA-256 of the checkpoint:\n\n{files}{notes}\n\nExported by the SIGMA pipeline, code "
        f"`{code['revision'] or code['source_sha256']}`, with {versions}."
    )
