"""From groups to params.yaml."""

from __future__ import annotations

import copy
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from pipeline.configuration import composition, video_lists
from pipeline.configuration.schema import Params
from pipeline.errors import UserError

EXPERIMENTS = composition.choices()["experiment"]
# Completed by the other files of their groups.
ABSTRACT = {("data", "base"), ("objective", "base"), ("segmentation", "base")}
CHOICES = [
    (group, choice)
    for group, choices in composition.choices().items()
    for choice in choices
    if group != "experiment" and (group, choice) not in ABSTRACT
]
FOLDER = ["data=folder", "data.manifest=clips.csv"]


def test_a_misspelt_key_names_the_one_that_is_meant() -> None:
    """Catches a message that sends to a page of a thousand lines for a letter."""
    with pytest.raises(UserError) as caught:
        composition.compose(["experiment=demo", "trainer.epoch=4"])
    assert (caught.value.remedy or "").startswith("did you mean epochs? ")
    with pytest.raises(UserError) as caught:
        composition.compose(["experiment=demo", "trainer.xyzzy=4"])
    assert "did you mean" not in (caught.value.remedy or "")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes(experiment: str) -> None:
    """Catches an experiment file left behind by a change of the schema or of a group."""
    is_of_own = experiment in ("motion", "half_price")  # videos
    more = ["data.manifest=clips.csv"] if is_of_own else []
    text = composition.compose([f"experiment={experiment}", *more])
    assert composition.validate(yaml.safe_load(text), place="").name


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes(group: str, choice: str) -> None:
    """Catches a group file with a key too many or too few, though no experiment uses it."""
    overrides = [f"{group}={choice}", *(["data.manifest=clips.csv"] if choice == "folder" else [])]
    if group == "model" and choice != "demo":
        overrides += ["data.clip.size=224"]  # tubes of 16 x 16
    if group == "objective/loss" and not choice.startswith("sinkhorn"):
        # the others not with a target that is trained
        overrides += ["objective=clusters_demo" if choice == "cross_entropy" else "objective=pixel"]
    if group == "objective/mask":  # some not with prototypes, without objects or a frozen network
        of = {"adaptive": "adamae", "trajectory": "smile", "attention": "umt"}
        objective = "vjepa" if choice.startswith("blocks") else of.get(choice)
        overrides += [f"objective={objective}"] if objective else []
    composition.compose(overrides)


@pytest.mark.parametrize(
    "overrides",
    [[], ["experiment=tiny"], ["trainer.epochs=7", "objective.loss.epsilon=1e-3"]],
    ids=" ".join,
)
def test_dvc_composes_the_same_bytes(overrides: list[str], tmp_path: Path) -> None:
    """Catches a difference by which `dvc exp run -S` would rewrite params.yaml in vain."""
    hydra = pytest.importorskip("dvc.utils.hydra")
    out = tmp_path / "params.yaml"
    hydra.compose_and_dump(out, str(composition.CONF), None, "config", "", overrides)
    assert out.read_text(encoding="utf-8") == composition.compose(overrides)


def test_dvc_composes_the_same_but_for_benchmarks_with_nothing_to_score(tmp_path: Path) -> None:
    """Catches a further difference: Hydra alone cannot say that a benchmark has no clips."""
    hydra = pytest.importorskip("dvc.utils.hydra")
    out = tmp_path / "params.yaml"
    hydra.compose_and_dump(out, str(composition.CONF), None, "config", "", FOLDER)
    theirs, ours = (yaml.safe_load(text) for text in (out.read_text(), composition.compose(FOLDER)))
    for benchmark in ("segmentation", "severe"):
        assert ours[benchmark].pop("runs") == []
        assert theirs[benchmark].pop("runs") == list(theirs["runs"])
    assert ours == theirs


def test_committed_params_are_the_default(project: Path) -> None:
    """Catches a change of the groups without `python -m pipeline compose`: both are committed."""
    path = project / "params.yaml"
    command = ["git", "diff", "--quiet", "HEAD", "--", path.name]
    if subprocess.run(command, cwd=project, check=False).returncode:
        pytest.skip("params.yaml is another experiment's now, or this is not a git checkout")
    assert path.read_text(encoding="utf-8") == composition.compose([])


