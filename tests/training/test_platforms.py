"""Other systems than Linux, and a set-up without extras, as far as taking things away goes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.configuration.layout import RunLayout
from pipeline.configuration.schema import Params
from pipeline.runtime.files import sha256_file
from pipeline.training import pretrain_stage

ELSEWHERE = """\
import ctypes, importlib, multiprocessing, os, pathlib, pkgutil, platform, resource, signal
import sys, types
sys.path.insert(0, sys.argv[1])

# What Linux has and macOS has not.
LINUX = {
    os: ("sched_getaffinity", "pidfd_open", "posix_fallocate", "posix_fadvise", "memfd_create"),
    resource: ("prlimit",),
    signal: ("sigwaitinfo", "sigtimedwait", "pidfd_send_signal"),
}
for module, names in LINUX.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
platform.libc_ver = lambda *_: ("", "")
read_text = pathlib.Path.read_text
def without_proc(path, *arguments, **options):
    if str(path).startswith("/proc/"):
        raise FileNotFoundError(path)
    return read_text(path, *arguments, **options)
pathlib.Path.read_text = without_proc

# What the demo's set-up leaves out.
EXTRAS = (
    *("deepspeed", "mlflow", "wandb", "tensorboard", "onnx", "onnxscript", "onnxruntime"),
    *("transformers", "s3fs", "gcsfs", "av", "torchcodec", "snakemake_executor_plugin_slurm"),
    *("pytest", "hypothesis", "torchmetrics", "playwright", "nbclient", "IPython"),
)
sys.modules.update(dict.fromkeys(EXTRAS))  # as if not installed
# They extend a class of an extra, and are loaded where it is used alone.
EXTENDING = ("pipeline.weights.vjepa2_attention",)

import pipeline
for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
    if not module.name.endswith(("__main__", *EXTENDING)):
        importlib.import_module(module.name)

# There processes start anew and get what they work on pickled, where those of Linux are forked.
multiprocessing.set_start_method("spawn")
from pipeline.data.load import workers
workers.sys = types.SimpleNamespace(platform="darwin")

from pipeline.configuration import composition
from pipeline.runtime import machine, provenance
from pipeline.training import pretrain_stage
assert machine.cores() == os.cpu_count()
assert provenance.hardware()["cores"] == os.cpu_count()
pretrain_stage.run(composition.load(pathlib.Path(sys.argv[2])), "sigma_mlp")
"""


def test_all_modules_and_a_training_elsewhere(
    compose: Callable[..., Params], workspace: Path, project: Path
) -> None:
    """Catches a call that Linux alone answers, and a package of an extra that all would need."""
    params = compose("trainer.workers=1", "trainer.decoder=decord")
    pretrain_stage.run(params, "sigma_mlp")
    layout = RunLayout(params.name, "sigma_mlp")
    expected = sha256_file(layout.weights)
    layout.folder.rename(workspace / "before")
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(project), str(workspace / "params.yaml")],
        cwd=workspace,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sha256_file(layout.weights) == expected
