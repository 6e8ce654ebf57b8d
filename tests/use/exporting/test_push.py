"""Uploading to a hub and loading from there, by the hub's own client, against a stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.use.exporting import push
from tests.use.exporting.hub_server import running

pytest.importorskip("huggingface_hub", reason="huggingface-hub is missing")

SCRIPT = """
import sys
import torch
from pipeline.cli import main as cli
from pipeline.weights import hub

checkpoint, = sys.argv[1:]
arguments = ["export", checkpoint, "--to", "huggingface", "-o", "out", "--push", "somebody/model"]
assert cli.main(arguments) == 0
model, original = hub.load("somebody/model"), hub.load(checkpoint)
videos = torch.randn(1, 3, *original.encoder.grid.clip_shape)
assert (model.tokens(videos) - original.tokens(videos)).abs().max() < 1e-5
print(model.origin.path)
"""


@pytest.mark.system
def test_there_and_back(checkpoints: Path, project: Path, tmp_path: Path) -> None:
    """What is uploaded is the export, whole, in a private repository; what is loaded from there is
    the model."""
    with running() as hub:
        environment = os.environ | {
            "HF_ENDPOINT": hub.address,
            "HF_TOKEN": hub.token,
            "HF_HOME": str(tmp_path / "cache"),
            "PYTHONPATH": str(project),
        }
        command = [sys.executable, "-c", SCRIPT, str(checkpoints / "sigma_mlp/model.safetensors")]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr + str(hub.unknown)
        written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        uploaded = {n: c for n, c in hub.files["somebody/model"].items() if n != ".gitattributes"}
        assert uploaded == written
        assert hub.created["somebody/model"].get("visibility", "private") == "private"
        assert hub.created["somebody/model"].get("private", True)
    assert f"uploaded to {hub.address}/somebody/model/commit/" in done.stdout
    assert done.stdout.splitlines()[-1] == "somebody/model"


def test_a_refusal_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a traceback where the token is wrong or nobody answers; the export stays."""
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with running() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
        with pytest.raises(UserError, match="the hub refuses it") as caught:
            push.push(tmp_path, "somebody/model", public=False)
        assert "HF_TOKEN" in caught.value.remedy
    with pytest.raises(UserError, match="hub"):
        push.push(tmp_path, "somebody/model", public=False)
    for name in ("model", "a/b/c", "../x", "a/"):
        with pytest.raises(UserError, match="not OWNER/NAME"):
            push.check_name(name)
