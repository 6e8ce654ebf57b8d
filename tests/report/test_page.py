"""The page as a file: self-contained, well-formed, readable by a screen reader, and escaped."""

from __future__ import annotations

import itertools
import json
import re

from pipeline.report.formats import script_json
from pipeline.report.page import plotly_script

from .experiments import CLASSES, HOSTILE, REASON, SKIPPED, TOP1, Experiment, Page

ADDRESSES = ("src", "href", "srcset", "action", "poster", "data", "formaction", "background")


def test_nothing_comes_from_outside(page: Page, experiment: Experiment) -> None:
    """Catches a font, script, style or picture that the page would fetch, wherever it is named."""
    found = [
        element.attributes[name]
        for element in page.elements
        for name in ADDRESSES
        if name in element.attributes
    ]
    assert len(found) > 50  # pictures and links to sections
    assert [address for address in found if not address.startswith(("data:", "#"))] == []
    styles = "".join(element.text for element in page.all("style"))
    styles += "".join(element.attributes.get("style", "") for element in page.elements)
    assert "url(" not in styles
    assert "@import" not in styles
    assert [
        e for e in page.all("link", "iframe", "object") if e.attributes["href"] != "data:,"
    ] == []
    assert "refresh" not in {e.attributes.get("http-equiv") for e in page.all("meta")}
    own = experiment.html.replace(str(plotly_script()), "")
    own = re.sub(r"<pre.*?</pre>", "", own, flags=re.S)  # the settings, which name addresses
    assert re.findall(r"(?:https?:)?//[a-z0-9-]+\.[a-z]+", own) == []


def test_the_browser_is_told_to_fetch_nothing(page: Page) -> None:
    """Catches a lost policy: then a mistake in plotly.js could still reach the network."""
    policies = [
        element.attributes["content"]
        for element in page.all("meta")
        if element.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none';")
    assert not re.search(r"https?:|\*|'self'", policies[0])


def test_it_is_small_enough_to_send(experiment: Experiment) -> None:
    """Catches pictures or plotly.js that are embedded twice."""
    assert len(experiment.html.encode()) < 15 * 10**6
    assert experiment.html.count(str(plotly_script())[:200]) == 1


def test_structure_serves_screen_readers(page: Page) -> None:
    """Catches a picture without words, a heading level left out, a table without headings."""
    assert page.elements[0].attributes["lang"] == "en"
    images = page.all("img")
    assert images
    assert all(image.attributes.get("alt") for image in images)
    levels = [int(element.tag[1]) for element in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
    assert all("scope" in heading.attributes for heading in page.all("th"))
    charts = [e for e in page.all("div") if e.attributes.get("class") == "chart"]
    assert charts
    assert all(chart.attributes["aria-label"] for chart in charts)
    ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    targets = {e.attributes["href"][1:] for e in page.all("a") if "#" in e.attributes["href"]}
    assert targets <= set(ids)


def test_sections_come_in_the_promised_order(page: Page) -> None:
    """Catches a section that is lost or moved."""
    names = [element.attributes["id"] for element in page.all("section")]
    first = ["runs", "training-cost", "census", "curves", "prototypes", "masks", "neighbours"]
    assert names == [*first, "classes", "time", "provenance"]
    contents = [e.attributes["href"] for e in page.all("a") if e.attributes["href"] != "#content"]
    assert contents == [f"#{name}" for name in names]


def test_text_from_files_stays_text(page: Page, experiment: Experiment) -> None:
    """Catches an id, reason or class name that becomes markup, runs, or ends a script."""
    assert [e for e in page.all("img") if e.attributes["src"] == "x"] == []
    handlers = [n for e in page.elements for n in e.attributes if n.startswith("on")]
    assert handlers == []
    assert page.all("b", "i") == []
    body = page.all("body")[0].text
    for said in (HOSTILE, REASON, SKIPPED, CLASSES[0]):
        assert said in body
    assert HOSTILE not in experiment.html


def test_json_in_scripts_is_safe_and_unchanged() -> None:
    """Catches a class name that ends the script element, and an escape that changes the value."""
    value = {"name": "</script><!-- \u2028 & >", "n": [1, None]}
    text = script_json(json.dumps(value, ensure_ascii=False))
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value


def test_scores_are_those_of_the_files(page: Page) -> None:
    """Catches a score under another run's name, or in another column."""
    table = next(e for e in page.all("table") if "scores" in e.attributes["class"])
    words = table.text.split()
    for run, (linear, knn) in TOP1.items():
        here = words[words.index(run) :]
        numbers = [float(word) for word in here if re.fullmatch(r"\d+\.\d", word)]
        assert numbers[:4] == [100 * linear, 87.5, 100 * knn, 87.5]
        assert " ".join(here).split("of 85")[0].endswith("80 ")  # the others have no label


def test_skipped_probes_and_lost_clips_are_told_with_reasons(page: Page) -> None:
    """Catches a report that shows a score and hides what it left out."""
    notes = [e.text for e in page.all("li")]
    notes = [note for note in notes if "Skipped" in note]
    of_probes = [note for note in notes if "Skipped: weather" in note and SKIPPED in note]
    assert len(of_probes) == 2  # one a probe; all runs in one
    benchmarks = [note for note in notes if "it has not run yet" in note]
    assert [("SEVERE" in note, "all runs" in note) for note in benchmarks] == [
        (False, True),
        (True, True),
    ]
    assert len(notes) == 4
    census = next(e for e in page.all("section") if e.attributes["id"] == "census").text
    assert "13 of 15 ok, 2 lost: corrupt 1, missing 1" in census
    assert "no such file" in census


def test_what_was_done_is_said_first(page: Page) -> None:
    """Catches a paragraph that names the wrong winner, or forgets the baseline, the commonest
    class or the interval."""
    lede = next(e for e in page.all("p") if e.attributes.get("class") == "lede").text
    assert lede.startswith("Two video encoders (1 block of width 32 on tubes of 2×8×8) were")
    assert "2 epochs on 4 clips" in lede
    assert "sigma_mlp does best by the linear probe: 75.0% right; untrained 25.0%" in lede
    assert "commonest class 25.0%, chance 16.7%" in lede
    assert "The 95 % interval of 80 clips is 64.5 to 83.2 %." in lede
    assert "Each difference is shown (exact McNemar test, p < 0.001)." in lede


def test_every_split_says_what_it_is_for(page: Page) -> None:
    """Catches a census that leaves open what val and test clips are used for."""
    census = next(e for e in page.all("section") if e.attributes["id"] == "census").text
    for said in ("train4pretraining, what probes learn", "val6choosing probes", "test3scores"):
        assert said in census


def test_scores_on_val_are_there_and_are_told_apart(page: Page) -> None:
    """Catches scores that stand in JSON alone, and scores on val that pass for the result."""
    captions = [e.text for e in page.all("caption") if "% of clips right" in e.text]
    assert len(captions) == 1
    assert "split test" in captions[0]
    (val,) = [e.text for e in page.all("caption") if "split val" in e.text]
    assert "on which probes chose their settings" in val


def test_mixtures_say_how_often_clips_came(page: Page) -> None:
    """Catches a run's mixture that is not told, and one that other runs are given."""
    rows = [row.text for row in page.all("tr")]
    assert [text for text in rows if text.startswith("sigma_mlpfrom")] == [
        "sigma_mlpfrom<b>few</b>475.07.5",  # 4 clips, three quarters of 40 samples
        "sigma_mlpfrommany1625.00.6",
    ]
