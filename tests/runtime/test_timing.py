"""The record of how long a job took."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.runtime.timing import recorded, sessions


def test_a_job_is_timed(tmp_path: Path) -> None:
    """Catches a time that is not wall clock, and children whose work is not counted."""
    path = tmp_path / "logs" / "job.times.json"
    with recorded(path, {}):
        assert [entry["finished"] for entry in sessions(path)] == [False]  # were it killed now
        time.sleep(0.3)
        subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    (entry,) = sessions(path)
    assert entry["finished"]
    assert 0.3 < entry["seconds"] < 60
    assert 0 < entry["cpu_seconds"] < entry["seconds"]
    assert entry["peak_memory_mib"] > 1


def test_an_interrupted_job_adds_and_a_finished_one_begins_anew(tmp_path: Path) -> None:
    """Catches the time of a resumed training that is lost, and that of an older one added."""
    path = tmp_path / "job.times.json"
    with pytest.raises(SystemExit), recorded(path, {}):
        raise SystemExit(75)
    with recorded(path, {}):
        pass
    assert [entry["finished"] for entry in sessions(path)] == [False, True]
    with recorded(path, {}):
        pass
    assert [entry["finished"] for entry in sessions(path)] == [True]


def test_of_several_processes_the_first_records(tmp_path: Path) -> None:
    """Catches ranks that write over each other."""
    path = tmp_path / "job.times.json"
    for environment in ({"RANK": "1"}, {"SLURM_PROCID": "3"}):
        with recorded(path, environment):
            pass
    assert not path.exists()
    with recorded(path, {"RANK": "0", "SLURM_PROCID": "3"}):
        pass
    assert len(sessions(path)) == 1


def test_nothing_of_it_fails_a_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a stage that ends for want of a place for its time, or for a damaged record."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    done = []
    with recorded(blocked / "job.times.json", {}):
        done.append(True)
    assert done
    assert "not recorded" in capsys.readouterr().err
    path = tmp_path / "job.times.json"
    for text in ("", "{", "[]", json.dumps({"sessions": [1]})):
        path.write_text(text)
        assert sessions(path) == []
