"""Where everything lies: the only place that spells a path of the pipeline's results.

Used by the stages and by the Snakefile alike, so that they cannot disagree. All paths are
relative to the project folder, which is the working directory of every command.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LOGS = Path("logs")


@dataclass(frozen=True)
class DataLayout:
    """Files of one data set. `chunk` is the number of a chunk, from 0."""

    name: str

    @property
    def downloads(self) -> Path:  # kept by `make clean`
        return Path("downloads") / self.name

    @property
    def derived(self) -> Path:  # can be made again from the downloads
        return Path("data") / self.name

    @property
    def manifest(self) -> Path:
        """Census of the source list; written after the chunk lists."""
        return self.derived / "manifest.json"

    def chunk_list(self, chunk: int | str) -> Path:
        """The rows of the manifest that belong to one chunk, as CSV."""
        return self.derived / "chunks" / f"{chunk}.csv"

    def downloaded(self, chunk: int | str) -> Path:
        """Chunk manifest of the download stage; files lie in `videos(chunk)`."""
        return self.derived / "downloaded" / f"{chunk}.json"

    def videos(self, chunk: int | str) -> Path:
        return self.downloads / "videos" / str(chunk)

    def local_files(self, chunk: int | str) -> Path:
        """What the download stage saw of the local files that a chunk's clips are from."""
        return self.videos(chunk) / "local_files.json"

    def shared(self, kind: str) -> Path:
        """Downloads that several chunks may need: `web`, `youtube`, `archives`."""
        return self.downloads / kind

    def decoded(self, chunk: int | str) -> Path:
        """Chunk manifest of the decode stage; files lie in `clips(chunk)`."""
        return self.derived / "decoded" / f"{chunk}.json"

    def clips(self, chunk: int | str) -> Path:
        return self.derived / "clips" / str(chunk)

    def sharded(self, chunk: int | str) -> Path:
        """Chunk manifest of the shard stage; tars lie in `shards`."""
        return self.derived / "sharded" / f"{chunk}.json"

    @property
    def shards(self) -> Path:
        return self.derived / "shards"

    @property
    def lost(self) -> Path:
        """The clips that are not there, with outcome and reason, as CSV; by the index stage."""
        return self.derived / "lost.csv"

    @property
    def index(self) -> Path:
        """All shards of the data set: hashes, counts, census."""
        return self.shards / "index.json"

    @property
    def clip_table(self) -> Path:
        """Where each clip of the data set is, as an Arrow file (`data.shards.table_file`)."""
        return self.shards / "clips.arrow"

    @property
    def views(self) -> Path:
        """What encoders looked at, decoded, for those that look at it next; may be deleted."""
        return self.derived / "views"

    def baselines(self, digest: str) -> Path:
        """Grey pixels of clips, which scores are compared with; may be deleted."""
        return self.derived / "baselines" / f"{digest}.npz"

    @property
    def pictures(self) -> Path:
        """What pretraining learns from: a hash of the pictures, and of nothing else."""
        return self.shards / "pictures.json"

    def made(self, stage: str, chunk: int | str = "") -> Path:
        """What a stage was given and ran on; what it wrote is the same anywhere, this is not."""
        folder = self.derived / "made"
        name = f"{stage}.json" if chunk == "" else f"{stage}/{chunk}.json"
        return folder / name