def _sections(values: Any, model: Any, key: str = "") -> list[str]:
    """Return the key of every section of `values`: mappings that the schema closes."""
    found = [key] if isinstance(model, BaseModel) else []
    if isinstance(values, dict):
        for name, below in values.items():
            inner = model[name] if isinstance(model, dict) else getattr(model, name)
            found += _sections(below, inner, f"{key}.{name}".strip("."))
    return found


@pytest.fixture(scope="module")
def demo() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(composition.compose([]))
    return values


def test_unknown_keys_are_refused_in_every_section(demo: dict[str, Any]) -> None:
    """Catches a section that is open: a misspelt key in it would be ignored silently."""
    sections = _sections(demo, Params.model_validate(demo))
    assert {"", "data.clip", "runs.pixel.trainer.optimiser", "evaluation.knn"} <= set(sections)
    for section in sections:
        values = copy.deepcopy(demo)
        inner = values
        for part in section.split(".") if section else []:
            inner = inner[part]
        inner["no_such_key"] = 1
        with pytest.raises(UserError, match=r"no_such_key: unknown key"):
            composition.validate(values, place="params.yaml")


def test_all_errors_come_together(demo: dict[str, Any]) -> None:
    """Catches a check that stops at the first mistake, so that users meet them one by one."""
    values = copy.deepcopy(demo)
    values["data"]["chunks"] = 0
    values["evaluation"]["knn"]["k"] = "many"
    del values["name"]
    values["trainer"]["epoch"] = 3
    with pytest.raises(UserError) as caught:
        composition.validate(values, place="params.yaml")
    said = str(caught.value)
    for part in ("4 error", "data.chunks", "evaluation.knn.k", "name: missing", "trainer.epoch"):
        assert part in said
    assert "where:  params.yaml" in said


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("data=foldr", "synthetic"),  # names the choices that there are
        ("dataset=folder", "dataset"),
        ("trainer.epoch=3", "trainer.epoch"),
        ("experiment", "experiment"),
        ("data=folder", "data.manifest"),
        ("trainer.epochs=-1", "trainer.epochs"),
        ("trainer.warmup_epochs=9999", "9999 warmup_epochs are more than"),
        ("trainer.warmup_epochs=9999", "set trainer.warmup_epochs, too, to"),
        ("data.clip.size=30", "data.clip"),  # no multiple of the tube
        ("data.name='a/b'", "data.name"),
    ],
)
def test_mistakes_are_named(override: str, named: str) -> None:
    """Catches Hydra's own traceback, and messages without the thing, the place and the remedy."""
    with pytest.raises(UserError) as caught:
        composition.compose([override])
    said = str(caught.value)
    assert named in said
    assert override.split("=")[0] in caught.value.place
    assert caught.value.remedy
    assert len(said.splitlines()) < 20
    assert str(composition.CONF) not in said


def test_teachers_see_what_the_model_sees() -> None:
    """Catches targets that are features of pictures such as the teacher has never seen."""
    with pytest.raises(UserError, match="a frozen image network"):
        composition.compose(["experiment=one", "objective=sigma_dino", "model.background=subtract"])
    values = yaml.safe_load(composition.compose(["experiment=methods"]))
    values["runs"]["umt"]["model"]["background"] = "subtract"
    with pytest.raises(UserError, match="that of sigma_mlp, which it learns from, None"):
        composition.validate(values, place="params.yaml")


@pytest.mark.parametrize(
    ("override", "remedy"),
    [
        ("data=foldr", "--list"),
        ("trainer.epoch=3", "docs/configuration.md"),  # a key: --list does not show it
        ("runs.sigma.trainer.epochs=3", "docs/configuration.md"),
        ("trainer.epochs", "KEY=VALUE"),
    ],
)
def test_the_remedy_is_for_this_mistake(override: str, remedy: str) -> None:
    """Catches a remedy that sends the user to a list without the thing, and Hydra's jargon."""
    with pytest.raises(UserError) as caught:
        composition.compose([override])
    assert remedy in caught.value.remedy
    assert "struct" not in str(caught.value)


def test_run_names_are_keys_of_dvc() -> None:
    """Catches a run's name with a dot, which DVC would take for two keys of params.yaml."""
    overrides = ["+runs={a.b:{model:${model},objective:${objective},trainer:${trainer}}}"]
    with pytest.raises(UserError, match=r"a\.b"):
        composition.compose(overrides)


