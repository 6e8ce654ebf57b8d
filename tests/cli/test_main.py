"""The command line: what it offers, and how it ends."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.cli import main as cli
from pipeline.cli.parser import BUILT_IN, COMMANDS, BuiltIn
from pipeline.configuration import composition
from pipeline.configuration.schema import Params
from pipeline.configuration.stages import STAGES
from pipeline.errors import UserError
from pipeline.planning import ending
from pipeline.runtime import joblog
from pipeline.runtime.files import write_text
from pipeline.runtime.interruption import EXIT_RESUME_LATER


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with the tiny experiment."""
    write_text(tmp_path / "params.yaml", composition.compose(["experiment=tiny"]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Params, str], None]], None]:
    """Put a function in place of the stage `pretrain`."""

    def replace(run: Callable[[Params, str], None]) -> None:
        module = types.ModuleType("stage_under_test")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, STAGES["pretrain"].module, module)

    return replace


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a stage without a command, or a command without help."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for name in ("compose", *STAGES):
        assert f"\n    {name} " in said
        with pytest.raises(SystemExit) as ended:
            cli.main([name, "--help"])
        assert ended.value.code == 0
        options = capsys.readouterr().out
        if name in STAGES:
            assert ("--chunk" in options) == ("chunk" in STAGES[name].per)
            assert ("--run" in options) == ("run" in STAGES[name].per)


def test_the_parser_knows_the_stages() -> None:
    """Catches a stage that was added, or takes other options, unknown to the command line."""
    assert list(BUILT_IN) == list(STAGES)
    for name, stage in STAGES.items():
        assert BUILT_IN[name] == BuiltIn(stage.summary, stage.per, takes_data=stage.takes_data)


