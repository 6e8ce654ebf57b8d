"""A bar per stage: how long its jobs took, one after the other, stacked by run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from plotly import graph_objects as go

from pipeline.report.drawn_curves import Figure
from pipeline.report.seeds import Group
from pipeline.report.times import StageTime
from pipeline.runtime.progress import duration

NEUTRAL = -1  # the colour of what belongs to no run
SHARED = "shared by all runs"


def chart(stages: Sequence[StageTime], groups: Sequence[Group]) -> Figure | None:
    """Return the chart; None where no stage was timed. Seeds of a group share its colour."""
    timed = [stage for stage in stages if stage.jobs]
    if not timed:
        return None
    parts: dict[str, dict[str, float]] = {}  # of the stack, then by stage
    for stage in timed:
        for job in stage.jobs:
            here = parts.setdefault(job.name if stage.per == "run" else SHARED, {})
            here[stage.stage] = here.get(stage.stage, 0.0) + job.seconds
    order = [(SHARED, SHARED, NEUTRAL)]
    order += [(name, group.name, k) for k, group in enumerate(groups) for name in group.names]
    bars, named = [], set()
    for part, group, colour in order:
        if part in parts:
            bars.append(_bar(part, group, colour, parts[part], is_first=group not in named))
            named.add(group)
    figure = go.Figure(bars)
    figure.update_layout(
        template="none", barmode="stack", hovermode="closest", showlegend=True, bargap=0.35
    )
    figure.update_xaxes(title_text="seconds", rangemode="tozero")
    upwards = [stage.stage for stage in reversed(timed)]
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=upwards)
    total = sum(stage.seconds for stage in timed)
    times = "; ".join(f"{stage.stage} {duration(stage.seconds)}" for stage in timed)
    return Figure(
        id="time",
        title="Time of each stage",
        caption="Wall clock of all jobs of a stage added up, whether or not they ran side by side.",
        json=str(figure.to_json()),
        summary=f"Time per stage, {duration(total)} in all: {times}",
    )


def _bar(
    part: str, group: str, colour: int, seconds_by_stage: Mapping[str, float], is_first: bool
) -> go.Bar:
    """One part of the stack; the legend names each group once."""
    return go.Bar(
        x=[round(seconds, 2) for seconds in seconds_by_stage.values()],
        y=list(seconds_by_stage),
        customdata=[duration(seconds) for seconds in seconds_by_stage.values()],
        name=group,
        legendgroup=group,
        showlegend=is_first,
        orientation="h",
        meta={"colour": colour, "run": part},
        hovertemplate=f"%{{y}}: %{{customdata}}<extra>{part}</extra>",
    )
