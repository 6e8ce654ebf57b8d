"""Batches that are copied to an accelerator a step ahead; here with copies that only take note."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from pipeline.data.load import prefetch
from pipeline.errors import UserError

CUDA = torch.device("cuda", 0)


@dataclass(frozen=True)
class Numbered:
    step: int
    videos: Tensor


class Noted:
    """Copies nothing, and says in which thread it was to."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def send(self, videos: Tensor) -> Tensor:
        self.threads.append(threading.current_thread())
        return videos + 100

    def receive(self, sent: Tensor) -> Tensor:
        assert threading.current_thread() is threading.main_thread()
        return sent


class Source:
    """Batches that say how many were taken; the one after `last` is an error."""

    def __init__(self, last: int = 10**6) -> None:
        self.taken, self.last = 0, last
        self.news = threading.Event()
        self.first_thread: threading.Thread | None = None

    def __iter__(self) -> Iterator[Numbered]:
        self.first_thread = threading.current_thread()
        while self.taken < self.last:
            self.taken += 1
            self.news.set()
            yield Numbered(self.taken, torch.tensor([self.taken]))
        raise UserError("a clip is gone")


@pytest.fixture
def side(monkeypatch: pytest.MonkeyPatch) -> Noted:
    noted = Noted()
    monkeypatch.setattr(prefetch, "SideStream", lambda _: noted)
    return noted


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
@pytest.mark.parametrize("ahead", [True, False])
def test_on_a_cpu_batches_are_left_alone(device: torch.device | None, ahead: bool) -> None:
    """Would catch a thread or a copy where there is nothing to copy to."""
    batches = iter(Source())
    assert prefetch.on_device(batches, device, ahead=ahead) is batches


def test_batches_come_in_order_and_only_their_videos_change(side: Noted) -> None:
    """Would catch a batch that is lost, doubled or swapped at the beginning or the end."""
    given = [Numbered(step, torch.tensor([step])) for step in range(5)]
    batches = list(prefetch.on_device(iter(given), CUDA, ahead=True))
    assert [(each.step, int(each.videos)) for each in batches] == [(n, n + 100) for n in range(5)]
    assert threading.main_thread() not in side.threads
    assert not any(thread.is_alive() for thread in side.threads)
    assert list(prefetch.on_device(iter(given[:0]), CUDA, ahead=True)) == []


def test_a_batch_is_copied_during_the_step_before(side: Noted) -> None:
    """Would catch batches that are made only when they are asked for, or all at once; and a loader
    whose processes are started by another thread than the one that may start processes."""
    source = Source()
    batches = prefetch.on_device(iter(source), CUDA, ahead=True)
    for step in range(1, 4):
        assert next(batches).step == step
        while source.taken == step:
            assert source.news.wait(60)
            source.news.clear()
        assert source.taken == step + 1
    assert source.first_thread is threading.main_thread()
    batches.close()  # type: ignore[attr-defined]
    assert source.taken <= 5
    assert not any(thread.is_alive() for thread in side.threads)


@pytest.mark.parametrize("last", [0, 1, 3])
def test_an_error_is_raised_at_its_step(side: Noted, last: int) -> None:
    """Would catch errors that a thread swallows, or that come before the batches before them."""
    batches = prefetch.on_device(iter(Source(last)), CUDA, ahead=True)
    for step in range(last):
        assert next(batches).step == step + 1
    with pytest.raises(UserError, match="a clip is gone"):
        next(batches)
    assert not any(thread.is_alive() for thread in side.threads)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("ahead", [True, False])
def test_an_accelerator_gets_the_bytes(ahead: bool) -> None:
    """Would catch a step that computes with a copy that is not complete, or memory that is filled
    again while a step still reads it."""
    made = torch.Generator().manual_seed(0)
    given = [
        Numbered(step, torch.randint(256, (8, 2**20), dtype=torch.uint8, generator=made))
        for step in range(12)
    ]
    busy = torch.rand(2048, 2048, device=CUDA)
    sums = []
    for batch in prefetch.on_device(iter(given), CUDA, ahead=ahead):
        assert batch.videos.device == CUDA
        for _ in range(8):
            busy = (busy @ busy).sigmoid()  # the stream lags behind this process
        sums.append(batch.videos.double().sum(1))
    for own, batch in zip(sums, given, strict=True):
        assert torch.equal(own.cpu(), batch.videos.double().sum(1))


def test_a_device_without_streams_gets_batches_in_turn() -> None:
    """Catches a stream that is asked of a device which has none (here one without numbers)."""
    device = torch.device("meta")
    batches = prefetch.on_device(iter(Source(last=3)), device, ahead=True)
    for step in (1, 2, 3):
        batch = next(batches)
        assert (batch.step, batch.videos.device) == (step, device)
