"""`python -m pipeline shards`: finds what is wrong, shows what is there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from pipeline.cli import main as cli
from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Shards
from pipeline.data.load import clip_reader
from pipeline.data.records import ChunkManifest, ClipRecord, Outcome
from pipeline.data.shards import index
from pipeline.data.shards.format import clips_file
from pipeline.data.shards.index import DatasetIndex
from pipeline.data.shards.shard_stage import pack
from pipeline.data.shards.verify import problems
from pipeline.runtime.files import read_json, write_json

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames of 32 x 24 that ffmpeg draws."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i"]
    command += ["testsrc2=s=32x24:r=8", "-frames:v", "10", "-pix_fmt", "yuv420p", str(path)]
    subprocess.run(command, check=True)
    return path


@pytest.fixture(params=["h264", "jpeg", "raw"])
def folder(video: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A data set of three clips in two shards, and one that was lost."""
    records = [
        ClipRecord(
            id=name, outcome=Outcome.OK, file=str(video), frames=10, fps=8, width=32, height=24,
            labels={"what": "bars"},
        )
        for name in ("a.1", "b", "c")
    ]  # fmt: skip
    lost = ClipRecord(id="d", outcome=Outcome.CORRUPT, reason="no", stage="decode")
    shards = DataLayout("x").shards
    target = tmp_path / shards
    settings = Shards(codec=request.param, clips_per_shard=2)
    packed = pack([*records, lost], target, 0, settings, Path("decoded/0.json"))
    ChunkManifest(stage="shard", chunk=0, clips=packed).write(tmp_path / "0.json")
    names = [f"train-00000-00{part}" for part in range(2)]
    write_json(
        target / "index.json",
        {
            "name": "x",
            "codec": request.param,
            "shards": [read_json(target / f"{name}.shard.json") for name in names],
            "census": {"ok": 3, "corrupt": 1},
            "splits": {"train": 3},
            "lost": [{"id": "d", "outcome": "corrupt", "reason": "no", "stage": "decode"}],
        },
    )
    index._open.cache_clear()
    return target


def verify(folder: Path, capsys: Capture) -> list[str]:
    """Return the problems; none exactly where the exit status is 0."""
    capsys.readouterr()
    status = cli.main(["shards", "verify", str(folder)])
    said = capsys.readouterr()
    if status == 0:
        assert said.out.count("\n") == 1
        assert "2 shards, 3 clips" in said.out
        return []
    assert status == 1
    problems = said.out.splitlines()
    assert f"problems: {len(problems)}\n" in said.err
    assert problems
    return problems


def test_sound(folder: Path, capsys: Capture) -> None:
    """Catches a check that finds what is not there."""
    assert verify(folder, capsys) == []


def test_each_problem_has_a_line(folder: Path, capsys: Capture) -> None:
    """Catches a check that stops at the first problem, or believes the lists."""
    first, second = sorted(folder.glob("*.tar"))
    data = bytearray(second.read_bytes())
    data[700] ^= 1
    second.write_bytes(data)
    lines = clips_file(first).read_text().splitlines()
    wrong = json.loads(lines[0]) | {"offset": 512 * 9, "frames": 11}
    unknown = json.loads(lines[1]) | {"id": "zz"}
    clips_file(first).write_text(f"{json.dumps(wrong)}\n{json.dumps(unknown)}\n")
    (folder / "train-00007-000.tar").write_bytes(b"")
    body = read_json(folder / "index.json")
    write_json(folder / "index.json", body | {"census": {"ok": 4}, "splits": {"train": 4}})
    kind = {"h264": "mp4", "jpeg": "mjpeg", "raw": "npy"}[body["codec"]]
    assert verify(folder, capsys) == [
        f"{first.name}: 21 frames are listed, not 20",
        f"{first.name}: clip 'a.1' does not lie where its list says",
        f"{first.name}: clip 'zz' is listed, but the shard holds no zz.{kind}",
        f"{second.name}: other bytes than when it was written",
        "index.json: its splits are {'train': 4}, those of its shards {'train': 3}",
        "index.json: its census is {'ok': 4}, but it lists {'ok': 3, 'corrupt': 1}",
        "train-00007-000.tar: not in the index",
    ]


def test_missing_parts(folder: Path, capsys: Capture) -> None:
    """Catches a traceback where a file is gone."""
    first, second = sorted(folder.glob("*.tar"))
    first.unlink()
    clips_file(second).unlink()
    problems = verify(folder, capsys)
    assert problems[0] == f"{first.name}: missing"
    assert problems[1].startswith(f"{clips_file(second).name}: the list of the clips in ")
    (folder / "index.json").unlink()
    assert cli.main(["shards", "verify", str(folder)]) == 2
    assert "has no index" in capsys.readouterr().err


def test_show(
    folder: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a sheet without some frames, a key that is not found, and a message without names."""
    monkeypatch.chdir(tmp_path)
    for key in ("a.1", "a%2E1"):
        assert cli.main(["shards", "show", str(folder), key]) == 0
    assert "10 frames of 32x24, 8 fps" in capsys.readouterr().out
    sheet = Image.open(tmp_path / "a%2E1.png").convert("RGB")
    assert sheet.size == (4 * 32, 3 * (24 + 14))  # ten frames in rows of four
    entry = DatasetIndex.load(folder).clips(["train"])[0]
    for k, frame in enumerate(clip_reader.read(entry, np.arange(10))):
        left, top = 32 * (k % 4), 38 * (k // 4) + 14
        assert np.array_equal(sheet.crop((left, top, left + 32, top + 24)), frame)
    assert cli.main(["shards", "show", str(folder), "d", "-o", "d.png"]) == 2
    error = capsys.readouterr().err
    assert "no clip 'd'" in error
    assert "a.1, b, c" in error
    assert not (tmp_path / "d.png").exists()


def test_what_a_killed_writer_left_is_no_shard_and_goes(folder: Path, video: Path) -> None:
    """Catches half-written files that stay for ever, and that `verify` takes for shards."""
    left = [folder / f".train-00000-000.0123abcd.tmp{end}" for end in (".tar", ".jsonl", ".json")]
    other = folder / ".train-00001-000.0123abcd.tmp.tar"
    for path in (*left, other):
        path.write_bytes(b"half")
    assert list(problems(DatasetIndex.load(folder))) == []
    pack([], folder, 0, Shards(codec="raw", clips_per_shard=2), video)
    assert not any(path.exists() for path in left)
    assert other.exists()  # another job's
