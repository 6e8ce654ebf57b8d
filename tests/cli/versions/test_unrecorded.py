"""Which results Snakemake would believe without a record of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from snakemake.persistence.file import FilePersistence

from pipeline.cli.versions.unrecorded import refusal, unrecorded


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recorded_by_snakemake(kind: str, output: Path) -> Path:
    """Write a record where Snakemake itself would. Oracle of the names."""
    memory = FilePersistence(nolock=True, path=Path(".snakemake").absolute())
    folder = memory._metadata_path if kind == "metadata" else memory._incomplete_path
    memory._io_write(folder, {"rule": "x"}, str(output))
    return output


@pytest.mark.parametrize("kind", ["metadata", "incomplete"])
@pytest.mark.parametrize("length", [20, 189, 190, 191, 192, 500])
def test_records_are_found_where_snakemake_keeps_them(here: Path, kind: str, length: int) -> None:
    """Catches a long path whose record is not found: every run would be refused."""
    parts = ["data", *["x" * 60] * (length // 61), "y" * (length % 61 + 1)]
    output = Path(*parts)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.touch()
    assert unrecorded([output]) == [output]
    recorded_by_snakemake(kind, output)
    assert unrecorded([output]) == []


def test_only_what_is_there_counts(here: Path) -> None:
    """Catches a clean folder, or a partial result, that is refused."""
    there, gone, known = Path("there.json"), Path("gone.json"), Path("known.json")
    there.touch()
    known.touch()
    recorded_by_snakemake("metadata", known)
    assert unrecorded([there, gone, known]) == [there]
    assert unrecorded([gone, known]) == []


def test_the_message_names_the_way_out() -> None:
    """Catches a stop that leaves the user without a next command."""
    said = str(refusal([Path(f"{n}.json") for n in range(5)]))
    assert "5 results" in said
    assert "versions bless" in said
    assert "--forceall" in said
    assert "1 result is" in str(refusal([Path("a.json")]))