def test_help_starts_quickly(project: Path) -> None:
    """Catches an import for which every help and every completion waits."""
    program = (
        "import json, sys\nfrom pipeline.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    print(json.dumps(list(sys.modules)))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    slow = {"torch", "numpy", "pydantic", "yaml", "rich", "pipeline.configuration.schema"}
    assert modules & slow == set()


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_read_by_its_shell(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a script with a syntax error, or without a command."""
    assert cli.main(["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out, encoding="utf-8")
    for name in (*COMMANDS, *STAGES):
        assert name in script.read_text(encoding="utf-8")
    if shutil.which(shell):
        subprocess.run([shell, "-n", str(script)], check=True)


def test_bash_completes_commands_and_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a script that is read and completes nothing."""
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    for words, expected in (("emb", "embed"), ("pretrain --ru", "--run")):
        line = ["sigma-pipeline", *words.split()]
        quoted = " ".join(f"'{word}'" for word in line)
        program = (
            f"{script}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(line) - 1}\n"
            "_shtab_sigma_pipeline\nprintf '%s\\n' \"${COMPREPLY[@]}\""
        )
        done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [expected], done.stderr


def test_init_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a project made over another one, and half a project."""
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/Snakefile").write_text("rule mine:\n", encoding="utf-8")
    assert cli.main(["init", "mine", "experiment=tiny"]) == 2
    printed = capsys.readouterr().err
    assert "Snakefile" in printed
    assert "where:  mine" in printed
    assert [path.name for path in Path("mine").iterdir()] == ["Snakefile"]
    assert cli.main(["init", "other", "experiment=nothing"]) == 2
    assert not Path("other").exists()


def test_compose_writes_lists_and_warns(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a compose command that writes another file, or drops an override in silence."""
    assert cli.main(["compose", "experiment=tiny", "objective.epsilon=0.3", "-o", "x.yaml"]) == 0
    assert composition.load(folder / "x.yaml").objective.loss.epsilon == 0.3
    said = capsys.readouterr()
    assert "runs.sigma_mlp.objective.loss.epsilon=0.3" in said.err
    assert said.out == "wrote x.yaml; next: snakemake --cores all --config params=x.yaml\n"
    lock = folder / ".snakemake" / "locks" / "0.input.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    assert cli.main(["compose", "experiment=tiny"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("wrote params.yaml; next: snakemake --cores all\n")
    assert "a workflow is at work here" in said.out
    own = ["name=mine", "data=folder", "data.name=mine", "data.manifest=gone.csv"]
    for command in (["compose"], ["sweep", "trainer.seed=0,1"]):
        assert cli.main([*command, "experiment=demo", *own]) == 0
        said = capsys.readouterr()
        assert "warning: there is no list of videos gone.csv yet" in said.err
        assert "a workflow is at work here" in said.out
    assert cli.main(["compose", "--list"]) == 0
    listed = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert {"demo", "tiny"} <= set(listed["experiment"].split(", "))


def test_a_refused_composition_leaves_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a params.yaml that a mistyped override destroys."""
    before = (folder / "params.yaml").read_bytes()
    assert cli.main(["compose", "trainer.epoch=3"]) == 2
    assert (folder / "params.yaml").read_bytes() == before
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["download", "--chunk", "2"], "chunk 2"),
        (["download", "--chunk", "-1"], "chunk -1"),
        (["pretrain", "--run", "nobody"], "'nobody'"),
        (["manifest", "--params", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_what_is_not_there_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    """Catches a traceback, or a zero exit, for a chunk, run or file that does not exist."""
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert named in said
    assert "Traceback" not in said


def test_output_goes_to_the_terminal_and_to_the_log(
    folder: Path,
    stage: Callable[[Callable[[Params, str], None]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Catches a log that takes progress away from the terminal, lacks the error, or has colours."""

    def run(params: Params, run: str) -> None:
        print("a \x1b[1mline\x1b[0m of output")
        print(f"[{run}] 1/2 steps", file=sys.stderr, flush=True)
        assert "1/2 steps" in Path("logs/p.log").read_text(encoding="utf-8")  # not only at the end
        raise UserError("it is broken", remedy="mend it")

    stage(run)
    streams = sys.stdout, sys.stderr
    assert cli.main(["pretrain", "--run", "pixel", "--log", "logs/p.log"]) == 2
    assert (sys.stdout, sys.stderr) == streams
    shown = capsys.readouterr()
    assert shown.out == "a \x1b[1mline\x1b[0m of output\n"
    assert shown.err == "[pixel] 1/2 steps\nerror: it is broken\n  remedy: mend it\n"
    log = Path("logs/p.log").read_text(encoding="utf-8")
    assert sorted(log.splitlines()) == sorted(f"a line of output\n{shown.err}".splitlines())


def test_ends_of_other_kinds(
    folder: Path,
    stage: Callable[[Callable[[Params, str], None]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Catches a defect without a traceback in the log, and an interruption or a full disk with one,
    whichever stage meets it."""

    def defect(params: Params, run: str) -> None:
        raise ZeroDivisionError("in the stage")

    stage(defect)
    assert cli.main(["pretrain", "--run", "pixel", "--log", "p.log"]) == 1
    assert "ZeroDivisionError: in the stage" in Path("p.log").read_text(encoding="utf-8")
    capsys.readouterr()

    def interrupted(params: Params, run: str) -> None:
        raise KeyboardInterrupt

    stage(interrupted)
    assert cli.main(["pretrain", "--run", "pixel", "--log", "p.log"]) == 130
    assert capsys.readouterr().err == "interrupted: run the same command again and it goes on\n"

    def full(params: Params, run: str) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded", "results/x")

    stage(full)
    assert cli.main(["pretrain", "--run", "pixel", "--log", "p.log"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the disk is full, or a quota is used up\n  where:  results/x\n")
    assert "Traceback" not in said


def test_the_stage_is_given_what_it_reads(
    folder: Path,
    stage: Callable[[Callable[[Params, str], None]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Catches a command line that hands over all settings, so that a stage may read any."""

    def run(params: Params, run: str) -> None:
        print(params.runs[run].objective.name)
        print(params.evaluation)

    stage(run)
    assert cli.main(["pretrain", "--run", "pixel"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "pixel\n"
    assert "has no attribute 'evaluation'" in shown.err


def test_failures_are_told_once_each(tmp_path: Path) -> None:
    """Catches a summary with old failures, with a message per chunk, or without a defect's."""
    (tmp_path / "old.log").write_text("error: of yesterday\n", encoding="utf-8")
    since = (tmp_path / "old.log").stat().st_mtime + 0.001
    for chunk in (0, 1):
        text = f"[decode {chunk}] 1/2 videos\nerror: ffmpeg is gone\n  remedy: install it\n"
        (tmp_path / f"decode-{chunk}.log").write_text(text, encoding="utf-8")
    (tmp_path / "fine.log").write_text("no error: all is well\n", encoding="utf-8")
    (tmp_path / "defect.log").write_text("Traceback (most recent\nKeyError: 1\n", encoding="utf-8")
    for path in tmp_path.glob("[df]*.log"):
        os.utime(path, (since + 1, since + 1))
    said = joblog.failures(tmp_path, since)
    assert said.count("ffmpeg is gone") == 1
    assert "remedy: install it" in said
    assert "KeyError: 1" in said
    assert "yesterday" not in said
    assert "all is well" not in said
    assert str(tmp_path / "defect.log") in said


def test_what_a_library_makes_of_the_end_is_the_end(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a traceback where SIGTERM comes while a library turns all exceptions into its own, as
    pydantic does while classes are made."""

    def load(path: Path) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except BaseException as error:
            raise ValueError("a library's own") from error

    monkeypatch.setattr(composition, "load", load)
    termination = ending.Termination()
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGTERM, signal.SIGINT)}
    termination.heed()
    try:
        assert cli.main(["index"], termination) == EXIT_RESUME_LATER
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
    assert capsys.readouterr().err.startswith("stopped: SIGTERM")
