"""The tables of README.md and docs/results.md, written from committed scores.

    python -m pipeline compose experiment=demo_seeds && snakemake --cores all   # makes the scores
    python -m pipeline compose experiment=methods && snakemake --cores all      # of the family
    python -m pipeline compose experiment=half_price ...  # of figures: docs/results.md
    python -m pipeline sweep ... name=curve_epsilon ...   # sweeps of SIGMA: docs/results.md
    python -m benchmarks.results                                                # writes the tables

Further seeds of the last two are experiments of their own: `name=methods_s1 trainer.seed=1`.

A table stands between two comments, `<!-- scores: NAME -->` and `<!-- end of scores -->`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import UserError
from pipeline.report.seeds import mean_std
from pipeline.runtime.files import write_text

SCORES = Path("results/demo_seeds/metrics.json")
RESULTS = Path("results")  # methods/metrics.json, methods_s1/metrics.json and so on in it
PAGES = (Path("README.md"), Path("docs/README.md"), Path("docs/results.md"))
TABLE = re.compile(r"(<!-- scores: (\w+) -->\n).*?(<!-- end of scores -->)", re.DOTALL)
METHODS = {  # runs of experiment=demo_seeds, without their seeds
    "sigma_mlp": "SIGMA, MLP target",
    "pixel": "pixels (VideoMAE)",
    "random": "untrained",
}
FAMILY_METHODS = {  # runs of experiment=methods
    "sigma_mlp": "SIGMA",
    "sigma_redundancy": "SIGMA, EVEREST's tubes",
    "sigma_noise": "SIGMA, structured noise",
    "sigma_dual": "SIGMA, dual masks",
    "clusters": "clusters of pixels' features",
    "mvd": "MVD (SIGMA and pixels teach)",
    "umt": "UMT (SIGMA teaches)",
    "pixel": "VideoMAE",
    "videomae_v2": "VideoMAE v2",
    "mae_st": "MAE-ST",
    "mgmae": "MGMAE",
    "everest": "EVEREST",
    "adamae": "AdaMAE",
    "structured_noise": "structured noise",
    "smile": "SMILE, stage 1",
    "smile_tube": "SMILE, then tubes",
    "vjepa": "V-JEPA",
    "random": "untrained",
}
# What the page of the family shows of each, as columns.
FAMILY_SCORES = (
    *("motion/linear", "motion/attentive", "motion/knn", "digit/linear", "digit/attentive"),
    *("severe/few_labels", "severe/unseen_backgrounds", "severe/unseen_objects"),
    "segmentation/embedded_8_frames_clustering",
)
HALF_PRICE_METHODS = {  # runs of experiment=half_price
    "sigma": "SIGMA",
    "dual": "SIGMA, dual masks",
    "everest": "SIGMA, EVEREST's tubes",
    "random": "untrained",
}
HALF_PRICE_SCORES = {
    "label/linear": "linear probe",
    "label/attentive": "attentive probe",
    "label/knn": "k-NN",
    "few_shot/label_k10": "ten labels a class",
    "retrieval/label_r1": "retrieval, R@1",
    "order/label_shuffled": "linear, shuffled frames",
    "order/direction_both_ways": "forward or backward",
}


def _swept(sweep: str, key: str, *values: str) -> dict[str, tuple[str, str]]:
    """Value of a setting -> its sweep and its run, seeds aside."""
    return {value: (sweep, f"sigma_mlp_{key}-{value.replace('.', 'p')}") for value in values}


# SIGMA over one setting each: value -> where its scores are, results/curve_SWEEP, and its run.
CURVES = {
    "Sinkhorn's iterations": _swept("transport", "iterations", "0", "1", "10"),
    "epsilon": _swept("epsilon", "epsilon", "0.002", "0.005", "0.01", "0.02", "0.05"),
    "prototypes": _swept("prototypes", "prototypes", "32", "256", "1024"),
    "weight of the target branch's loss": _swept("branches", "target_weight", "0", "0.5", "1"),
    "mask ratio": _swept("ratio", "ratio", "0.5", "0.75", "0.9"),
    "width of the target": _swept("width", "width", "8", "32", "128"),
    "clips in a batch": {
        "32": ("batch32", "sigma_mlp"),
        "64": ("ratio", "sigma_mlp_ratio-0p75"),
        "128": ("batch128", "sigma_mlp"),
    },
}
CURVES_SCORES = {
    "motion/val_linear": "motion, linear probe",
    "motion/val_knn": "motion, k-NN",
    "digit/val_linear": "digit, linear probe",
}
# What the embedded data's classes, each as frequent as the others, give to a guess.
CHANCE = {"motion": 100 / 8, "digit": 100 / 10}
PROBES = {"linear": "linear probe", "attentive": "attentive probe", "knn": "k-NN"}
ERRORS = {"counting"}  # of SEVERE: lower is better


Scores = Mapping[str, Mapping[str, Sequence[float]]]


class Row(NamedTuple):
    """One score of every method: per cent of each seed, `chance` where it is known."""

    name: str
    scores: Mapping[str, Sequence[float]]
    chance: float | None = None
    lower_is_better: bool = False


def read(paths: Iterable[Path], methods: Iterable[str]) -> Scores:
    """Return method -> score, such as `motion/linear` -> per cent of each seed."""
    gathered: dict[str, dict[str, list[float]]] = {method: {} for method in methods}
    for path in paths:
        for run, groups in json.loads(path.read_text()).items():
            for group, values in groups.items():
                for name, value in values.items():
                    scores = gathered[re.sub(r"_s\d+$", "", run)]
                    scores.setdefault(f"{group}/{name}", []).append(100 * value)
    return gathered


def rows(scores: Scores, names: Iterable[str]) -> Iterator[Row]:
    """Yield a row for each score, of those that all methods have."""
    for name in names:
        if all(name in of_method for of_method in scores.values()):
            label, _, probe = name.partition("/")
            shown = f"{label}, {PROBES[probe]}" if label in CHANCE else probe.replace("_", " ")
            each = {method: of_method[name] for method, of_method in scores.items()}
            yield Row(shown, each, CHANCE.get(label), lower_is_better=probe in ERRORS)


def across(table: Sequence[Row], methods: Mapping[str, str] = METHODS) -> str:
    """A line for each method, a column for each score."""
    lines = [["frozen encoder", *(row.name for row in table)]]
    lines += [[shown, *(_cell(row, method) for row in table)] for method, shown in methods.items()]
    if any(row.chance is not None for row in table):
        lines.append(["chance", *map(_chance, table)])
    return _markdown(lines)


def down(table: Sequence[Row]) -> str:
    """A line for each score, with those of single seeds."""
    known = any(row.chance is not None for row in table)
    lines = [["", *METHODS.values(), *["chance"] * known]]
    for row in table:
        cells = [
            f"{_cell(row, method)} ({', '.join(f'{value:.1f}' for value in row.scores[method])})"
            for method in METHODS
        ]
        lines.append([row.name, *cells, *[_chance(row)] * known])
    return _markdown(lines)


def curves(folder: Path) -> str:
    """A line for each value of what was swept, on val, and one of the untrained encoder."""
    runs = {run for values in CURVES.values() for _, run in values.values()}
    lines = [["", "value", *CURVES_SCORES.values()]]
    for what, values in CURVES.items():
        read_from = {
            sweep: read([folder / f"curve_{sweep}" / "metrics.json"], [*runs, "random"])
            for sweep, _ in values.values()
        }
        scores = {value: read_from[sweep][run] for value, (sweep, run) in values.items()}
        table = [
            Row(score, {value: of_value[score] for value, of_value in scores.items()})
            for score in CURVES_SCORES
        ]
        lines += [[what, value, *(_cell(row, value) for row in table)] for value in values]
        untrained = next(iter(read_from.values()))["random"]  # the same in each
    means = [f"{mean_std(untrained[score]).mean:.1f}" for score in CURVES_SCORES]
    return _markdown([*lines, ["untrained", "", *means]])


def _chance(row: Row) -> str:
    return "" if row.chance is None else f"{row.chance:g}"


def _cell(row: Row, method: str) -> str:
    """Mean and standard deviation of the sample; the best mean is bold."""
    score = mean_std(row.scores[method])
    best = (min if row.lower_is_better else max)(
        mean_std(each).mean for each in row.scores.values()
    )
    shown = f"{score.mean:.1f}" + ("" if score.std is None else f" ± {score.std:.1f}")
    return f"**{shown}**" if score.mean == best else shown


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    ruled = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in ruled)


def seeds(experiment: str, folder: Path) -> list[Path]:
    """Return the scores of an experiment and of its further seeds: NAME, NAME_s1 and so on."""
    names = re.compile(rf"{experiment}(_s\d+)?")
    return sorted(p for p in folder.glob("*/metrics.json") if names.fullmatch(p.parent.name))


def tables(path: Path = SCORES, folder: Path = RESULTS) -> dict[str, str]:
    """Return every table by its name."""
    scores = read([path], METHODS)
    of_family = read(seeds("methods", folder), FAMILY_METHODS)
    of_figures = read(seeds("half_price", folder), HALF_PRICE_METHODS)
    half_price = [
        row._replace(name=shown)
        for name, shown in HALF_PRICE_SCORES.items()
        for row in rows(of_figures, [name])
    ]
    known = list(scores["random"])

    def of(group: str) -> list[Row]:
        return list(rows(scores, (name for name in known if name.startswith(f"{group}/"))))

    probes = [f"{label}/{probe}" for label in CHANCE for probe in PROBES]
    return {
        "glance": across(list(rows(scores, ["motion/linear", "motion/knn", "digit/linear"]))),
        "recognition": down(list(rows(scores, probes))),
        "segmentation": down(of("segmentation")),
        "severe": down(of("severe")),
        "family": across(list(rows(of_family, FAMILY_SCORES)), FAMILY_METHODS),
        "half_price": across(half_price, HALF_PRICE_METHODS),
        "curves": curves(folder),
    }


def written(text: str, known: Mapping[str, str], place: Path) -> str:
    """Return a page with its tables as they should be. Raises UserError for one of no such name."""

    def table(match: re.Match[str]) -> str:
        if match[2] not in known:
            raise UserError(
                f"there is no table of scores called {match[2]!r}",
                place=place.as_posix(),
                remedy=f"choose among {', '.join(known)}",
            )
        return f"{match[1]}\n{known[match[2]]}\n{match[3]}"

    return TABLE.sub(table, text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables into the pages; with `--check` say which pages differ, and change none."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail on a difference")
    chosen = parser.parse_args(arguments)
    known, differ = tables(), []
    for page in PAGES:
        now = page.read_text()
        then = written(now, known, page)
        if now == then:
            continue
        differ.append(page)
        if not chosen.check:
            write_text(page, then)
    for page in differ:
        print(f"{page}: {'other scores than' if chosen.check else 'written from'} the scores")
    return int(chosen.check and bool(differ))


if __name__ == "__main__":
    sys.exit(main())
