"""Large lists are planned in seconds, and a list that grows redoes what is new."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import material
from benchmarks.scale import cost, dry_run, pipeline, prepared, write_list

from .workspace import Workspace


@pytest.mark.system
def test_planning_holds_no_clips(tmp_path: Path) -> None:
    """Would catch planning that holds all rows: 10 million clips would need more than 4 GB.

    Five times as many clips may need no more memory (but for 8 bytes each). How long it takes is
    measured in benchmarks/scale.py.
    """
    used = []
    for clips in (50_000, 250_000):
        folder = tmp_path / str(clips)
        folder.mkdir()
        write_list(folder / "list.csv", clips)
        prepared(folder, folder / "list.csv", clips // 1000)
        used.append(cost(pipeline("manifest"), folder)["mib"])
    # 128 Mi characters wait for their files at most, less than half of them here.
    assert used[1] - used[0] < 60


@pytest.mark.system
def test_a_dry_run_does_not_look_at_clips(tmp_path: Path) -> None:
    """Would catch a workflow that reads the list: 240,000 clips take as much as 1,000."""
    used = []
    for clips in (1_000, 240_000):
        folder = tmp_path / str(clips)
        folder.mkdir()
        write_list(folder / "list.csv", clips)
        prepared(folder, folder / "list.csv", 384)
        used.append(cost(dry_run(), folder)["mib"])
    assert used[1] - used[0] < 20  # the list has 25 MB
    assert used[1] < 1000


@pytest.mark.system
def test_one_percent_more_clips_redo_one_percent_of_the_work(
    fresh: Workspace, tmp_path: Path
) -> None:
    """Would catch clips that are decoded again, and shards that are written again, for a few that
    were added at the end of the list; with the real stages, by Snakemake."""
    clips, more = 200, 2
    (video,) = material.videos(None, tmp_path / "videos", sizes=("64x64",))
    lines = [f"c{n:03d},{video},{n % 37 / 4},{n % 37 / 4 + 0.75}" for n in range(clips + more)]
    listed = fresh.folder / "list.csv"
    fresh.compose(
        "data=folder", "data.manifest=list.csv", "data.decode.preset=ultrafast", "data.chunks=2"
    )

    def made(count: int) -> dict[Path, int]:
        listed.write_text("\n".join(["id,path,start,end", *lines[:count]]) + "\n")
        fresh.snakemake("data")
        files = (fresh.folder / "data" / "folder").rglob("*")
        return {path: path.stat().st_mtime_ns for path in files if path.suffix in (".mp4", ".tar")}

    before = made(clips)
    after = made(clips + more)
    new = {path for path, stamp in after.items() if before.get(path) != stamp}
    assert sum(path.suffix == ".mp4" for path in new) == more
    shards = sum(path.stat().st_size for path in after if path.suffix == ".tar")
    written = sum(path.stat().st_size for path in new if path.suffix == ".tar")
    # In chunks of 100 a tail of up to nine clips, and now and then one of the ten below.
    assert 0 < written < 0.1 * shards, sorted(path.name for path in new)
    done = fresh.run(sys.executable, "-m", "pipeline", "shards", "verify", "data/folder/shards")
    assert f"{clips + more}" in done.stdout
