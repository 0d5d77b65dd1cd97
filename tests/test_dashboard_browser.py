"""What a person sees: the dashboard in a real Chromium, in light, dark and on a narrow screen.

Screenshots of all pages are kept in ``build/screenshots``. Nothing may be asked of another host, and nothing
may be said on the console.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from tests.dashboard_server import ROOT, chromium, served, settled

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

REFERENCE = ROOT / "results" / "reference"
PAGES = (
    *("overview", "questions", "claims", "leaderboard", "significance", "tradeoff", "criteria", "subspace"),
    *("calibration", "uncertainty", "cost", "runs", "definitions"),
)
KEPT = ROOT / "build" / "screenshots"
WIDE, NARROW = {"width": 1280, "height": 1000}, {"width": 390, "height": 844}
_FOCUSED = "() => document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"
#: The address of a page is first taken for that of a server below it, which it is not.
_PROBE = re.compile(r"/_stcore/(health|host-config)$")


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def address():
    with served(REFERENCE) as found:
        yield found


@pytest.fixture
def visit(browser, address):
    """Open a page of the dashboard; at the end nothing may have gone wrong in the browser."""
    contexts, faults = [], []

    def noted(response):
        if response.status >= 400 and not _PROBE.search(response.url):
            faults.append(f"{response.status} {response.url}")

    def visit(path="", scheme="light", size=WIDE, at=None):
        context = browser.new_context(viewport=size, color_scheme=scheme, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: _is_said(message) and faults.append(message.text))
        page.on("response", noted)
        page.on("request", lambda request: _is_outside(request.url) and faults.append(request.url))
        page.goto(f"{at or address}/{path}")
        settled(page)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not faults


def _is_said(message):
    # what the browser says of a probe has no address of its own, and ``noted`` sees all others
    return message.type == "error" and "404" not in message.text


def _is_outside(url):
    return not url.startswith(("data:", "blob:")) and not re.match(r"(http|ws)://localhost[:/]", url)


def whole(page, path):
    """A screenshot of the whole page."""
    size = page.viewport_size
    height = page.evaluate("() => document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": size["width"], "height": min(max(height + 20, size["height"]), 8000)})
    page.wait_for_timeout(700)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path)
    page.set_viewport_size(size)


def titles(page):
    return [element.inner_text() for element in page.locator("h1, h3").all()]


def suite(name):
    return f"suite={quote_plus(name)}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_every_page_in_light_and_dark(visit, name, scheme):
    page = visit(f"{'' if name == 'overview' else name}?{suite('criteria_ablation · demo')}", scheme)
    assert page.locator("h1").count() == 1
    assert page.locator("[data-testid=stException]").count() == 0
    whole(page, KEPT / f"{name}-{scheme}.png")
    background = page.evaluate("() => getComputedStyle(document.querySelector('.stApp')).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) > 382) == (scheme == "light")
    for chart in page.locator("[data-testid=stPlotlyChart]").all():
        marks = chart.locator(".scatterlayer path, .heatmaplayer image, .barlayer path, .scatterlayer .point")
        assert marks.count() > 0, "a chart is blank"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_every_page_has_the_contrast_of_wcag_aa(visit, address, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page, axe, faint = visit(f"definitions?{suite('criteria_ablation · demo')}", scheme), Axe(), []
    for name in PAGES:
        page.goto(f"{address}/{name}?{suite('criteria_ablation · demo')}")
        settled(page)
        found = axe.run(page, options={"runOnly": ["color-contrast"]}).response
        assert found["passes"], "nothing was looked at"
        faint += [
            f"{name}: {node['html'][:200]} {node['any'][0]['data']['contrastRatio']}"
            for violation in found["violations"]
            for node in violation["nodes"]
        ]
    assert faint == []


@pytest.mark.parametrize("name", PAGES)
def test_every_page_on_a_narrow_screen(visit, name):
    page = visit(f"{'' if name == 'overview' else name}?{suite('baselines · demo')}", size=NARROW)
    whole(page, KEPT / f"{name}-narrow.png")
    overflow = page.evaluate("() => document.querySelector('[data-testid=stMain]').scrollWidth")
    assert overflow <= NARROW["width"], "the page is wider than the screen"
    for box in (chart.bounding_box() for chart in page.locator("[data-testid=stPlotlyChart]").all()):
        assert box is not None and box["width"] <= NARROW["width"]


def test_a_filter_redraws_and_lives_in_the_address_and_on_other_pages(visit):
    page = visit(f"tradeoff?{suite('baselines · demo')}")
    marks = ".scatterlayer .trace .point"
    before = page.locator(marks).count()
    page.get_by_role("combobox", name="Methods").click()
    page.get_by_role("option", name="RigL").click()
    page.keyboard.press("Escape")
    page.wait_for_function(f"n => document.querySelectorAll('{marks}').length < n", arg=before)
    settled(page)
    assert "method=RigL" in page.url
    page.get_by_role("link", name="Leaderboard").click()
    page.get_by_role("heading", name="Leaderboard").wait_for()
    settled(page)
    assert "method=RigL" in page.url and "RigL" in page.locator("[data-testid=stMain]").inner_text()


def test_an_address_opens_the_view_that_it_names(visit):
    page = visit(f"leaderboard?{suite('sparsity_sweep · demo')}&method=SSVI&score=NLL")
    assert "Which method has the best NLL?" in titles(page)
    assert "sparsity_sweep · demo · digits · mlp · SSVI" in page.locator("[data-testid=stMain]").inner_text()


def test_from_the_leaderboard_to_the_runs_behind_a_row(visit):
    page = visit(f"leaderboard?{suite('baselines · demo')}")
    table = page.locator("[data-testid=stDataFrame]").first
    box = table.bounding_box()
    for _ in range(2):  # a row can be chosen again once its configuration is closed
        page.mouse.click(box["x"] + 18, box["y"] + 35 + 18)
        page.get_by_role("dialog").get_by_text("runs done").wait_for()
        settled(page)
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="hidden")
        settled(page)
        assert "configuration=" not in page.url
    page.go_back()
    page.get_by_role("dialog").get_by_role("link", name="seed 0", exact=True).click()
    page.get_by_role("heading", name="Runs", exact=True).wait_for()
    settled(page)
    run_id = re.search(r"run=([0-9a-f]{12})", page.url)
    assert run_id is not None and run_id[1] in page.locator("[data-testid=stMain]").inner_text()


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("path", ["tradeoff", "overview", "calibration", "significance", "cost"])
def test_a_mark_that_is_clicked_opens_its_configuration(visit, path, size):
    page = visit(f"{path}?{suite('baselines · demo')}", size=size)
    known = page.evaluate(
        """() => {
            const traces = [...document.querySelectorAll('.scatterlayer .trace:has(.point)')]
                .map(drawn => [drawn, drawn.__data__[0].trace])
                .filter(([_, trace]) => trace.meta && trace.hoverinfo !== 'skip');
            traces[0][0].querySelector('.point').setAttribute('data-clicked', '');
            return traces.flatMap(([_, trace]) => trace.meta.config_id); }"""
    )
    mark = page.locator("[data-clicked]")
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.get_by_role("dialog").get_by_text("This command computes it").wait_for()
    settled(page)
    page.screenshot(path=KEPT / f"configuration-{path}-{'wide' if size is WIDE else 'narrow'}.png")
    assert re.search("configuration=(.*)", page.url)[1] in known
    box = page.get_by_role("dialog").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= size["width"]
    page.keyboard.press("Escape")
    page.wait_for_function("() => !location.search.includes('configuration=')")
    assert page.get_by_role("dialog").count() == 0


def test_the_method_of_the_mark_below_the_pointer_stands_out_in_all_charts(visit):
    page = visit(f"uncertainty?{suite('baselines · demo')}")
    faded = """() => [...document.querySelectorAll('.js-plotly-plot')].map(chart =>
        [...chart.querySelectorAll('.scatterlayer .trace, .scatterlayer .point')]
            .filter(mark => mark.style.opacity === '0.15').length)"""
    assert len(page.evaluate(faded)) > 2 and not any(page.evaluate(faded))
    mark = page.locator(".scatterlayer .point").first
    mark.scroll_into_view_if_needed()
    mark.hover(force=True)
    page.wait_for_function(f"() => ({faded})().every(number => number > 0)")
    page.mouse.move(5, 5)
    page.wait_for_function(f"() => !({faded})().some(number => number > 0)")


def test_a_run_opens_beside_the_table_and_stays_chosen(visit):
    page = visit(f"runs?{suite('baselines · demo')}", size={"width": 1400, "height": 1000})
    box = page.locator("[data-testid=stDataFrame]").first.bounding_box()
    page.mouse.click(box["x"] + 18, box["y"] + 35 + 18)
    heading = page.get_by_role("heading", name=re.compile(", seed 0$"))
    heading.wait_for()
    settled(page)
    table, told = page.locator("[data-testid=stDataFrame]").first.bounding_box(), heading.bounding_box()
    assert told["x"] > table["x"] + table["width"] and abs(told["y"] - table["y"]) < 40
    first = re.search(r"run=([0-9a-f]{12})$", page.url)[1]
    page.mouse.click(table["x"] + 18, table["y"] + 35 + 35 + 18)
    page.get_by_role("heading", name="In what do they differ?").wait_for()
    settled(page)
    assert re.search(rf"run={first}\+[0-9a-f]{{12}}$", page.url)


def test_data_and_tables_can_be_taken_home(visit):
    page = visit(f"leaderboard?{suite('baselines · demo')}")
    page.get_by_text("For your paper").click()
    page.get_by_role("button", name="LaTeX").wait_for()
    with page.expect_download() as csv:
        page.locator("[data-testid=stDownloadButton] button", has_text="CSV").first.click()
    lines = Path(csv.value.path()).read_text().splitlines()
    assert lines[0].startswith("config_id,config_label,method,") and len(lines) > 30
    with page.expect_download() as tex:
        page.locator("[data-testid=stDownloadButton] button", has_text="LaTeX").click()
    assert r"\begin{tabularx}" in Path(tex.value.path()).read_text()


def test_a_figure_for_a_paper_is_light_on_a_dark_screen(visit):
    page = visit(f"tradeoff?{suite('baselines · demo')}&method=RigL", "dark")
    page.get_by_text("For your paper").first.click()
    picture = page.get_by_text("n = 5 to 10 seeds.", exact=False).last
    picture.wait_for()
    settled(page)
    link = page.locator("[data-testid=stCode]", has_text="http://").first.inner_text()
    assert "/tradeoff?suite=baselines" in link and "method=RigL" in link
    said = page.locator("[data-testid=stCode]", has_text="bench.grid").first.inner_text()
    assert "--where method=rigl" in said and "--seeds 0-9" in said
    svg = page.get_by_role("button", name="SVG")
    with page.expect_download() as found:
        # without a converter on this machine the camera on the picture saves it
        (svg if svg.count() else page.locator(".modebar-btn[data-title*=Download]").last).click()
    text = Path(found.value.path()).read_text()
    assert 'width="528"' in text
    assert "rgb(31, 35, 40)" in text and "rgb(230, 230, 230)" not in text  # ink of light and of dark


def test_every_chart_says_how_it_was_computed(visit):
    page = visit(f"tradeoff?{suite('baselines · demo')}")
    page.get_by_text("Data, and how it was computed").first.click()
    page.get_by_text("95 % t-interval").first.wait_for()
    settled(page)
    with page.expect_download() as csv:
        page.locator("[data-testid=stDownloadButton] button", has_text="CSV").first.click()
    assert "accuracy_mean" in Path(csv.value.path()).read_text().splitlines()[0]


def test_the_keyboard_reaches_filters_and_pages(visit):
    page = visit(f"tradeoff?{suite('baselines · demo')}")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(_FOCUSED))
    words = " ".join(str(word) for word in reached)
    assert "Leaderboard" in words and "Suite" in words and "Score" in words


SUITE = """
question: Does a grid show while it runs?
scales:
  demo:
    seeds: 0-3
    base: {dataset: digits, network: mlp, epochs: 120, batch_size: 64, samples: 1, lr: 0.003}
    grids:
      - {recipe: default, method: ssvi, sparsity: 0.9}
