"""The model card: what is known stands there, what is not is said, nothing is another model's."""

from __future__ import annotations

from pathlib import Path

import yaml

from pipeline.data.load.mixture import ClipMixture, Component
from pipeline.runtime.files import read_json, sha256_file, write_json
from pipeline.use.exporting.export import export
from pipeline.weights import hub


def card(folder: Path, **options: str) -> str:
    export(hub.load(folder / "model.safetensors"), "timm", Path("out"), **options)
    return Path("out/README.md").read_text(encoding="utf-8")


def test_it_tells_what_is_known(checkpoints: Path, results: Path) -> None:
    """Census, configuration, metrics with the file that they are from, and licences."""
    text = card(results, licence="apache-2.0", data_licence="CC BY 4.0")
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "apache-2.0"
    assert "86 of 88 clips could be used (lost: 2 corrupt)" in text
    assert "Licence of the data: CC BY 4.0." in text
    assert "| motion | linear | 0.2500 | 23 | 24 |" in text
    assert sha256_file(results / "evaluation.json") in text
    assert "0123abc" in text
    assert "prototypes: 256" in text
    assert "final loss 13.5000" in text
    assert sha256_file(results / "model.safetensors") in text


def test_it_tells_of_a_mixture(checkpoints: Path, results: Path) -> None:
    """Catches a card by which all clips of a mixture counted the same."""
    manifest = read_json(results / "pretrain.json")
    mixture = ClipMixture("source", (Component("k400", 1, 9), Component("ssv2", 3, 4)), "0")
    write_json(results / "pretrain.json", manifest | {"mixture": mixture.record(100)})
    assert "a mixture by `source`: k400 25.0%, ssv2 75.0%." in " ".join(card(results).split())


def test_it_says_what_is_not_known(checkpoints: Path) -> None:
    """Catches a card that is silent, or invents."""
    text = card(checkpoints / "sigma_mlp")
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "unknown"
    assert "What it was trained on is not recorded" in text
    assert "not recorded; ask those who publish the data" in text
    assert "None are recorded beside the checkpoint." in text


def test_an_encoder_that_was_given_is_not_said_to_be_trained(
    checkpoints: Path, results: Path
) -> None:
    """Catches a card by which somebody's weights were pretrained on the clips that they were
    evaluated on, with the objective of a run that trains nothing, and a path of this machine."""
    manifest = read_json(results / "pretrain.json")
    given = {"kind": "VideoMAE's names", "path": "/home/her/b.pth", "sha256": {"b.pth": "12ab"}}
    idle = {"epochs": 0, "steps": 0, "final_loss": None, "seconds": 0}
    write_json(results / "pretrain.json", manifest | idle | {"weights": given})
    text = card(results)
    for wrong in ("Pretrained on", "final loss", "prototypes", "objective", "/home/her"):
        assert wrong not in text
    assert "Its weights are of VideoMAE's names; SHA-256: `b.pth` `12ab`." in text
    assert "The run trained nothing" in text
    assert "tube:" in text
    write_json(results / "pretrain.json", manifest | idle)
    assert "Its weights are as drawn, of seed 0." in card(results)


def test_intervals_are_read_by_people(checkpoints: Path, results: Path) -> None:
    """Catches sixteen digits in brackets."""
    score = {"label": "motion", "k": 5, "top1": 0.5, "interval": [0.6344326357259, 0.669567364274]}
    body = {"inputs": {"weights": sha256_file(results / "model.safetensors")}, "scores": [score]}
    write_json(results / "few_shot.json", body)
    assert "| 0.6344 to 0.6696 |" in card(results)


def test_metrics_of_other_weights_stay_out(checkpoints: Path, results: Path) -> None:
    """Weights that were trained again beside an old evaluation: its numbers are not theirs."""
    for name, key in (("evaluation", "inputs"), ("pretrain", "model_sha256")):
        content = read_json(results / f"{name}.json")
        content[key] = {"weights": "00"} if key == "inputs" else "00"
        write_json(results / f"{name}.json", content)
    text = card(results)
    assert "0.2500" not in text
    assert "final loss" not in text
    assert "evaluation.json beside it tells of other weights" in text
    assert "pretrain.json beside it tells of other weights" in text
