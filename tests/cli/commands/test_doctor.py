"""The doctor finds what was really taken away, and fails for nothing else."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from dvc.repo import Repo

from pipeline.cli.doctor import (
    accelerators,
    benchmarks,
    dvc_remote,
    loading,
    mixtures,
    room,
    shards,
    sources,
    training,
    videos,
    workplace,
)
from pipeline.cli.doctor.findings import Finding
from pipeline.cli.main import main
from pipeline.configuration import composition
from pipeline.configuration.schema import Params
from pipeline.runtime import ffmpeg

PROJECT = Path(__file__).parents[3]


def composed(*overrides: str) -> Params:
    text = composition.compose(["experiment=tiny", *overrides])
    return composition.validate(yaml.safe_load(text), place="test")


@pytest.fixture(scope="module")
def tiny() -> Params:
    return composed()


def by_subject(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


@pytest.fixture
def bare_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that is all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    ffmpeg.executable.cache_clear()
    yield folder
    ffmpeg.executable.cache_clear()


def program(folder: Path, name: str, text: str) -> None:
    """Write a shell script that can be run by its name."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.mark.usefixtures("bare_path")
def test_the_packaged_ffmpeg_is_tried(tiny: Params) -> None:
    """Would catch a doctor that looks at PATH alone, or that believes a version number."""
    found = by_subject(videos.transcoding(tiny))
    assert found["ffmpeg"].status == "ok"
    assert "imageio_ffmpeg" in found["ffmpeg"].found
    assert "h264" in found["reads"].found.split(", ")
    assert not any(finding.is_failure for finding in found.values())


@pytest.mark.parametrize("name", ["false", "no-such-program"])
def test_without_any_ffmpeg_the_experiment_fails(
    bare_path: Path, tiny: Params, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Would catch a missing program that is no failure."""
    program(bare_path, "false", "exit 1")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(bare_path / name))
    found = by_subject(videos.transcoding(tiny))
    assert found["ffmpeg"].is_failure
    assert "libx264" in found["ffmpeg"].remedy


def test_clips_are_really_written(tiny: Params) -> None:
    """Would catch a list of encoders for a trial: here ffmpeg starts, but may take no memory."""
    decode = tiny.data.decode.model_copy(update={"memory_limit_mib": 1})
    data = tiny.data.model_copy(update={"decode": decode})
    found = by_subject(videos.transcoding(tiny.model_copy(update={"data": data})))
    writing = next(finding for name, finding in found.items() if name.startswith("libx264"))
    assert writing.is_failure


def test_shards_of_each_codec_are_written_and_read_back(tiny: Params) -> None:
    """Would catch a codec or a decoder that is taken for granted."""
    assert {f.subject: f.status for f in shards.codecs(tiny)} == {
        "codec h264": "ok",
        "codec jpeg": "ok",
        "codec raw": "ok",
    }
    assert by_subject(shards.decoders(tiny))["decord"].status == "ok"


def test_a_long_temporary_folder_fails_where_there_are_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Would catch loaders that hang, foreseen by nobody; and an alarm where there are none."""
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + "x" * 80)  # noqa: S108
    with_workers = composed("trainer.workers=1")
    assert by_subject(loading.workers(with_workers))["TMPDIR"].is_failure
    without = by_subject(loading.workers(composed()))["TMPDIR"]
    assert without.status == "missing"
    assert not without.is_failure


def test_batches_of_all_workers_must_fit_into_shared_memory(tmp_path: Path) -> None:
    """Would catch a full recipe in a container with 64 MiB of it: 'bus error' after minutes."""
    recipe = composition.compose(["experiment=k400_vit_base_mlp"])
    params = composition.validate(yaml.safe_load(recipe), place="test")
    (run,) = params.runs.values()
    batch = 640 * 16 * 224 * 224 * 3
    assert loading.shared_bytes(run.trainer, params.data.clip) == 12 * 2 * batch
    greedy = composed("trainer.workers=64", "trainer.batch_size=2000000")
    assert by_subject(loading.workers(greedy))["shared memory"].is_failure


def test_shared_memory_that_cannot_be_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a look at its size alone."""
    monkeypatch.setattr(loading, "SHARED_MEMORY", Path("/proc"))
    found = by_subject(loading.workers(composed("trainer.workers=1")))
    assert found["shared memory"].is_failure


@pytest.mark.parametrize(("system", "status"), [("darwin", "ok"), ("linux", "missing")])
def test_a_system_without_a_folder_of_shared_memory(
    system: str, status: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Catches a doctor that refuses macOS, which has no such folder, or passes Linux without."""
    monkeypatch.setattr(loading, "SHARED_MEMORY", tmp_path / "none")
    monkeypatch.setattr("pipeline.cli.doctor.loading.sys", SimpleNamespace(platform=system))
    found = by_subject(loading.workers(composed("trainer.workers=1")))
    assert found["shared memory"].status == status


