"""The page in a real browser: it draws, it sorts, it asks for nothing, in light and in dark."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .experiments import Experiment

CLICKS = """
<script>
  const heading = [...document.querySelectorAll('.scores th button')]
    .filter((button) => button.textContent.startsWith('top-1'))[1];
  const runs = () => [...document.querySelectorAll('.scores tbody th')]
    .map((cell) => cell.dataset.value).join();
  const said = {before: runs()};
  heading.click();
  said.once = runs() + ' ' + heading.closest('th').getAttribute('aria-sort');
  heading.click();
  said.twice = runs() + ' ' + heading.closest('th').getAttribute('aria-sort');
  document.querySelector('[data-play]').click();
  said.playing = document.querySelectorAll('.playing img').length;
  said.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const line = document.querySelector('#figure-lr .chart .scatterlayer path.js-line');
  said.line = getComputedStyle(line).stroke;
  const chart = document.querySelector('#figure-lr .chart');
  Plotly.Fx.hover(chart, [{curveNumber: 0, pointNumber: 5}]);
  setTimeout(() => {
    said.hover = chart.querySelector('.hoverlayer').textContent;
    document.body.dataset.said = JSON.stringify(said);
  }, 500);
</script>
</body>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no chromium on PATH (Debian: apt-get install chromium)")


def browse(chromium: str, page: Path, *options: str) -> tuple[str, str]:
    """Return the page's DOM after its scripts ran, and what the browser's console said."""
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += ["--disable-background-networking", "--disable-dev-shm-usage"]
    command += [f"--user-data-dir={page.parent / 'profile'}", "--virtual-time-budget=10000"]
    command += [*options, "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, "\n".join(console)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "stroke"),
    [
        (("--window-size=1200,900",), "rgb(11, 102, 194)"),
        (
            ("--window-size=500,900", "--blink-settings=preferredColorScheme=0"),
            "rgb(109, 179, 255)",
        ),
    ],
    ids=["light and wide", "dark and narrow"],
)
def test_the_page_works(
    chromium: str, experiment: Experiment, tmp_path: Path, options: tuple[str, ...], stroke: str
) -> None:
    """Catches script errors, blocked requests, charts not drawn, tables that do not sort."""
    page = tmp_path / "report.html"
    page.write_text(experiment.html.replace("</body>", CLICKS), encoding="utf-8")
    dom, console = browse(chromium, page, *options)
    assert console == ""
    assert 'data-ready="true"' in dom
    charts = dom.count('class="chart js-plotly-plot"')
    assert charts == dom.count('role="img"')
    assert charts >= 8
    match = re.search(r'data-said="([^"]*)"', dom)
    assert match
    said = match.group(1).replace("&quot;", '"')
    assert '"before":"sigma_mlp,pixel,random"' in said
    assert '"once":"pixel,sigma_mlp,random descending"' in said  # k-NN, the best first
    assert '"twice":"random,sigma_mlp,pixel ascending"' in said
    assert not said.count('"playing":0')
    assert '"wide":0' in said  # nothing reaches beyond the window
    assert f'"line":"{stroke}"' in said
    assert "sigma_mlp0.006" in said  # the value under the pointer


@pytest.mark.slow
def test_an_outside_request_would_be_noticed(
    chromium: str, experiment: Experiment, tmp_path: Path
) -> None:
    """Catches a console that is not listened to: the test above would then prove nothing."""
    page = tmp_path / "report.html"
    picture = '<img src="http://127.0.0.1:9/x.png"></body>'
    page.write_text(experiment.html.replace("</body>", picture), encoding="utf-8")
    _, console = browse(chromium, page)
    assert "Content Security Policy" in console