"""


def test_a_grid_in_the_background_appears_and_progresses(visit, tmp_path):
    (path := tmp_path / "seen.yaml").write_text(SUITE)
    results = tmp_path / "results"
    command = [
        sys.executable,
        "-m",
        "bench.grid",
        "--suite",
        str(path),
        "--results",
        str(results),
        "--workers",
        "1",
    ]
    with (
        served(results) as address,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT) as grid,
    ):
        try:
            deadline = time.monotonic() + 60
            while not (results / "seen" / "plan-demo.json").exists():
                assert time.monotonic() < deadline
                time.sleep(0.2)
            page = visit("runs", at=address)
            main = page.locator("[data-testid=stMain]")
            main.get_by_text(re.compile(r"[0-3] of 4 runs settled")).wait_for(timeout=30_000)
            # the tables that the grid makes in the end are shown without a click
            main.get_by_text(re.compile(r"^4 runs done")).wait_for(timeout=120_000)
            assert grid.wait(60) == 0
            page.close()
        finally:
            grid.kill()


def test_results_are_no_markup(visit, tmp_path):
    import shutil

    results = Path(shutil.copytree(REFERENCE, tmp_path / "results"))
    hostile = "<img src=x onerror=document.title='owned'> **b** http://127.0.0.1:9/x www.e-vil.org"
    for path in results.glob("*/plan-*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "question": hostile}))
    with served(results) as address:
        page = visit(at=address)
        main = page.locator("[data-testid=stMarkdown]", has_text="<img src=x")
        assert main.count() == 1 and page.title() != "owned"
        assert main.locator("img").count() == 0 and main.locator("a").count() == 0
        page.close()
