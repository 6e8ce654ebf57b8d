"""From Hydra groups to `params.yaml`, and from `params.yaml` to checked `Params`."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from pipeline.configuration import fitting_weights, old_names, plugins, several
from pipeline.configuration.follow import follow
from pipeline.configuration.schema import Params
from pipeline.configuration.section import Section
from pipeline.errors import UserError
from pipeline.evaluation.registry import BENCHMARKS

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONF = Path(__file__).resolve().parent.parent / "conf"
OWN_CONF = Path("conf")  # a project's own choices: `hydra.searchpath` of config.yaml, for DVC, too
PARTS = ("experiment/recipe", "severe/tasks")  # of choices, none by themselves
DEFAULTS = ("model", "objective", "trainer")  # for runs; no stage reads them


def compose(overrides: Sequence[str]) -> str:
    """Return the text of `params.yaml` for these Hydra overrides.

    The same bytes that `dvc exp run -S` writes for them, so both can take turns on the file; but
    where a run names weights that know their geometry, settings that are not overridden follow it,
    and a benchmark that has nothing to do is told to score no run.

    Raises:
        UserError: for an unknown group, choice or key, or a value outside its bounds.
    """
    place = " ".join(["compose", *overrides])
    return finished(composed(old_names.current(overrides), place), place)


def composed(
    overrides: Sequence[str],
    place: str,
    changes: Sequence[str] = (),
    known: dict[tuple[str, ...], DictConfig] | None = None,
) -> DictConfig:
    """Return the configuration of these overrides, with its interpolations.

    `changes` come after the others. Those that choose from no group are put into what is composed
    of the rest, which `known` keeps for the next call: composing takes most of the time.
    """
    from omegaconf import OmegaConf

    _refuse_names_that_are_taken()
    with explained(place):
        values = [change for change in changes if not _chooses(change)]
        groups = [change for change in changes if change not in values]
        key = (*several.expanded(overrides), *groups)
        known = {} if known is None else known
        if key not in known:
            known[key] = _compose(key)
        config = deepcopy(known[key])
        for name, value in map(_parsed, values):
            OmegaConf.update(config, name, value, merge=True)
        missing = _missing(OmegaConf.to_container(config, resolve=False))
        if missing:
            raise UserError(
                f"no value for {', '.join(missing)}", place=place, remedy=f"add {missing[0]}=..."
            )
        follow(config, [*overrides, *changes])
    return config


def finished(config: DictConfig, place: str) -> str:
    """Resolve and check a configuration; return it as the text of `params.yaml`."""
    from omegaconf import OmegaConf

    with explained(place):
        OmegaConf.resolve(config)
    params = validate(OmegaConf.to_container(config), place=place)
    fitting_weights.check(params)
    for benchmark in BENCHMARKS.values():  # DVC takes its matrix from there
        settings, runs = benchmark.of(params), benchmark.runs(params)
        if benchmark.name in params.benchmarks:  # with what the plugin's defaults are
            asked = OmegaConf.to_container(OmegaConf.select(config, benchmark.section))
            values = benchmark.settings.model_validate(asked).model_dump(mode="json")
            OmegaConf.update(config, benchmark.section, values, force_add=True)
        if getattr(settings, "runs", runs) != runs:
            OmegaConf.update(config, f"{benchmark.section}.runs", runs)
    return OmegaConf.to_yaml(config)


@contextlib.contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise into a UserError, while open."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        message = _explain(error)
        raise UserError(
            f"the configuration cannot be composed: {message}", place=place, remedy=_remedy(message)
        ) from None


def left_out(text: str) -> str:
    """Say what this `params.yaml` names and nothing can be run on: `Params` has it no more."""
    params = parse(text, place="params.yaml")
    parts = [f"{BENCHMARKS[name].title}: {', '.join(w)}" for name, w in params.left_out.items()]
    if not parts:
        return ""
    return f"left out, since it needs {params.left_out_for}: {'; '.join(parts)}"


def without_effect(overrides: Sequence[str]) -> dict[str, str]:
    """Return the overrides that no run reads, each with a spelling that its first run reads.

    Runs take `model`, `objective` and `trainer` from the top level only where their experiment
    says so. The overrides must compose.
    """
    of_defaults = [
        number
        for number, override in enumerate(overrides)
        if re.split(r"[./@=]", override.lstrip("+~"))[0] in DEFAULTS
    ]
    if not of_defaults:
        return {}
    whole = values_of(compose(overrides))
    run = next(iter(whole["runs"]))
    idle = {}
    for number in of_defaults:
        override = overrides[number]
        try:
            rest = values_of(compose([*overrides[:number], *overrides[number + 1 :]]))
        except UserError:
            continue  # the others need it
        read = (rest.keys() | whole.keys()) - set(DEFAULTS)
        if rest != whole and all(rest.get(key) == whole.get(key) for key in read):
            key, _, value = override.partition("=")
            group = f"{key}@" if key in choices() else ""
            idle[override] = f"{group}runs.{run}.{key}={value}"
    return idle


def _chooses(override: str) -> bool:
    """Whether an override chooses from a group, or adds or deletes a key."""
    key = override.partition("=")[0]
    return key in choices() or not key[:1].isalpha() or "@" in key


def _parsed(override: str) -> tuple[str, Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_override(override)
    return parsed.key_or_group, parsed.value()


def _compose(overrides: tuple[str, ...]) -> DictConfig:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    # Hydra warns of a folder that is not there.
    nowhere = [] if OWN_CONF.is_dir() else ["hydra.searchpath=[]"]
    with initialize_config_dir(str(CONF), version_base=None):
        return hydra_compose("config", overrides=[*overrides, *nowhere])


def _refuse_names_that_are_taken() -> None:
    for group in choices(CONF):
        for file in sorted((OWN_CONF / group).glob("*.yaml")):
            if (CONF / group / file.name).is_file():
                raise UserError(
                    f"{group} has a choice {file.stem} already, which Hydra would take instead",
                    place=str(file),
                    remedy="give the file another name",
                )


def _missing(values: object, key: str = "") -> list[str]:
    """Return the keys whose value is `???`: those that the user has to give."""
    if isinstance(values, Mapping):
        return [k for name, value in values.items() for k in _missing(value, f"{key}.{name}")]
    return [key[1:]] if values == "???" else []


def _explain(error: Exception) -> str:
    """Return what Hydra says, without where it looked and how its objects are called."""
    message = str(error)
    if error.__cause__ is not None and str(error.__cause__) not in message:
        message += f"\n{error.__cause__}"
    for end in ("\nConfig search path:", "\n\nSet the environment"):
        message = message.partition(end)[0]
    lines = message.splitlines()
    idle = ("    full_key:", "    object_type=", "To append to your config", "See https:")
    kept = [line.replace("\t", "    ") for line in lines if line and not line.startswith(idle)]
    return re.sub(r"Key (\S+) is not in struct", r"there is no key \1", "\n  ".join(kept))


def _remedy(message: str) -> str:
    """Return what helps against what Hydra says: a wrong spelling, a wrong key, a wrong choice."""
    if "missing EQUAL" in message:
        return "write KEY=VALUE, such as trainer.epochs=4 or model=vit_small"
    if missing := re.search(r"there is no key '(\w+)'", message):
        near = difflib.get_close_matches(missing[1], _key_names(Section), 1)
        meant = f"did you mean {near[0]}? " if near else ""
        return f"{meant}docs/configuration.md lists every key"
    return "python -m pipeline compose --list shows every group and its choices"


def _key_names(section: type[Section]) -> set[str]:
    """Return the names of all keys of the sections that are of this kind."""
    names = set(section.model_fields)
    return names.union(*map(_key_names, section.__subclasses__()))


def choices(*roots: Path) -> dict[str, list[str]]:
    """Return the choices of every Hydra group, by group: by default the project's own, too."""
    folders = sorted(folder for folder in CONF.rglob("[!_]*") if folder.is_dir())
    groups = [folder.relative_to(CONF).as_posix() for folder in folders]
    return {
        group: sorted(
            file.stem
            for root in roots or (CONF, OWN_CONF)
            for file in (root / group).glob("*.yaml")
        )
        for group in groups
        if group not in PARTS
    }


