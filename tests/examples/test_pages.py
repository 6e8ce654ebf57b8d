"""The commands of every page, run in the page's order in projects that `init` made, at a tiny size.

What a page leaves out it says by a remark (`page_commands.py`). All others are run, a new page's
too.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.cli.parser import SCRIPT
from pipeline.runtime import ffmpeg

from ..workflow.workspace import Workspace
from .page_commands import PAGES, PROJECT, Command, commands, program

pytestmark = pytest.mark.system
VIDEO = "my_videos/train/moving/0.mp4"
ENCODER = "encoder.safetensors"  # somebody's
MODEL = "results/demo/runs/sigma_mlp/model.safetensors"
# Choices of a project's own, by their files.
CHOICES = {
    "conf/model/small.yaml": "defaults: [demo, _self_]\nwidth: 32\ndepth: 1\nheads: 2\n"
    "decoder_width: 16\ndecoder_depth: 1\ndecoder_heads: 1\n",
    "conf/trainer/small.yaml": "defaults: [demo, _self_]\nepochs: 1\nwarmup_epochs: 0\n"
    "batch_size: 8\n",
}
SMALL = (
    "model=small",
    "trainer=small",
    "segmentation=none",
    "severe=none",
    "evaluation.attentive=null",
)
DRAWN = (
    "data.synthetic.train=48",
    "data.synthetic.val=24",
    "data.synthetic.test=24",
    "data.chunks=1",
)
OWN = ("data.clip.frames=8", "data.clip.stride=1", "data.clip.size=32", "data.decode.short_side=32")
# One class moves, the other stands still.
SOURCES = {"moving": "testsrc2=size=64x48:rate=10", "still": "smptebars=size=64x48:rate=10"}
# What stands for a file, a run, a clip of the reader's.
NAMES = {
    "CHECKPOINT": MODEL,
    "VIDEO...": VIDEO,
    "clip.mp4": VIDEO,
    "my_videos/a.mp4": VIDEO,
    "my_videos/CLASS/VIDEO": VIDEO,
    "data/NAME/shards": "data/synthetic/shards",
    "NAME": "sigma_mlp",
    "RUN": "sigma_mlp",
    "K": "0",
    "KEY": "train-00000",
    "results/stride2": "results/demo",
    "results/stride4": "results/demo_sweep_chosen",
    # Fewer trials.
    "runs=[sigma_mlp,pixel]": "runs=[sigma_mlp]",
    "trainer.seed=0,1,2": "trainer.seed=0,1",
}


def draw_videos(folder: Path) -> None:
    """Write a reader's 24 videos, in folders of splits and classes, and a list of them beside."""
    names = [f"{split}/{label}" for split in ("train", "test") for label in SOURCES]
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(6):
            source = f"{SOURCES[Path(name).name]}:duration=1.2,hue=h={number * 60}"
            command = [ffmpeg.executable(), "-v", "error", "-f", "lavfi", "-i", source]
            target = folder / name / f"{number}.mp4"
            done = Workspace(folder).run(*command, str(target))
            assert target.is_file(), done.stdout
    labels = [(f"{label}{n}", label) for label in SOURCES for n in range(6)]
    rows = [
        f"{split}_{name},my_videos/{split}/{label}/{name[-1]}.mp4,{label},{split}"
        for split in ("train", "test")
        for name, label in labels
    ]
    text = "\n".join(["id,path,label,split", *rows, ""])
    (folder.parent / "videos.csv").write_text(text, encoding="utf-8")


@dataclass
class Reader:
    """Somebody who follows a page: the folder where they are, and what they have made."""

    here: Path
    files: Path  # my_videos and videos.csv
    done: list[str] = field(default_factory=list)

    def follow(self, command: Command) -> None:
        """Run a command of a page, or go to the folder that it names; fail where it fails."""
        if command.words[0] == "cd":
            self.enter(self.here / command.words[1])
            return
        words = runnable(command.words)
        done = Workspace(self.here).run("env", f"PYTHONPATH={PROJECT}", *words, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        self.done.append(str(command))

    def enter(self, folder: Path) -> None:
        """Go to a project, and put the reader's files there."""
        self.here = folder
        for name in ("my_videos", "videos.csv", ENCODER):
            if (self.files / name).exists() and not (folder / name).exists():
                (folder / name).symlink_to(self.files / name)
        for name, text in CHOICES.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")


def runnable(words: Sequence[str]) -> list[str]:
    """Return a command with real names, of the interpreter that runs the tests, at a tiny size."""
    name = program(words)
    arguments = list(words[3 if words[0].endswith("python") and name == SCRIPT else 1 :])
    arguments = [NAMES.get(word, word).replace("vit-b.pth", ENCODER) for word in arguments]
    if name == SCRIPT and arguments[0] in ("compose", "sweep") and "--list" not in arguments:
        arguments[1:1] = small(arguments)
    if name == SCRIPT:
        return [sys.executable, "-m", "pipeline", *arguments]
    if name in ("snakemake", "dvc"):
        return [sys.executable, "-m", name, *arguments]
    return [sys.executable if name == "python" else name, *arguments]


def small(arguments: Sequence[str]) -> Iterator[str]:
    """Yield settings of a tiny experiment, for those of a page to follow."""
    yield from SMALL[2:] if "experiment=encoder" in arguments else SMALL
    if {"data=folder", "experiment=motion"} & set(arguments):
        yield from OWN
    elif not any(word.startswith("data=") for word in arguments):
        yield from DRAWN
    if arguments[0] == "sweep":
        yield from () if "runs=[sigma_mlp]" in arguments else ("runs=[sigma_mlp]",)
    elif "experiment=demo" in arguments:
        yield from ("~runs.pixel", "~runs.random")
    if "experiment=encoder" in arguments:
        yield "~runs.random"
        for benchmark in ("retrieval", "few_shot", "order", "propagation", "readouts"):
            yield f"benchmarks/{benchmark}=none"


def followed(page: Path) -> list[Command]:
    """Return the commands of a page that are to be run here: not those of its end that only
    compose, which test_commands.py does."""
    kept = [each for each in commands(page) if not each.is_left_out]
    while kept and "compose" in kept[-1].words:
        kept.pop()
    return kept


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a reader's videos and their list."""
    folder = tmp_path_factory.mktemp("reader")
    draw_videos(folder / "my_videos")
    return folder


@pytest.fixture(scope="module")
def demo(files: Path) -> Path:
    """A project that has made the experiment `demo`, as `make run` does, at a tiny size."""
    reader = Reader(files, files)
    lines = ("sigma-pipeline init project", "cd project")
    for line in (*lines, "sigma-pipeline compose experiment=demo", "snakemake --cores 2"):
        reader.follow(Command("demo", tuple(line.split()), ""))
    shutil.copy(reader.here / MODEL, files / ENCODER)
    return reader.here


@pytest.mark.parametrize(
    "page", list(filter(followed, PAGES)), ids=lambda page: page.relative_to(PROJECT).as_posix()
)
def test_the_commands_of_a_page_work(page: Path, demo: Path, files: Path, tmp_path: Path) -> None:
    """Catches a command, or an order of commands, that fails where a reader copies it."""
    reader = Reader(tmp_path, files)
    if not any("init" in command.words for command in followed(page)):
        # A page's own: a stage that is made again by hand is not what the results were made of.
        reader.enter(Workspace(demo).copy(tmp_path / "project").folder)
    else:
        reader.enter(tmp_path)
    for command in followed(page):
        reader.follow(command)
    assert reader.done
