"""Signals are noted, not obeyed, and only while training."""

from __future__ import annotations

import os
import signal

import pytest

from pipeline.training.interruption import SIGNALS, StopRequest


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_stream_after_the_item_at_hand(number: signal.Signals) -> None:
    """Catches a process that dies in the middle of a step, or that never stops."""
    before = signal.getsignal(number)
    seen = []
    with StopRequest() as stop:
        for item in stop.until(range(10)):
            seen.append(item)
            if item == 3:
                os.kill(os.getpid(), number)
    assert seen == [0, 1, 2, 3]
    assert stop.signal == number.name
    assert signal.getsignal(number) is before
