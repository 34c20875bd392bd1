"""The board in a real Chromium; `make test-browser`."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from urllib.parse import urlsplit

import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.support.board_data import FAILED, FINDING, HOSTILE, SESSION
from tests.support.common import REPOSITORY, eventually

pytestmark = pytest.mark.browser

IMAGES = REPOSITORY / "docs" / "img"
PAGES = {
    "overview": "/?from=6h",
    "incident": f"/incident/{FINDING}?from=6h",
    "incidents": "/incidents",
    "conversations": "/interactions?from=6h&outcome=0",
    "conversation": f"/session/{SESSION}",
    "waterfall": f"/interaction/{FAILED}",
    "clusters": "/clusters",
    "senders": "/senders",
    "pipeline": "/board/driftline-pipeline?from=6h",
}


def open_page(page, served, path, width=1280, height=900):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )
    page.get(served + path)
    settled(page)


def settled(page):
    """Wait until nothing loads any more."""
    eventually(
        lambda: page.execute_script(
            "return document.getElementById('status').textContent === ''"
            " && document.querySelector('h1').textContent !== 'driftline'"
            " && ![...document.querySelectorAll('.panel .body > p')]"
            ".some(p => p.textContent === '...')"
        ),
        60,
    )


def errors(page):
    return [line for line in page.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]


@pytest.mark.parametrize("width", [390, 1280, 1600])
@pytest.mark.parametrize("name", PAGES)
def test_pages_fit_and_say_no_error(page, served, name, width):
    open_page(page, served, PAGES[name], width)
    wide = page.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width
    assert errors(page) == []
    assert page.find_elements(By.CSS_SELECTOR, ".error-box") == []


SHOTS = {
    "overview": "/?from=6h&var-agent=support&var-agent=booking",
    "incident": f"/incident/{FINDING}?from=6h",
    "conversation": "/interaction/i-1",
}


@pytest.mark.parametrize("name", SHOTS)
def test_pictures_for_the_readme(page, served, name):
    open_page(page, served, SHOTS[name], height=1000)
    for summary in page.find_elements(By.CSS_SELECTOR, ".waterfall summary")[3:4]:
        summary.click()
    page.execute_script("document.activeElement.blur()")
    shot = page.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    assert len(shot["data"]) > 20_000
    IMAGES.mkdir(exist_ok=True)
    picture = Image.open(BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    file = IMAGES / f"board-{name}.png"
    picture.quantize(96, dither=Image.Dither.NONE).save(file, optimize=True)
    assert file.stat().st_size < 100_000


def test_axe_finds_a_planted_fault(page, served, axe):
    open_page(page, served, "/incidents")
    page.execute_script(
        "const b = document.createElement('button'); b.style.color = '#eee';"
        "b.style.background = '#fff'; b.textContent = 'pale';"
        "document.querySelector('main').append(b)"
    )
    assert [v[0] for v in violations(page, axe)] == ["color-contrast"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_contrast_and_labels(page, served, axe, name, theme):
    feature = {"name": "prefers-color-scheme", "value": theme}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    open_page(page, served, PAGES[name])
    for summary in page.find_elements(By.CSS_SELECTOR, "main details:not(.about) > summary")[:6]:
        page.execute_script("arguments[0].parentElement.open = true", summary)
    assert violations(page, axe) == []


def violations(page, axe):
    page.execute_script(axe)
    found = page.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice']})"
        ".then(r => done(JSON.stringify(r.violations.map("
        "v => [v.id, v.nodes.slice(0, 3).map(n => n.html + ' ' + n.failureSummary)]))))"
    )
    return json.loads(found)


def test_from_a_failing_rate_to_the_conversation(page, served):
    open_page(page, served, "/?from=6h")
    row = next(
        r for r in page.find_elements(By.CSS_SELECTOR, "[data-panel='10'] tbody tr")
        if "v15" in r.text
    )  # fmt: skip
    rate = next(a for a in row.find_elements(By.TAG_NAME, "a") if "%" in a.text)
    page.execute_script("arguments[0].click()", rate)
    settled(page)
    assert urlsplit(page.current_url).path == "/interactions"
    rows = page.find_elements(By.CSS_SELECTOR, "tbody tr")
    assert rows
    assert all("failed" in r.text and "support v15" in r.text for r in rows)
    page.execute_script("arguments[0].click()", rows[0].find_element(By.TAG_NAME, "a"))
    settled(page)
    assert urlsplit(page.current_url).path == f"/interaction/{FAILED}"
    assert "search_articles (failed)" in page.find_element(By.CLASS_NAME, "waterfall").text
    page.back()
    settled(page)
    assert urlsplit(page.current_url).path == "/interactions"


def press(page, key):
    page.switch_to.active_element.send_keys(key)


def tab_to(page, wanted, most=400):
    """Press Tab until what has the focus fits; returns how often."""
    for count in range(most):
        press(page, Keys.TAB)
        if page.execute_script(f"const e = document.activeElement; return ({wanted})"):
            return count
    raise AssertionError(f"Tab never reaches {wanted}")


def test_with_the_keyboard_alone(page, served):
    open_page(page, served, "/?from=6h")
    tab_to(page, "e.matches('#wrong a')")
    outline = page.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    press(page, Keys.ENTER)
    settled(page)
    assert urlsplit(page.current_url).path == f"/incident/{FINDING}"
    assert page.execute_script("return document.activeElement.id") == "main"
    tab_to(page, "(e.getAttribute('href') || '').startsWith('/interaction/')")
    press(page, Keys.ENTER)
    settled(page)
    tab_to(page, "e.tagName === 'SUMMARY' && e.textContent.includes('search_articles')")
    press(page, Keys.ENTER)
    eventually(
        lambda: "503 from https://search.example/7" in page.find_element(By.ID, "main").text, 5
    )


def test_hostile_names_are_text(page, served):
    for path in ("/?from=6h", f"/session/{SESSION}", f"/interaction/{FAILED}", "/incidents",
                 "/incident/hostile", "/interactions?from=6h"):  # fmt: skip
        open_page(page, served, path)
        for details in page.find_elements(By.CSS_SELECTOR, "main details"):
            page.execute_script("arguments[0].open = true", details)
        assert page.find_elements(By.CSS_SELECTOR, "main img, main script, main iframe") == []
        assert "<img src=x onerror=alert(1)>" in page.find_element(By.ID, "main").text
        assert errors(page) == []
    assert HOSTILE.startswith("<img")


def test_first_paint_takes_less_than_a_second(page, served):
    times = []
    for _ in range(5):
        page.get("about:blank")
        open_page(page, served, "/?from=6h")
        times.append(
            page.execute_script(
                "return performance.getEntriesByName('first-contentful-paint')[0].startTime"
            )
        )
    assert sorted(times)[2] < 1000
    assert errors(page) == []


def heading(page):
    # In one step: the page may replace it at any moment.
    return page.execute_script("return document.querySelector('h1')?.textContent || ''")


def test_without_the_token_it_asks_for_it(page, served):
    page.execute_script("localStorage.clear()")
    page.get(served + "/incidents")
    eventually(lambda: "needs its token" in heading(page), 10)
    from tests.integration.test_board import TOKEN

    page.find_element(By.ID, "token").send_keys(TOKEN, Keys.ENTER)
    eventually(lambda: heading(page) == "Incidents", 10)
    page.get_log("browser")  # the refused request


def test_the_token_leaves_the_address(page, served):
    assert "token" not in page.current_url


def test_choosing_an_agent_changes_every_panel(page, served):
    open_page(page, served, "/?from=6h")
    eventually(
        lambda: page.execute_script(
            "const s = [...document.querySelectorAll('#controls label')]"
            ".find(l => l.textContent.startsWith('Agent'))?.querySelector('select');"
            "if (!s || s.options.length < 4) return false;"
            "s.value = 'booking'; s.dispatchEvent(new Event('change')); return true"
        ),
        20,
    )
    eventually(lambda: "var-agent=booking" in page.current_url, 10)
    settled(page)
    table = page.find_element(By.CSS_SELECTOR, "[data-panel='10'] tbody").text
    assert "booking" in table
    assert "support" not in table


def test_a_report_opens_without_a_network(page, tmp_path):
    from datetime import UTC, datetime, timedelta

    from dashboards.report import Report, render

    now = datetime.now(UTC)
    course = [
        {"time": f"2026-11-20T{h:02}:00:00Z", "rate": h / 50, "low": h / 60, "high": h / 40 + 0.01}
        for h in range(10)
    ]
    file = tmp_path / "report.html"
    file.write_text(render(Report(now - timedelta(hours=6), now, HOSTILE, [], [], [], course)))
    page.get("about:blank")
    page.get_log("browser")  # of requests that were on their way
    page.execute_cdp_cmd("Network.enable", {})
    page.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
    )
    try:
        page.get(file.as_uri())
        assert "driftline report" in page.find_element(By.TAG_NAME, "h1").text
        assert page.find_element(By.TAG_NAME, "svg").size["height"] > 50
        assert errors(page) == []
    finally:
        page.execute_cdp_cmd("Network.emulateNetworkConditions", {
            "offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1,
        })  # fmt: skip
