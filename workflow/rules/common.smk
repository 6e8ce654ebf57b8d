# What the rules share: the checked configuration, and where everything lies.
import contextlib
import functools
import logging
import os
import sys
import time
from pathlib import Path

from snakemake.cli import parse_args
from snakemake.settings.enums import Quietness
from snakemake_interface_executor_plugins.settings import ExecMode

from pipeline.runtime import joblog
from pipeline.configuration import fitting_weights, layout, stages, video_lists
from pipeline.errors import UserError
from pipeline.evaluation.registry import BENCHMARKS
from pipeline.planning import ending, plan, snapshot
from pipeline.planning.board import last_screen
from pipeline.planning.board.display import Display, is_wanted
from pipeline.cli.versions.unrecorded import refusal, unrecorded
from pipeline.data.manifest import local_files

SOURCE = config.get("params", "params.yaml")  # read once, by the workflow; never by a job
try:
    if workflow.is_main_process:
        SETTINGS = snapshot.planned(SOURCE)
    else:  # a job on its own, such as Slurm's
        SETTINGS = snapshot.handed_on(os.environ)
    PARAMS = SETTINGS.params
    fitting_weights.check(PARAMS)
    for key, data in {"data": PARAMS.data, **PARAMS.evaluation_data}.items():
        # Snakemake's message would not say of which key.
        video_lists.check_is_there(data, key if key == "data" else f"evaluation_data.{key}")
except UserError as error:
    sys.exit(f"error: {error}")

EXPERIMENT = layout.ExperimentLayout(PARAMS.name)
RUNS = [EXPERIMENT.run(name) for name in PARAMS.runs]
# The files of each data set that runs are evaluated on, with the settings there. The first is the
# one that they are pretrained on. DVC has stages of their own for the others.
DATA_SETS = [(layout.DataLayout(name), PARAMS.on(name)) for name in PARAMS.data_sets]
DATA = DATA_SETS[0][0]
ASKED_FOR = DATA_SETS[:1] if "DVC_STAGE" in os.environ else DATA_SETS


def further(files):
    """Return the name of a data set; empty for the one that runs are pretrained on."""
    return "" if files is DATA else files.name


def rule_name(stage, files):
    """Return what the rule of a stage is called that is for one data set."""
    return plan.rule_name(stage, further(files))


def per_chunk(output):
    """Return an output of all chunks of the data sets: `output` is a method of DataLayout."""
    return [
        output(files, chunk) for files, on_it in ASKED_FOR for chunk in range(on_it.data.chunks)
    ]


def run_on(files, run):
    """Return where a run's scores on a data set lie."""
    return EXPERIMENT.run(run, further(files))


def owner_of_scores(files):
    """Return whose the logs of a data set's scores are."""
    return layout.owner(EXPERIMENT.name, further(files))


def scored(benchmark, data_sets=ASKED_FOR):
    """Return the results of a benchmark for the runs that it scores, on each data set."""
    return [
        run_on(files, run).result(benchmark.name)
        for files, on_it in data_sets
        for run in benchmark.runs(on_it)
    ]


SCORED = [path for benchmark in BENCHMARKS.values() for path in scored(benchmark, DATA_SETS)]

STARTED = time.time()

# What a plain `snakemake` is about to believe or to make; not what clears up, draws or lists, is told
# to make or touch something regardless, or is a part of another one (DVC's calls name their rule).
REGARDLESS = (
    *("touch", "forceall", "forcerun", "allowed_rules", "unlock", "cleanup_metadata"),
    *("lint", "list_rules", "list_target_rules", "dag", "rulegraph", "filegraph", "d3dag"),
    *("summary", "detailed_summary", "list_changes", "list_untracked", "delete_all_output"),
)


def made_elsewhere():
    """Return the results that Snakemake would take for done without having a record of them."""
    command = Path(sys.argv[0])
    if command.name != "snakemake" and command.parent.name != "snakemake":
        return []
    made = [
        *(files.manifest for files, _ in ASKED_FOR),
        *per_chunk(layout.DataLayout.downloaded),
        *per_chunk(layout.DataLayout.decoded),
        *per_chunk(layout.DataLayout.sharded),
        *(files.index for files, _ in ASKED_FOR),
        *(run.pretrained for run in RUNS),
        *SCORED,
        EXPERIMENT.evaluation,
        EXPERIMENT.report,  # not its metrics.json, which git brings with every clone
    ]
    found = unrecorded(made)
    if not found:
        return []
    with contextlib.redirect_stderr(None):  # it would tell of the profile a second time
        options = parse_args(sys.argv[1:])[1]
    is_plain = not any(getattr(options, name) for name in REGARDLESS)
    return found if is_plain and options.mode is ExecMode.DEFAULT else []


