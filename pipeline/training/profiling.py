"""A switch for torch.profiler: a trace of a few steps, and a table of what took the time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import profiler

from pipeline.configuration.schema import Profile
from pipeline.runtime import accelerators
from pipeline.runtime.files import atomic_path, write_text

ROWS = 40  # of the table


@contextlib.contextmanager
def profiled(
    settings: Profile | None, folder: Path, say: Callable[[str], None]
) -> Iterator[Callable[[], None]]:
    """Yield what is to be called after each step; None as `settings` switches it off.

    Writes `trace.json.gz` (for chrome://tracing or ui.perfetto.dev) and `operators.txt` to
    `folder`, once `settings.after` steps and then `settings.steps` more are done. What is traced
    is computed as ever; it only takes longer.
    """
    if settings is None:
        yield _nothing
        return
    activities = [profiler.ProfilerActivity.CPU]
    order = "self_cpu_time_total"
    kind = accelerators.kind()
    if kind in ("cuda", "xpu"):  # Apple's own tools look at its devices
        activities.append(getattr(profiler.ProfilerActivity, kind.upper()))
        order = "self_device_time_total"

    def write(traced: profiler.profile) -> None:
        with atomic_path(folder / "trace.json.gz") as temporary:
            traced.export_chrome_trace(str(temporary))
        table = traced.key_averages().table(sort_by=order, row_limit=ROWS)
        write_text(folder / "operators.txt", f"{table}\n")
        say(f"profiled {settings.steps} steps: see {folder}")

    schedule = profiler.schedule(
        wait=max(0, settings.after - 1), warmup=1, active=settings.steps, repeat=1
    )
    with profiler.profile(activities=activities, schedule=schedule, on_trace_ready=write) as traced:
        yield traced.step


def _nothing() -> None:
    """Do nothing."""