@dataclass(frozen=True)
class RunLayout:
    """Files of one run of an experiment."""

    experiment: str
    run: str
    data: str = ""  # the further data set that it is evaluated on; empty: that of the experiment

    @property
    def folder(self) -> Path:
        return Path("results") / self.experiment / "runs" / self.run

    @property
    def scores_folder(self) -> Path:
        """What benchmarks write: beside the weights, or in a folder of the further data set."""
        return self.folder / "data" / self.data if self.data else self.folder

    @property
    def options(self) -> str:
        """How a command line of a benchmark names the run and the data set."""
        return f"--run {self.run} --data {self.data}" if self.data else f"--run {self.run}"

    @property
    def checkpoints(self) -> Path:  # full training states, for resuming
        return self.folder / "checkpoints"

    @property
    def weights(self) -> Path:  # the trained model, for using
        return self.folder / "model.safetensors"

    @property
    def metrics(self) -> Path:  # a line per logged step; identical for identical runs
        return self.folder / "metrics.jsonl"

    @property
    def curves(self) -> Path:  # the same as a table, for DVC's plots
        return self.folder / "metrics.csv"

    @property
    def profile(self) -> Path:  # traces of a few steps, where trainer.profile asks for them
        return self.folder / "profile"

    @property
    def speed(self) -> Path:  # clips per second and the like; differs from run to run
        return self.folder / "speed.jsonl"

    @property
    def clusters(self) -> Path:  # centroids, where targets are clusters; made before training
        return self.folder / "clusters.safetensors"

    @property
    def pretrained(self) -> Path:
        """Manifest of the pretrain stage, written last."""
        return self.folder / "pretrain.json"

    @property
    def learned(self) -> tuple[Path, ...]:
        """What a training leaves beside its checkpoints and its manifest."""
        return (self.weights, self.metrics, self.curves, self.speed)

    @property
    def features(self) -> Path:
        return self.scores_folder / "features.npz"

    @property
    def predictions(self) -> Path:  # what each probe answered for each test clip
        return self.scores_folder / "predictions.csv"

    @property
    def scores(self) -> Path:  # the score that each probe gave to each class, for each test clip
        return self.scores_folder / "predictions.parquet"

    @property
    def probing(self) -> Path:  # tokens, answers and checkpoints of probes, for resuming
        return self.scores_folder / "probing"

    def result(self, benchmark: str) -> Path:
        """Manifest of a benchmark's stage: the run's scores, written last."""
        return self.scores_folder / f"{benchmark}.json"

    def rows(self, benchmark: str) -> Path:
        """What a benchmark found, a row per clip (and data set, or task)."""
        return self.scores_folder / f"{benchmark}.parquet"

    def work(self, benchmark: str) -> Path:
        """Folder of a benchmark: pictures, or what an interrupted job goes on from."""
        return self.scores_folder / benchmark


def runs_of_all_experiments() -> list[RunLayout]:
    """Return every run that has a folder."""
    folders = sorted(Path("results").glob("*/runs/*"))
    return [RunLayout(folder.parts[-3], folder.name) for folder in folders]


@dataclass(frozen=True)
class ExperimentLayout:
    """Files that compare the runs of an experiment."""

    name: str

    @property
    def folder(self) -> Path:
        return Path("results") / self.name

    def run(self, run: str, data: str = "") -> RunLayout:
        return RunLayout(self.name, run, data)

    def planned(self, digest: str) -> Path:
        """The settings that a workflow was planned with, for its jobs; by a hash of their text."""
        return self.folder / "params" / f"{digest}.yaml"

    @property
    def evaluation(self) -> Path:
        return self.folder / "evaluation.json"

    @property
    def metrics(self) -> Path:  # the scores alone, for `dvc metrics show`
        return self.folder / "metrics.json"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def chosen(self) -> Path:  # which trials of a sweep are scored on test, and by what
        return self.folder / "chosen.json"

    @property
    def figures(self) -> Path:  # the report's sections as pages of their own
        return self.folder / "figures"


def owner(experiment: str, data: str = "") -> str:
    """Whose a job's log is: the experiment's, or that of its scores on a further data set."""
    return f"{experiment}/data/{data}" if data else experiment


def log(owner: str, stage: str, job: object = "") -> Path:
    """What a job printed. `owner` is the name of the data set or of the experiment."""
    return LOGS / owner / (f"{stage}-{job}.log" if job != "" else f"{stage}.log")


def printed(experiment: str) -> Path:
    """All that Snakemake and its jobs printed, where the terminal shows a board or a line per job.

    No `.log`: those are of one job each.
    """
    return LOGS / experiment / "output.txt"


def times(owner: str, stage: str, job: object = "") -> Path:
    """How long a job took, beside its log; by the command line, for the report."""
    return log(owner, stage, job).with_suffix(".times.json")
