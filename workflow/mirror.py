"""Write into dvc.yaml the settings that stages read, and the stages of benchmarks: `make deps`.

They are those of Snakemake's rules, out of `pipeline.configuration.stages` and the registered
benchmarks, those of the plugins in params.yaml too. All else in dvc.yaml is written by hand and
stays as it is, comments too. What DVC keeps of a run is what .dvcignore does not hide.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pipeline.cli.project import making
from pipeline.configuration import code, composition, stages
from pipeline.configuration.schema import Params
from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.registry import BENCHMARKS

HERE = Path(__file__).resolve().parent.parent
BENCHMARK_STAGES = re.compile(
    r"(?ms)(?<=^  # The registered benchmarks: written by `make deps`\.\n).*?(?=^  # Depends on)"
)
OF_CODE = re.compile(
    r"(?m)^(?:    always_changed: true\n)?(?:    deps:\n(?:      .*\n)+)?(?=    outs:)"
)
RUN = "results/${name}/runs/${item.run}"
ON_FURTHER_DATA = RUN + "/data/${item.data}"
KEPT = "!/results/*/runs/*/"  # in .dvcignore
OF_DATA = ("manifest", "download", "decode", "shard", "index")


def mirrored(text: str, params: Params) -> str:
    """Return the text of dvc.yaml with what is not written by hand renewed."""
    benchmarks = _configured(params)
    further = [each for each in benchmarks if each.on_further_data]
    written = "".join(
        [
            *map(_of_benchmark, benchmarks),
            _of_further_data(),
            *map(_of_benchmark_on_further_data, further),
        ]
    )
    text = BENCHMARK_STAGES.sub(lambda _: written, text)
    head, *parts = re.split(r"(?m)^(?=  \w+:$)", text)
    return head + "".join(_stage(part, params) for part in parts)


def kept(text: str, params: Params) -> str:
    """Return the text of .dvcignore with the files of benchmarks let through."""
    lines = text.splitlines(keepends=True)
    first = next(n for n, line in enumerate(lines) if line.startswith(KEPT))
    files = {line for line in lines if line.startswith(KEPT)}
    for benchmark in _configured(params):
        names = {f"{benchmark.name}.json", *benchmark.outputs}
        files |= {f"{KEPT}{name}\n" for name in names}
        if benchmark.on_further_data:
            files |= {f"{KEPT}data/*/{name}\n" for name in names}
    others = [line for line in lines if not line.startswith(KEPT)]
    return "".join([*others[:first], *sorted(files), *others[first:]])


def _configured(params: Params) -> list[Benchmark]:
    return [benchmark for benchmark in BENCHMARKS.values() if benchmark.of(params) is not None]


def _stage(part: str, params: Params) -> str:
    name = part.split(":", 1)[0].strip()
    if name == "code":
        return OF_CODE.sub(_what_code_is_of(params), part, count=1)
    if name not in stages.STAGES:
        return part
    lines = "".join(f"      - {key}\n" for key in stages.keys(name, run="${item.run}"))
    lines += f"      - workflow/code.yaml:\n          - {name}\n"
    if name == "pretrain":  # Snakemake trains the runs that it needs first
        lines += "          - needs.${item.run}\n"
    return re.sub(r"(?m)(?<=^    params:\n)(?:      .*\n)+", lambda _: lines, part)


def _what_code_is_of(params: Params) -> str:
    """What the stage `code` depends on: the package, where it is here, and the plugins' folders.

    DVC does not look at a package that is installed elsewhere: so the stage runs each time.
    """
    files = [code.find(plugin) for plugin in params.plugins]
    folders = sorted({path.relative_to(Path.cwd()).parts[0] for path in files if path})
    is_here = (HERE / "pipeline" / "__init__.py").is_file()
    lines = [] if is_here else ["    always_changed: true"]
    if folders := ["pipeline"] * is_here + folders:
        lines += ["    deps:", *(f"      - {folder}" for folder in folders)]
    return "".join(f"{line}\n" for line in lines)


def _of_benchmark(benchmark: Benchmark) -> str:
    stage, scores = benchmark.stage, f"{RUN}/{benchmark.name}.json"
    runs = f"{benchmark.section}.runs" if "runs" in benchmark.settings.model_fields else "runs"
    outs = sorted({f"{benchmark.name}.json", *benchmark.outputs} - benchmark.plots.keys())
    lines = [
        f"  {stage}:",
        "    matrix:",
        f"      run: ${{{runs}}}",
        f"    cmd: ${{environment}} ${{snakemake}} --allowed-rules {stage} --forcerun {stage} "
        f"-- {scores}",
        "    params:",
        "      - name",  # and the others: see _stage
        "    deps:",
        "      - data/${data.name}/shards/index.json",
        f"      - {RUN}/pretrain.json",
        *(f"      - {RUN}/{name}.json" for name in benchmark.after),
        "    outs:",
        *(line for name in outs for line in _kept(name)),
    ]
    if benchmark.plots:
        lines.append("    plots:")
    for name, how in benchmark.plots.items():
        lines += [*_kept(name), *(f"          {key}: {value}" for key, value in how.items())]
    return "\n".join(lines) + "\n\n"


def _of_further_data() -> str:
    """The chain of each further data set, from its list to its index."""
    rules = " ".join(f"{stage}_${{key}}" for stage in OF_DATA)
    kept = ("lost.csv", "made", "manifest.json", "shards")
    lines = [
        "  further_data:",
        "    foreach: ${evaluation_data}",
        "    do:",
        f"      cmd: ${{environment}} ${{snakemake}} --allowed-rules {rules} --forcerun {rules} "
        "-- data/${key}/shards/index.json",
        "      params:",
        "        - evaluation_data.${key}",
        "        - workflow/code.yaml:",
        *(f"            - {stage}" for stage in OF_DATA),
        "      deps:",
        "        - ${item.rows_from}",
        "      outs:",
    ]
    for name in kept:
        lines += [f"        - data/${{key}}/{name}:", "            persist: true"]
    return "\n".join(lines) + "\n\n"


def _of_benchmark_on_further_data(benchmark: Benchmark) -> str:
    stage, rule = benchmark.stage, f"{benchmark.stage}_${{item.data}}"
    runs = f"{benchmark.section}.runs" if "runs" in benchmark.settings.model_fields else "runs"
    sections = (benchmark.section, "evaluation")
    own = [key for key in stages.keys(stage) if key.startswith(sections)]
    keys = ["name", "evaluation_data.${item.data}", "runs.${item.run}.trainer", *own]
    lines = [
        f"  further_{stage}:",
        "    matrix:",
        "      data: ${evaluation_data}",
        f"      run: ${{{runs}}}",
        f"    cmd: ${{environment}} ${{snakemake}} --allowed-rules {rule} --forcerun {rule} "
        f"-- {ON_FURTHER_DATA}/{benchmark.name}.json",
        "    params:",
        *(f"      - {key}" for key in keys),
        "      - workflow/code.yaml:",
        f"          - {stage}",
        "    deps:",
        "      - data/${item.data}/shards/index.json",
        f"      - {RUN}/pretrain.json",
        *(f"      - {ON_FURTHER_DATA}/{name}.json" for name in benchmark.after),
        "    outs:",
    ]
    for name in sorted({f"{benchmark.name}.json", *benchmark.outputs}):
        lines += _kept(f"data/${{item.data}}/{name}")
    return "\n".join(lines) + "\n\n"


def _kept(name: str) -> Iterator[str]:
    """An output that stays in place while its stage runs again."""
    yield f"      - {RUN}/{name}:"
    yield "          persist: true"


if __name__ == "__main__":
    params = composition.load(HERE / making.SETTINGS)
    for name, renewed in (("dvc.yaml", mirrored), (".dvcignore", kept)):
        making.renew(HERE, name, renewed((HERE / name).read_text(encoding="utf-8"), params))
