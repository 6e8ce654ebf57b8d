"""The site of docs/: it builds, and shows and finds its pages without anything from elsewhere."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.system
LOADED = re.compile(r"<(?:script|link|img)[^>]*? (?:src|href)=\"?(https?://[^\" >]+)")


@pytest.fixture(scope="module")
def site(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site. Building fails at a broken link and at a page in no menu."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=project,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    """Catches a font, a script or a picture that needs a network."""
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    loaded = {(page.name, url) for page in pages for url in LOADED.findall(page.read_text())}
    assert {(name, url) for name, url in loaded if "canonical" not in url} == set()


def test_pages_are_called_by_their_titles(site: Path) -> None:
    """Catches a link that shows the name of a file, and tables whose first row is empty."""
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    home = pages[site / "index.html"]
    assert ">Getting started</a>" in home
    assert {p.name for p, text in pages.items() if re.search(r">[\w-]+\.md</a>", text)} == set()
    assert "<th></th>\n<th></th>" not in home


def test_commands_and_the_interface_are_there(site: Path) -> None:
    """Catches a page of commands without one, and docstrings that are not found."""
    commands = (site / "commands" / "index.html").read_text(encoding="utf-8")
    for name in ("init", "embed", "pretrain", "report"):
        assert f'<h2 id="{name}"' in commands
    interface = (site / "python" / "index.html").read_text(encoding="utf-8")
    assert "pipeline.weights.video_model.VideoModel.embed" in interface


def test_the_search_index_has_the_words_of_pages(site: Path) -> None:
    """Catches a site without its index, or a page that the search passes over."""
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {each["location"] for each in index["docs"] if "epsilon" in each["text"]}
    assert any(location.startswith("configuration/") for location in found)
    assert any(location.startswith("method/") for location in found)


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """The site on a server of this machine's: its search is not for files."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_browser_shows_and_finds(address: str, tmp_path: Path) -> None:
    """Catches a page that asks for what lies elsewhere, and a search that finds nothing."""
    from playwright.sync_api import sync_playwright

    from ..report.test_browser import executable

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        assert page.locator("img[src$='chain.svg']").evaluate("image => image.naturalWidth") > 0
        page.goto(f"{address}tutorials/own-videos/")
        assert "ten minutes" in (page.locator("h1").text_content() or "")
        page.get_by_label("Search").first.fill("epsilon")
        page.locator(".md-search-result__item").first.wait_for(state="attached")
        titles = page.locator(".md-search-result__item").all_text_contents()
        browser.close()
    assert any("epsilon" in title.lower() for title in titles)
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