@pytest.mark.parametrize(
    ("name", "script", "status", "said"),
    [
        ("deno", None, "missing", "none"),
        ("deno", "echo deno 1.9.0", "missing", "too old"),
        ("deno", "echo deno 2.9.9", "ok", "deno 2.9.9"),
        ("node", "echo v99.0.0", "missing", "none"),
    ],
)
def test_a_javascript_runtime_is_asked_for_its_version(
    bare_path: Path, tiny: Params, name: str, script: str | None, status: str, said: str
) -> None:
    """Would catch 'it is there' where yt-dlp will not take it, or may not."""
    if script:
        program(bare_path, name, script)
    found = by_subject(sources.fetching(tiny))["JavaScript for yt-dlp"]
    assert found.status == status
    assert said in found.found
    assert not found.is_failure  # nobody asks for YouTube


def test_what_the_list_asks_for_is_needed(bare_path: Path, tmp_path: Path) -> None:
    """Would catch a rar archive or a YouTube video that fails only hours later."""
    path = tmp_path / "list.csv"
    path.write_text("id,path,youtube_id\na,a.rar!/a.avi,\nb,,dQw4w9WgXcQ\n", encoding="utf-8")
    params = composed("data=folder", "data.name=mine", f"data.manifest={path}")
    found = by_subject(sources.fetching(params))
    assert found["rar archives"].is_failure
    assert found["JavaScript for yt-dlp"].is_failure
    program(bare_path, "bsdtar", "exit 0")
    assert by_subject(sources.fetching(params))["rar archives"].status == "ok"


def test_lists(tmp_path: Path) -> None:
    """Would catch a list that is not there, or whose paths are relative to somewhere else."""
    path = tmp_path / "list.csv"
    params = composed("data=folder", "data.name=mine", f"data.manifest={path}")
    assert by_subject(sources.listed(params))["list"].is_failure
    path.write_text("id,path\na,a.mp4\nb,b.mp4\n", encoding="utf-8")
    assert by_subject(sources.listed(params))["list"].is_failure
    (tmp_path / "a.mp4").touch()
    assert by_subject(sources.listed(params))["list"].status == "warning"
    (tmp_path / "b.mp4").touch()
    assert by_subject(sources.listed(params))["list"].status == "ok"


def test_each_component_of_a_mixture_is_looked_for(tmp_path: Path) -> None:
    """Would catch a component that is not in the list, has no weight or none of whose files is
    there, which the run would find out after the data are made; and clips of another split."""
    path = tmp_path / "list.csv"
    lines = ("a,a.mp4,large,train", "b,b.mp4,large,", "c,c.mp4,small,train", "d,d.mp4,other,test")
    path.write_text("\n".join(["id,path,source,split", *lines, ""]), encoding="utf-8")

    def found(weights: str) -> dict[str, Finding]:
        chosen = f"trainer.mixture={{column: source, weights: {{{weights}}}}}"
        params = composed("data=folder", "data.name=mine", f"data.manifest={path}", chosen)
        return by_subject(mixtures.components(params))

    both = found("large: 1, small: 3")
    assert both["mixture of sigma_mlp"].found == (
        "by source: large 25.0% (2 clips, each 0.38 times an epoch), "
        "small 75.0% (1 clips, each 2.2 times an epoch)"
    )
    assert both["small in the mixture of sigma_mlp"].is_failure
    (tmp_path / "c.mp4").touch()
    (tmp_path / "a.mp4").touch()
    both = found("large: 1, small: 3")
    assert "small in the mixture of sigma_mlp" not in both
    assert both["large in the mixture of sigma_mlp"].status == "warning"
    assert "b.mp4" in both["large in the mixture of sigma_mlp"].remedy
    assert found("large: 1")["mixture of sigma_mlp"].is_failure
    assert found("large: 1, small: 3, other: 1")["mixture of sigma_mlp"].is_failure
    path.unlink()  # which the list's own row says
    assert found("large: 1") == {}


