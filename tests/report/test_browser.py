"""The page in a real browser: it draws, answers, sorts and prints, and asks for nothing."""

from __future__ import annotations

import itertools
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from .experiments import Experiment

pytestmark = pytest.mark.system

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
INLINE = ("data:", "blob:")


@dataclass
class Seen:
    """A page, what its console said, and what it asked for."""

    page: Page
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def executable() -> str:
    """The browser of this machine; without one the test is skipped."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no chromium on PATH (Debian: apt-get install chromium)")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=executable(), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page at a place of its own: what lies beside it cannot help."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(experiment.html, encoding="utf-8")
    return path


def opened(browser: Browser, file: Path, size: dict[str, int], scheme: str = "light") -> Seen:
    """Open a page; all that it asks for but itself is recorded, and refused."""
    context = browser.new_context(
        viewport={"width": size["width"], "height": size["height"]},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    context.set_default_timeout(120_000)
    seen = Seen(context.new_page())
    seen.page.on("console", lambda message: seen.console.append(message.text))
    seen.page.on("pageerror", lambda error: seen.console.append(str(error)))
    seen.page.on("request", lambda request: seen.requests.append(request.url))
    context.route(
        lambda url: not url.startswith((*INLINE, file.as_uri())), lambda route: route.abort()
    )
    seen.page.goto(file.as_uri())
    seen.page.wait_for_selector("html[data-ready=true]")
    until(lambda: seen.page.locator(".chart:not(:has(.main-svg))").count() == 0)
    return seen


def until(holds: Callable[[], bool], seconds: float = 120) -> None:
    """Wait. Playwright's own waiting for an expression needs `eval`, which the page forbids."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def desk(browser: Browser, file: Path) -> Seen:
    return opened(browser, file, DESK)


@pytest.fixture(scope="module")
def night(browser: Browser, file: Path) -> Seen:
    return opened(browser, file, DESK, "dark")


def order(page: Page) -> list[str]:
    cells = page.locator(".scores >> nth=0").locator("tbody th")
    return [str(cell.get_attribute("data-value")) for cell in cells.all()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_it_opens_without_error_request_or_overflow(
    browser: Browser, file: Path, size: dict[str, int], scheme: str
) -> None:
    """Catches script errors, fetched fonts, charts not drawn, and a page wider than a phone."""
    seen = opened(browser, file, size, scheme)
    assert seen.console == []
    outside = [url for url in seen.requests if not url.startswith((*INLINE, file.as_uri()))]
    assert outside == []
    assert seen.page.locator(".chart.js-plotly-plot").count() >= 8
    width = "document.documentElement.scrollWidth"
    for details in seen.page.locator("details").all():
        details.evaluate("element => { element.open = true }")
    assert seen.page.evaluate(width) == size["width"]


@pytest.mark.parametrize("name", ["seed_0_" * 7, "sigma-mlp-seed-" * 7], ids=["whole", "parts"])
def test_a_long_name_stays_beside_its_dot(browser: Browser, file: Path, name: str) -> None:
    """Catches a run's name that goes on below the dot of its colour."""
    page = opened(browser, file, PHONE).page
    program = """name => [...document.querySelectorAll(".dot")].map(dot => {
        dot.nextSibling.textContent = name;
        const range = document.createRange();
        range.selectNodeContents(dot.nextSibling);
        const lines = [...range.getClientRects()];
        return Math.min(...lines.map(line => line.left)) - dot.getBoundingClientRect().right;
    })"""
    gaps = [gap for gap in page.evaluate(program, name) if math.isfinite(gap)]  # else not shown
    assert len(gaps) >= 6
    assert min(gaps) > 0


def test_an_outside_request_would_be_noticed(browser: Browser, file: Path, tmp_path: Path) -> None:
    """Catches a console that is not listened to: the test above would then prove nothing."""
    page = tmp_path / "report.html"
    picture = '<img src="http://127.0.0.1:9/x.png" alt=""></body>'
    page.write_text(file.read_text("utf-8").replace("</body>", picture), encoding="utf-8")
    assert any("Content Security Policy" in said for said in opened(browser, page, DESK).console)


def test_tables_sort_both_ways_by_keyboard(desk: Seen) -> None:
    """Catches a table that sorts as text, for the mouse alone, or without telling so."""
    page = desk.page
    assert order(page) == ["sigma_mlp", "pixel", "random"]
    button = page.locator(".scores >> nth=0").locator("thead button", has_text="top-1").nth(1)
    heading = button.locator("xpath=..")
    button.focus()
    page.keyboard.press("Enter")  # k-NN, the best first
    assert order(page) == ["pixel", "sigma_mlp", "random"]
    assert heading.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Space")
    assert order(page) == ["random", "sigma_mlp", "pixel"]
    assert heading.get_attribute("aria-sort") == "ascending"
    assert page.locator(".scores >> nth=0").locator("[aria-sort]").count() == 1
    stages = page.locator("table.stages")
    stages.locator("thead button", has_text="all together").click()
    assert stages.locator("tbody th").first.inner_text().startswith("pretrain")  # 183 s


def test_charts_answer_to_pointing(desk: Seen) -> None:
    """Catches charts that are pictures only, and values under another run's name."""
    page = desk.page
    chart = page.locator("#figure-lr .chart")
    chart.scroll_into_view_if_needed()
    box = chart.locator(".nsewdrag").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    hover = chart.locator(".hoverlayer")
    hover.get_by_text("sigma_mlp").wait_for()
    said = hover.text_content() or ""
    assert re.search(r"sigma_mlp\s*:?\s*0\.006", said), said  # the last of six steps
    assert re.search(r"pixel\s*:?\s*0\.006", said), said
    matrix = page.locator(".matrices .chart").first
    matrix.scroll_into_view_if_needed()
    box = matrix.locator(".nsewdrag").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + 4, box["y"] + 4)  # the first class, taken for itself
    matrix.locator(".hoverlayer text").first.wait_for()
    assert "2 clips, 66.7%" in (matrix.locator(".hoverlayer").text_content() or "")
    bars = page.locator("#figure-time .chart")
    bars.scroll_into_view_if_needed()
    box = bars.locator(".nsewdrag").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + 5, box["y"] + box["height"] / 2)
    bars.locator(".hoverlayer text").first.wait_for()
    assert re.search(r"pretrain: 1:01", bars.locator(".hoverlayer").text_content() or "")


