"""The stage of every benchmark: score one run's encoder, and write down what came of it."""

from __future__ import annotations

import importlib
import shutil
import time

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params
from pipeline.evaluation.benchmark import Benchmark, Job, Outcome
from pipeline.evaluation.encoder import verified_sha256
from pipeline.runtime.files import remove_leftovers, sha256_file, write_json
from pipeline.runtime.interruption import ResumeLater, exit_or_requeue
from pipeline.runtime.provenance import provenance


def run(benchmark: Benchmark, params: Params, run: str, data: str = "") -> None:
    """Score the encoder of a run; last of all, write `NAME.json` into the folder of its scores.

    `params` are those of the data set (`Params.on`), which `data` names where it is a further one.

    Raises:
        UserError: where the data set or the run is not there yet, or the weights are not those
            that `pretrain.json` tells of; and what the benchmark raises.
    """
    began, on = time.monotonic(), f" on {data}" if data else ""
    layout = RunLayout(params.name, run, data)
    outputs = [layout.scores_folder / name for name in benchmark.outputs]
    remove_leftovers(layout.result(benchmark.name), *outputs, layout.work(benchmark.name))
    job = Job(params, layout, verified_sha256(layout))
    try:
        outcome: Outcome = importlib.import_module(benchmark.module).score(job)
    except ResumeLater as stop:
        exit_or_requeue(stop, f"{benchmark.stage} {run}{on}")
    write_json(
        layout.result(benchmark.name),
        {
            "run": run,
            **outcome.fields,
            "inputs": {"weights": job.weights, **outcome.inputs},
            "outputs": {name: sha256_file(path) for name, path in outcome.outputs.items()},
            "settings": benchmark.of(params).model_dump(mode="json", exclude={"runs"}),
            "clip": params.data.clip.model_dump(mode="json"),
            "provenance": provenance(),
            "seconds": round(time.monotonic() - began, 1),
        },
    )
    for path in outcome.leftovers:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for line in outcome.summary:
        print(f"[{benchmark.stage} {run}{on}] {line}")
