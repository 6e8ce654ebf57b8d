"""One job makes a file that several need, and a job that dies hinders nobody."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from pipeline.runtime import claims
from pipeline.runtime.claims import Claim


def hold(path: Path, ready: multiprocessing.synchronize.Event) -> None:
    Claim(path).take()
    ready.set()
    time.sleep(600)


def test_one_has_it_until_it_lets_go(tmp_path: Path) -> None:
    """Would catch two owners, and a claim that stays behind."""
    first, second = Claim(tmp_path / "a" / "x.mp4"), Claim(tmp_path / "a" / "x.mp4")
    assert first.take()
    assert not second.take()
    assert not first.take()
    first.release()
    assert second.take()
    first.release()  # no longer its own
    assert second.path.exists()
    second.release()
    assert not list((tmp_path / "a").iterdir())


def test_a_killed_job_s_claim_is_free_at_once_on_its_machine(tmp_path: Path) -> None:
    """Would catch waiting for two minutes after each kill -9."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    job = context.Process(target=hold, args=(tmp_path / "x", ready))
    job.start()
    assert ready.wait(120)
    claim = Claim(tmp_path / "x")
    assert not claim.take()
    os.kill(job.pid, signal.SIGKILL)
    job.join(120)
    assert claim.take()
    claim.release()


def test_a_machine_that_is_gone_keeps_no_claim_and_one_that_lives_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch waiting for a dead node for ever, and robbing one whose clock is wrong."""
    monkeypatch.setattr(claims, "STALE_S", 0.3)
    claim = Claim(tmp_path / "x")
    owner = {"host": f"not-{socket.gethostname()}", "pid": 1, "token": "other"}
    claim.path.write_text(json.dumps(owner))
    for beat in range(5):  # years apart from this machine's clock, but beating
        os.utime(claim.path, (beat, beat))
        assert not claim.take()
        time.sleep(0.12)
    time.sleep(0.35)
    assert claim.take()
    claim.release()


def test_a_claim_is_kept_while_its_process_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would catch a long download that another job takes over in the middle."""
    monkeypatch.setattr(claims, "BEAT_S", 0.05)
    monkeypatch.setattr(claims, "_HEART", claims._Heart())
    claim = Claim(tmp_path / "x")
    assert claim.take()
    times = {claim.path.stat().st_mtime_ns}
    deadline = time.monotonic() + 60
    while len(times) < 3:
        assert time.monotonic() < deadline, "the claim's file is not touched"
        time.sleep(0.05)
        times.add(claim.path.stat().st_mtime_ns)
    claim.release()


def test_half_a_claim_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch a crash on a claim that is just being written, or was never finished."""
    monkeypatch.setattr(claims, "STALE_S", 0.1)
    claim = Claim(tmp_path / "x")
    for text in ("", '{"host": ', "[]", '{"host": 5, "pid": "x"}'):
        claim.path.write_text(text)
        assert not claim.take()
        time.sleep(0.15)
        assert claim.take()
        claim.release()
        claim._seen = None
