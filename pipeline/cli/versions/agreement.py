"""Carrying what the one tool knows over to the other, where that is true.

DVC compares contents, Snakemake its own records and time stamps. `record` tells DVC what Snakemake
has made; `bless` tells Snakemake what DVC has brought.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.cli.lineage import chain
from pipeline.cli.versions import tools
from pipeline.configuration import composition, stages
from pipeline.configuration.layout import ExperimentLayout
from pipeline.configuration.schema import Params
from pipeline.errors import UserError
from pipeline.evaluation.registry import BENCHMARKS


def record() -> str:
    """Have DVC note what Snakemake has made: `dvc.lock`, and a copy in DVC's cache.

    Raises:
        UserError: where something is still to do, or a Snakemake is at work.
    """
    params = composition.load()
    tools.refuse_where_locked("recording")
    if jobs := tools.planned():
        listed = ", ".join(f"{rule} {count}" for rule, count in jobs.items())
        raise UserError(
            f"not everything is made: snakemake would run {listed}",
            remedy="snakemake --cores all, then record",
        )
    _refuse_other_results(params)
    stages.write_code_yaml(params)
    tools.dvc("commit", "--force")
    if status := tools.dvc_status():
        lines = "\n  ".join(tools.changes(status))
        raise UserError(
            f"recorded, but DVC still finds changes:\n  {lines}",
            remedy="is something else writing there? Otherwise record again",
        )
    return "recorded in dvc.lock: git add dvc.lock results, git commit, dvc push"


def _refuse_other_results(params: Params) -> None:
    """Results that are no longer configured would be part of the report's inputs."""
    runs = ExperimentLayout(params.name).folder / "runs"
    others = sorted(path.name for path in runs.iterdir() if path.name not in params.runs)
    others += [
        folder.relative_to(runs).as_posix()
        for run in params.runs
        for folder in sorted((runs / run / "data").glob("*"))
        if folder.name not in params.evaluation_data
    ]
    others += [
        f"{run}/{name}"
        for benchmark in BENCHMARKS.values()
        for run in params.runs
        for name in (f"{benchmark.name}.json", *benchmark.outputs)
        if run not in benchmark.runs(params) and (runs / run / name).exists()
    ]
    if others:
        raise UserError(
            f"there are results that experiment {params.name!r} no longer has: {', '.join(others)}",
            place=str(runs),
            remedy="move or delete them; a clone would have none, and find the report out of date",
        )


def bless() -> str:
    """Have Snakemake note that all that lies here is made, of these settings and this code.

    Raises:
        UserError: where DVC finds anything changed, or a file is not the one that another was made
            from, or a Snakemake is at work.
    """
    params = composition.load()
    tools.refuse_where_locked("blessing")
    stages.write_code_yaml(params)
    status = tools.dvc_status()
    status.pop("code", None)  # which has just been done, and says more of comments than of meaning
    if status:
        lines = "\n  ".join(tools.changes(status))
        raise UserError(
            f"not everything here is what dvc.lock says:\n  {lines}",
            place="dvc status",
            remedy="fetch what is missing (dvc pull), or make what has changed (dvc repro, or "
            "snakemake --cores all --forcerun STAGE)",
        )
    if others := list(_not_of_these_inputs(params)):
        lines = "\n  ".join(others[:6])
        raise UserError(
            f"results were made of other inputs than those that are here:\n  {lines}",
            remedy="bring these inputs back, or make the results anew: snakemake --cores all "
            f"--forcerun {' '.join(each.stage for each in BENCHMARKS.values())}",
        )
    tools.snakemake("--touch", "--forceall", "--cores", "1", "--quiet", "all")
    if jobs := tools.planned():
        listed = ", ".join(f"{rule} {count}" for rule, count in jobs.items())
        raise UserError(f"Snakemake still has to run {listed}", remedy="snakemake -n says why")
    return "all that is here counts as made: snakemake has nothing to do"


def _not_of_these_inputs(params: Params) -> Iterator[str]:
    """What DVC does not see: weights from elsewhere, and other data sets that benchmarks read."""
    layout = ExperimentLayout(params.name)
    seen: set[str] = set()
    for run in params.runs:
        scored = [
            layout.run(run, "" if data == params.data.name else data).result(name)
            for data in params.data_sets
            for name, benchmark in BENCHMARKS.items()
            if run in benchmark.runs(params.on(data))
        ]
        for path in (layout.run(run).pretrained, *scored):
            for line in chain.problems(path):
                if line not in seen:
                    seen.add(line)
                    yield line
