"""Fetching tried as a whole: some addresses, or a list through its stages."""

from __future__ import annotations

from pathlib import Path

from pipeline.configuration.layout import DataLayout
from pipeline.configuration.schema import Params
from pipeline.data.fetch import dispatch, download_stage
from pipeline.data.fetch.fetched import Fetched
from pipeline.data.fetch.request import Request
from pipeline.data.manifest import manifest_stage
from pipeline.data.records import ChunkManifest, ClipRecord
from tests.data.videos.server import SETTINGS


def fetch(folder: Path, *urls: str, **changes: object) -> list[Fetched]:
    """Fetch addresses; return what became of each."""
    got: dict[Path, Fetched] = {}
    requests = [Request(url, folder / f"{number}.mp4") for number, url in enumerate(urls)]
    settings = SETTINGS.model_copy(update={"retries": 1, **changes})
    dispatch.fetch(requests, settings, got.__setitem__)
    return [got[request.target] for request in requests]


def stage(params: Params, *lines: str) -> dict[str, ClipRecord]:
    """Run the stages on a list; return the records by id."""
    Path("list.csv").write_text("\n".join(lines) + "\n")
    manifest_stage.run(params)
    download_stage.run(params, 0)
    clips = ChunkManifest.read(DataLayout(params.data.name).downloaded(0)).clips
    return {clip.id: clip for clip in clips}