def test_a_finger_can_read_and_scroll(browser: Browser, file: Path) -> None:
    """Catches charts that swallow the gesture by which a phone scrolls."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector(".chart.js-plotly-plot")
    chart = page.locator("#figure-lr .chart")
    chart.scroll_into_view_if_needed()
    chart.tap()
    chart.locator(".hoverlayer").get_by_text("sigma_mlp").wait_for()


def test_dark_mode_reaches_the_charts(desk: Seen, night: Seen) -> None:
    """Catches black lines on a black page, and a change of scheme that only a reload shows."""
    line = "#figure-lr .chart .scatterlayer path.js-line >> nth=0"
    stroke = "element => getComputedStyle(element).stroke"
    background = "getComputedStyle(document.body).backgroundColor"
    dark, light = night.page, desk.page
    assert light.evaluate(background) == "rgb(253, 252, 250)"
    assert dark.evaluate(background) == "rgb(21, 23, 26)"
    assert light.locator(line).evaluate(stroke) == "rgb(11, 102, 194)"
    assert dark.locator(line).evaluate(stroke) == "rgb(109, 179, 255)"
    dark.emulate_media(color_scheme="light")
    until(lambda: dark.locator(line).evaluate(stroke) == "rgb(11, 102, 194)")
    dark.emulate_media(color_scheme="dark")


@pytest.mark.parametrize("scheme", ["desk", "night"])
def test_text_can_be_read_on_its_ground(scheme: str, request: pytest.FixtureRequest) -> None:
    """Catches grey on grey: WCAG 2.2 asks for a contrast of 4.5."""
    page = request.getfixturevalue(scheme).page
    names = ("ink", "soft", "accent", "warn", "good")
    colours = page.evaluate(
        "names => names.map(n => getComputedStyle(document.documentElement)"
        ".getPropertyValue('--' + n).trim())",
        ["paper", *names],
    )
    paper, *others = map(luminance, colours)
    for name, other in zip(names, others, strict=True):
        contrast = (max(paper, other) + 0.05) / (min(paper, other) + 0.05)
        assert contrast >= 4.5, f"{name}: {contrast:.2f}"


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2.2)."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_a_screen_reader_finds_its_way(desk: Seen) -> None:
    """Catches regions, pictures, charts and tables that are silent, and headings out of order."""
    page = desk.page
    tree = page.locator("body").aria_snapshot()
    assert "- navigation" in tree
    assert "- main" in tree
    assert "- banner" in tree
    assert len(re.findall(r"(?m)^\s*- region \"[^\"]+\"", tree)) >= 9
    assert not re.search(r"(?m)^\s*- (img|table|link|button|region)\s*(:|$)", tree), (
        "without a name"
    )
    levels = [int(level) for level in re.findall(r"- heading .*\[level=(\d)\]", tree)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
    assert re.search(r'img "Learning rate: sigma_mlp from 0\.001 at step 1 to 0\.006', tree)


def test_the_contents_follow_the_reader(desk: Seen) -> None:
    """Catches links that lead nowhere, and contents that scroll out of sight."""
    page = desk.page
    page.locator("nav a", has_text="Neighbours").click()
    page.wait_for_selector('nav a[href="#neighbours"][aria-current]')
    assert page.locator("nav [aria-current]").count() == 1
    assert page.locator("nav a").first.is_visible()
    top = page.locator("nav").evaluate("element => element.getBoundingClientRect().top")
    assert 0 <= top < 100


def test_frames_play(desk: Seen) -> None:
    """Catches a button that does nothing, or does not say that it is pressed."""
    button = desk.page.locator("[data-play]")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert desk.page.locator(".playing img").count() > 0
    button.click()
    assert desk.page.locator(".playing img").count() == 0


def test_print_has_every_section_in_light_colours(browser: Browser, file: Path) -> None:
    """Catches a section that does not print, ink for a dark page, and paper cut off at the side."""
    seen = opened(browser, file, {"width": 680, "height": 900}, "dark")
    page = seen.page
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    for section in page.locator("section").all():
        assert section.is_visible()
    line = page.locator("#figure-lr .chart .js-line").first
    assert line.evaluate("element => getComputedStyle(element).stroke") == "rgb(11, 102, 194)"
    assert page.evaluate("document.documentElement.scrollWidth") == 680
    images = page.locator("img").evaluate_all("all => all.map(one => one.naturalWidth)")
    assert images
    assert all(images)
    assert page.pdf(format="A4").startswith(b"%PDF-")