def test_overrides_that_no_run_reads_are_told() -> None:
    """Catches a silent `objective.loss.epsilon=...` where all runs have objectives of their own."""
    overrides = ["objective.loss.epsilon=0.2", "trainer.epochs=7", "experiment=demo", *FOLDER]
    idle = composition.without_effect(overrides)
    assert idle == {"objective.loss.epsilon=0.2": "runs.sigma_mlp.objective.loss.epsilon=0.2"}
    composition.compose(list(idle.values()))  # the advice can be followed


MINE = ["experiment=demo", "name=mine", *FOLDER, "data.name=mine"]  # the README's command
FINETUNED = "evaluation=demo_finetuned"


def params(*overrides: str) -> Params:
    return composition.validate(yaml.safe_load(composition.compose(overrides)), place="")


def test_fine_tuning_follows_the_labels() -> None:
    """Catches fine-tuning that the README's command for one's own videos loses without a word."""
    for labels in (["label"], ["digit", "command"]):
        chosen = params(*MINE, FINETUNED, f"data.labels=[{','.join(labels)}]")
        assert chosen.evaluation.finetune is not None
        assert list(chosen.evaluation.finetune.labels or chosen.data.labels) == labels
    assert params("experiment=demo").evaluation.finetune is None
    demo = params("experiment=full").evaluation.finetune
    assert demo is not None
    assert demo.labels == ("motion",)


@pytest.mark.parametrize(
    "overrides",
    [
        [*MINE, FINETUNED, "evaluation.finetune.labels=[motion]"],
        ["experiment=full", "evaluation.finetune.labels=[motion,digits]"],
    ],
)
def test_labels_to_fine_tune_on_are_of_the_data(overrides: list[str]) -> None:
    """Catches a label without a clip: its fine-tuning would be left out silently."""
    with pytest.raises(UserError, match=r"evaluation.finetune.labels names (motion|digits), which"):
        composition.compose(overrides)


def test_other_data_than_the_embedded_has_no_job_for_it() -> None:
    """Catches jobs that only print "drawn for the embedded data alone", and one left out that can
    be run: what was chosen for one's own data stays."""
    for data in (MINE, ["data=k400"], ["data=ssv2", "model=vit_small"]):
        text = composition.compose(data)
        chosen = composition.validate(yaml.safe_load(text), place="")
        assert (chosen.segmentation.data, chosen.severe.tasks) == ((), ())
        said = composition.left_out(text)
        assert said.startswith("left out, since it needs the embedded data: segmentation: embed")
        assert len(chosen.left_out["severe"]) == 3
        assert all(task in said for task in chosen.left_out["severe"])
    text = composition.compose([*MINE, "segmentation=paper", "severe=paper"])
    chosen = composition.validate(yaml.safe_load(text), place="")
    assert [each.name for each in chosen.segmentation.data] == ["DAVIS", "YTVOS"]
    assert len(chosen.severe.tasks) == 8
    assert composition.left_out(text) == ""
    assert composition.left_out(composition.compose(["experiment=full"])) == ""


def test_without_test_nothing_is_scored_on_it() -> None:
    """Catches a benchmark that looks at test clips though `evaluation.test` is false."""
    text = composition.compose(["evaluation.test=false"])
    chosen = composition.validate(yaml.safe_load(text), place="")
    assert (chosen.segmentation.data, chosen.severe.tasks) == ((), ())
    assert "since it needs the test split" in composition.left_out(text)
    kept = params("evaluation.test=false", "severe=paper", "segmentation=paper")
    assert [task.name for task in kept.severe.tasks] == ["SSv2"]  # scored on its val
    assert len(kept.segmentation.data) == 2


@pytest.mark.parametrize("evaluation", ["demo_finetuned", "recognition", "ssv2", "k400"])
@pytest.mark.parametrize("flip", ["", "true"])
def test_one_setting_says_whether_clips_are_mirrored(evaluation: str, flip: str) -> None:
    """Catches labels such as "swiping left" that lose their meaning in fine-tuning alone."""
    asked = [f"data.clip.flip={flip}"] if flip else []
    chosen = params(*MINE, f"evaluation={evaluation}", *asked)
    assert chosen.evaluation.finetune is not None
    assert chosen.data.clip.flip == bool(flip)
    assert chosen.evaluation.finetune.augmentation.flip == bool(flip)