def load(path: Path | str = "params.yaml") -> Params:
    """Read and check the configuration of the current experiment.

    Raises:
        UserError: where the file is missing, not YAML, or not what the schema allows.
    """
    return parse(read(path), place=str(path))


def read(path: Path | str) -> str:
    """Return the text of a configuration file; `UserError` where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            "there is no configuration here",
            place=str(path),
            remedy="run from the project's folder; make one: sigma-pipeline init DIR",
        ) from None


def parse(text: str, *, place: str) -> Params:
    """Check the text of a configuration file, which is called `place` in errors.

    Raises:
        UserError: where it is not YAML, or not what the schema allows.
    """
    try:
        values = values_of(text)
    except yaml.YAMLError as error:
        raise UserError(f"not valid YAML: {error}", place=place) from None
    if isinstance(values, dict):
        old_names.tell(values)
    return validate(values, place=place)


def values_of(text: str) -> Any:
    """Parse YAML; by libyaml where it is there, in an eighth of the time: every stage does it.

    Raises:
        yaml.YAMLError: the text is none.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(text, loader)  # noqa: S506 - both are safe


def validate(values: object, *, place: str) -> Params:
    """Check configuration values against the schema, and report all errors together."""
    if not isinstance(values, Mapping):
        raise UserError("the configuration is not a mapping of sections", place=place)
    plugins.load(values.get("plugins"), place=place)
    try:
        return Params.model_validate(_floats(values))
    except ValidationError as error:
        lines = []
        for item in error.errors():
            key = ".".join(str(part) for part in item["loc"])
            if item["type"] == "extra_forbidden":
                lines.append(f"{key}: unknown key")
            elif item["type"] == "missing":
                lines.append(f"{key}: missing")
            else:
                shown = f" (it is {item['input']!r})" if not isinstance(item["input"], dict) else ""
                message = item["msg"].removeprefix("Value error, ")
                lines.append(f"{key + ': ' if key else ''}{message}{shown}")
        problem = "\n  ".join([f"{len(lines)} error(s) in the configuration:", *lines])
        raise UserError(
            problem, place=place, remedy="docs/configuration.md lists every key and its bounds"
        ) from None


def _floats(value: Any) -> Any:
    """Read `1e-3` as a number: YAML 1.1, unlike Hydra, takes it for a string."""
    if isinstance(value, Mapping):
        return {key: _floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_floats(item) for item in value]
    if isinstance(value, str) and value[:1] in "+-.0123456789" and "e" in value.lower():
        try:
            return float(value)
        except ValueError:
            return value
    return value