if found := made_elsewhere():
    sys.exit(f"error: {refusal(found)}")

# `python` in the rules is the one that runs Snakemake, whether or not its environment is active.
os.environ.update(PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]))
os.environ[snapshot.VARIABLE] = str(SETTINGS.path)
ending.mark(os.environ, is_workflow=workflow.is_main_process)


envvars:
    snapshot.VARIABLE,


def trainer(wildcards):
    """Return the trainer's settings of the run that a job is for."""
    return PARAMS.runs[wildcards.run].trainer


def settings_of(stage, on_it):
    """Return the settings that a run's job of a stage reads on a data set."""
    return lambda wildcards: stages.settings(on_it.of(wildcards.run), stage, wildcards.run)


def threads_of(benchmark):
    """Return the threads of a benchmark's jobs."""
    return lambda wildcards: trainer(wildcards).threads * benchmark.processes(PARAMS)


def growing(mem_mb):
    """Return a rule's memory: half as much again at each retry (a killed job is told by nothing)."""
    return lambda wildcards, attempt: mem_mb * (attempt + 1) // 2


def weights_of(wildcards):
    """Return the files of weights that a run begins with, or whose features are its targets."""
    run = PARAMS.runs[wildcards.run]
    files = [run.weights, run.init_file, *run.objective.files]
    return [file for file in files if file]


def needed_first(wildcards):
    """Return the trainings that come before a run's: what it begins with, or has its targets of."""
    return [EXPERIMENT.run(other).pretrained for other in PARAMS.runs[wildcards.run].needs]


state_of = functools.cache(local_files.state)  # asked several times of each job


def local_files_now(files):
    """Return what tells, by its change, that a local file of a chunk was replaced."""
    return lambda wildcards: state_of(files.local_files(wildcards.chunk))


def several_nodes(count):
    """Return a resource that a job on one node has not, for Slurm: srun starts the processes."""
    return lambda wildcards: count(trainer(wildcards)) if trainer(wildcards).nodes > 1 else None


def accelerators(count):
    """Return a job's GPUs on each node as Slurm wants them, where the profile says what they are."""
    return f"{config['gres']}:{count}" if count and "gres" in config else None


wildcard_constraints:
    chunk=r"\d+",
    run=r"[A-Za-z0-9_-]+",


# What a job said for itself stands in the terminal already; what Snakemake says of it, a shell
# command and a status, goes to Snakemake's own log file alone.
for handler in logger.handlers:
    if not isinstance(handler, logging.FileHandler):
        handler.addFilter(joblog.is_news)

# `snakemake -n` says which runs and chunks, and why.
logger.addFilter(plan.DryRun(functools.partial(plan.table, PARAMS)))


def results_there():
    """Return the results, for when nothing is to be done; empty where other targets are asked for."""
    targets = set(workflow.dag_settings.targets)  # known when all rules are read
    return last_screen.of_results(EXPERIMENT) if targets <= {"all"} else ""


# A board on a terminal, elsewhere a line per job. Snakemake's --verbose, --printshellcmds and
# --debug-dag ask for its own lines, as VERBOSE=1 does.
DISPLAY = None
PRINTED = workflow.output_settings
if workflow.is_main_process and not PRINTED.dryrun:
    logger.addFilter(functools.partial(last_screen.add_results, results_there))
    if is_wanted(os.environ) and not (
        PRINTED.verbose or PRINTED.printshellcmds or PRINTED.debug_dag
    ):
        DISPLAY = Display(
            PARAMS.name,
            plan.stages_of_rules(PARAMS),
            layout.printed(PARAMS.name),
            quiet=Quietness.ALL in (PRINTED.quiet or ()),
        )
        DISPLAY.attach(logger)


onstart:
    SETTINGS.write()
    if DISPLAY:
        DISPLAY.begin()
    ending.pass_signals_on()


# Called by DVC, which notes the settings as they are at a stage's end.
onsuccess:
    if dvc_stage := os.environ.get("DVC_STAGE"):
        if changed := snapshot.differs_for_dvc(PARAMS, dvc_stage, SOURCE):
            sys.exit(f"error: {changed}")
    if DISPLAY:
        DISPLAY.end()
        print(last_screen.of_success(DISPLAY.events, EXPERIMENT), flush=True)


# Said once more at the end, where it is looked for: other jobs have gone on printing since.
onerror:
    if DISPLAY:
        DISPLAY.end(errors_are_told=True)
        print(last_screen.of_failure(DISPLAY.events, STARTED, DISPLAY.output), file=sys.stderr)
    else:
        print("", joblog.failures(layout.LOGS, STARTED), "", sep="\n", file=sys.stderr)