@pytest.mark.parametrize(("labels", "good"), [("kind", True), ("label", True), ("knid", False)])
def test_labels_are_columns_of_the_list(labels: str, good: bool, tmp_path: Path) -> None:
    """Catches a misspelt column, whose probes would be skipped hours later."""
    (tmp_path / "clips.csv").write_text("\ufeffid,path,kind\na,a.mp4,x\n", encoding="utf-8")
    manifest = f"data.manifest={tmp_path / 'clips.csv'}"
    made = params("data=folder", manifest, f"data.labels=[{labels}]")
    if good:
        video_lists.check_columns(made)
        return
    with pytest.raises(UserError, match="no column knid") as caught:
        video_lists.check_columns(made)
    assert caught.value.remedy == "its columns are id, path, kind"


@pytest.mark.parametrize(
    ("mixture", "problem", "place"),
    [
        ("{column: kind, weights: {x: 3, 1: 0.5}}", "", ""),
        ("{column: kind, weights: {x: 3, 1: 0.5, y: 1}}", "has the value y in", ".weights"),
        ("{column: kind, weights: {x: 3}}", "'kind' without a weight: 1 (2)", ".weights"),
        ("{column: knid, weights: {x: 3}}", "has a value in the column 'knid'", ".column"),
    ],
)
def test_mixtures_are_held_to_the_list(
    mixture: str, problem: str, place: str, tmp_path: Path
) -> None:
    """Catches a weight that is forgotten or misspelt, which days of downloads later would stop
    the training; clips of other splits need none."""
    listed = "id,path,kind,split\na,a.mp4,x,train\nb,b.mp4, 1,\nc,c.mp4,1,train\nd,d.mp4,y,val\n"
    (tmp_path / "clips.csv").write_text(listed, encoding="utf-8")
    manifest = f"data.manifest={tmp_path / 'clips.csv'}"
    made = params("data=folder", manifest, f"trainer.mixture={mixture}")
    if not problem:
        video_lists.check_columns(made)
        return
    with pytest.raises(UserError) as caught:
        video_lists.check_columns(made)
    assert problem in caught.value.problem
    run = next(iter(made.runs))
    assert caught.value.place == f"runs.{run}.trainer.mixture{place}"


@pytest.mark.parametrize(
    "mixture",
    [
        *("{column: kind, weights: {}}", "{weights: {a: 1}}", "{column: kind}"),
        *(f"{{column: kind, weights: {{a: 1, b: {w}}}}}" for w in ("0", "-1", "inf", "nan", "x")),
        *("{column: kind, weights: [1, 2]}", "{column: kind, weights: {a: 1}, more: 1}"),
    ],
)
def test_mixtures_have_weights_above_0(mixture: str) -> None:
    """Catches a component that is given no samples or fewer than none, and misspelt keys."""
    with pytest.raises(UserError, match="mixture"):
        composition.compose([f"trainer.mixture={mixture}"])


def test_exponents_without_a_point_are_numbers(tmp_path: Path) -> None:
    """Catches YAML 1.1's reading of 1e-3, which Hydra writes, as a string."""
    path = tmp_path / "params.yaml"
    text, changed = re.subn(r"warmup_lr: \S+", "warmup_lr: 1e-6", composition.compose([]))
    assert changed
    path.write_text(text, encoding="utf-8")
    assert composition.load(path).trainer.optimiser.warmup_lr == 1e-6


@pytest.mark.parametrize("text", [None, "a: [", "- a list", ""])
def test_no_configuration_is_one_message(text: str | None, tmp_path: Path) -> None:
    """Catches a traceback where params.yaml is missing, is not YAML or is not a mapping."""
    path = tmp_path / "params.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        composition.load(path)
    assert str(path) in caught.value.place


def test_the_reference_has_every_key(project: Path) -> None:
    """Catches a setting that docs/configuration.md does not explain."""
    documented = (project / "docs" / "configuration.md").read_text(encoding="utf-8")
    lacking = [
        f"{model.__name__}.{key}"
        for model, key in _keys(Params)
        if f"`{key}`" not in documented and f".{key}`" not in documented
    ]
    assert lacking == []


def _keys(model: type[BaseModel]) -> set[tuple[type[BaseModel], str]]:
    """Return every key that holds a value rather than a section."""
    found = set()
    for key, field in model.model_fields.items():
        sections = _models(field.annotation)
        found |= {each for section in sections for each in _keys(section)}
        if not sections:
            found.add((model, key))
    return found


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in _models(part)]
