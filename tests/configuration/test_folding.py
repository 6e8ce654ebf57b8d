"""Names that some file systems take for one are refused on all, this one too, which folds none."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.__main__ import main
from pipeline.configuration import composition, folding
from pipeline.errors import UserError

LETTERS = st.text("aAbBéÉİıſßẞσςΣKÅöÖ_-.1", max_size=5)


class Folding:
    """A folder of a file system that folds names by case and composition: the oracle."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def write(self, name: str) -> str:
        """Write a file; return the name that it has: that of an earlier one, where it is that."""
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        return self.files.setdefault(key, name)


@given(st.lists(LETTERS, max_size=8))
def test_names_that_are_let_through_are_different_files(names: list[str]) -> None:
    """Catches names that such a file system would write into one file, and none besides."""
    folder = Folding()
    overwritten = any(folder.write(name) != name for name in names)
    assert (folding.alike(names) is not None) == overwritten


@given(LETTERS, st.sampled_from(["NFC", "NFD"]))
def test_composition_and_capitals_change_nothing(name: str, form: str) -> None:
    """Catches a letter with an accent that is two names, as macOS and Linux write it."""
    other = unicodedata.normalize(form, name)  # type: ignore[arg-type]
    assert folding.folded(other) == folding.folded(name)
    assert folding.folded(name.casefold()) == folding.folded(name)


def test_runs_and_data_sets_are_told_apart() -> None:
    """Catches two runs, or two data sets, that would write into one folder."""
    values = yaml.safe_load(composition.compose(["experiment=one"]))
    values["runs"]["Encoder"] = values["runs"]["encoder"]
    with pytest.raises(UserError, match="runs: encoder and Encoder differ in capitals alone"):
        composition.validate(values, place="params.yaml")
    key = "evaluation_data.Synthetic"
    with pytest.raises(UserError, match="synthetic and Synthetic differ in capitals alone"):
        composition.compose(["experiment=one", f"+data@{key}=synthetic", f"{key}.name=Synthetic"])


@pytest.mark.parametrize(
    ("folder", "override"), [("results/Demo", "name=demo"), ("data/Synthetic", "data=synthetic")]
)
def test_what_is_there_is_not_shared(
    folder: str,
    override: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Catches an experiment, or a data set, that goes into the folder of another one."""
    monkeypatch.chdir(tmp_path)
    Path(folder).mkdir(parents=True)
    assert main(["compose", "experiment=demo", override]) == 2
    assert f"{folder} is there already" in capsys.readouterr().err
    assert not Path("params.yaml").exists()
    assert main(["sweep", "experiment=demo", "name=demo", "trainer.seed=0,1"]) == 2
    Path(folder).rename(folder.lower())
    assert main(["compose", "experiment=demo", override]) == 0