def test_disk() -> None:
    """Would catch a data set that cannot fit anywhere."""
    assert by_subject(room.disk(composed()))["disk"].status == "ok"
    huge = by_subject(room.disk(composed("data.synthetic.train=1000000000000")))["disk"]
    assert huge.is_failure


def test_files_that_settings_name(tmp_path: Path) -> None:
    """Would catch weights or folders that a run finds missing after the data are made."""
    params = composed(
        f"+runs.random.weights={tmp_path}/none.safetensors",
        f"evaluation.images=[{{name: pets, format: imagenet, folder: {tmp_path}/pets}}]",
        "segmentation=paper",
    )
    found = by_subject(training.inputs(params))["weights of random"]
    assert found.is_failure
    (tmp_path / "none.safetensors").touch()
    assert by_subject(training.inputs(params))["weights of random"].status == "ok"
    assert by_subject(benchmarks.requirements(params))["pets"].is_failure
    assert all(f.is_failure for f in benchmarks.requirements(params) if f.stage == "segment")


def test_slurm_is_optional(bare_path: Path, tiny: Params) -> None:
    """Would catch a failure on a workstation; and a cluster that does not answer taken for one."""
    (none,) = workplace.slurm(tiny)
    assert (none.status, none.is_failure) == ("missing", False)
    for name in ("sbatch", "squeue", "scancel", "srun"):
        program(bare_path, name, "echo slurm 24.05")
    program(bare_path, "sinfo", "exit 1")
    assert by_subject(workplace.slurm(tiny))["Slurm"].status == "warning"


def test_processes_really_talk(tiny: Params) -> None:
    """Would catch a library that is there but cannot sum."""
    assert by_subject(accelerators.processes(tiny))["gloo"].status == "ok"


def test_an_engine_that_the_device_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a doctor that finds all well where the training is refused."""
    monkeypatch.setattr("torch.mps.device_count", lambda: 1)
    monkeypatch.setenv("PIPELINE_DEVICE", "mps")
    finding = next(accelerators.devices(composed("trainer.engine=ddp")))
    assert finding.is_failure
    assert finding.found == "engine 'ddp' is not offered on mps"


@pytest.fixture
def set_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that sets DVC's remote in a new repository, which is the working directory."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    subprocess.run(["git", "init", "--quiet"], check=True)
    Repo.init(".").close()

    def set_address(address: str) -> None:
        text = f"[core]\n    remote = store\n['remote \"store\"']\n    url = {address}\n"
        (folder / ".dvc" / "config").write_text(text, encoding="utf-8")

    return set_address


def test_the_remote_of_dvc_is_asked(
    set_remote: Callable[[str], None], tiny: Params, tmp_path: Path
) -> None:
    """Would catch a remote that is configured but not there."""
    assert dvc_remote.ask().found == "none is set"
    set_remote(str(tmp_path / "store"))
    (there,) = dvc_remote.remote(tiny)
    assert (there.status, there.found.split(":")[0]) == ("ok", "store")
    set_remote("/proc/nowhere/store")
    assert "cannot be written to" in dvc_remote.ask().found
    set_remote("http://127.0.0.1:9/store")
    assert "cannot be reached" in dvc_remote.ask().found


def run_json(capsys: pytest.CaptureFixture[str], params: Path) -> tuple[int, dict[str, Any]]:
    status = main(["doctor", "--json", "--params", str(params)])
    return status, json.loads(capsys.readouterr().out)


def test_the_whole_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a stage that is left out, and a wrong exit status in either direction."""
    monkeypatch.chdir(PROJECT)
    params = tmp_path / "params.yaml"
    params.write_text(composition.compose(["experiment=tiny"]), encoding="utf-8")
    status, body = run_json(capsys, params)
    lacking = [row for row in body["findings"] if row["needed"] and row["status"] == "missing"]
    assert (status, lacking) == (0, [])
    stages = {row["stage"] for row in body["findings"]}
    from pipeline.configuration.stages import STAGES

    assert stages == {"all stages", *STAGES} - {"index"}  # which needs nothing but files
    assert all(row["remedy"] for row in body["findings"] if row["status"] != "ok")


@pytest.mark.usefixtures("bare_path")
def test_a_failure_is_told_without_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch an exit status of 0, a crash where a program is missing, an unnamed remedy."""
    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere")
    params = tmp_path / "params.yaml"
    params.write_text(composition.compose(["experiment=tiny"]), encoding="utf-8")
    assert main(["doctor", "--params", str(params)]) == 1
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    assert "install ffmpeg with libx264" in printed.out
    assert "install git" in printed.out
