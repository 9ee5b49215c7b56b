"""The page in a real browser, with a worker that stands in for networks."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

webdriver = pytest.importorskip(
    "selenium.webdriver", reason="selenium is not installed: pip install selenium"
)
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
SECONDS = 150  # longer than the studio looks at a file


@pytest.fixture()
def page(running: Any) -> Iterator[Any]:
    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium with its chromedriver was found; install both, or set CHROMIUM")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "window-size=1300,1000",
        "disable-background-networking", "disable-component-update", "disable-sync",
        "autoplay-policy=no-user-gesture-required", "use-fake-device-for-media-stream",
        "use-fake-ui-for-media-stream", "disable-dev-shm-usage",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        driver.get(f"http://127.0.0.1:{running.port}/")
        wait_until_ready(driver)
        yield driver
    finally:
        driver.quit()


def wait_until_ready(page: Any) -> None:
    """Until the page has asked the studio for its state and drawn itself."""
    from selenium.webdriver.support.ui import WebDriverWait

    ready = "return !window.isOld && document.body !== null && document.body.dataset.ready === 'yes'"
    WebDriverWait(page, SECONDS).until(lambda driver: driver.execute_script(ready), "the page does not begin")


def reload(page: Any) -> None:
    """Load the page anew. The driver may come back while the old one is still there, and what is clicked in
    that is lost."""
    page.execute_script("window.isOld = true")
    page.refresh()
    wait_until_ready(page)


def find(page: Any, selector: str) -> Any:
    """What is on the page and visible, once it is."""
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    def seen(driver: Any) -> Any:
        there = [one for one in driver.find_elements("css selector", selector) if one.is_displayed()]
        return there[0] if there else None

    # what was there when it was looked for may have been drawn anew when it is looked at
    waiting = WebDriverWait(page, SECONDS, ignored_exceptions=[StaleElementReferenceException])
    return waiting.until(seen, f"{selector} does not appear")


def press(page: Any, selector: str) -> None:
    """Click what may lie under the head of the page, which stays where it is while the rest scrolls."""
    page.execute_script("arguments[0].click()", find(page, selector))


def choose(page: Any, tab: str, role: str, file: Path) -> None:
    """Put a file into a field, and agree where that is asked."""
    page.find_element("css selector", f"#tab-{tab} input[type=file][name={role}]").send_keys(str(file))


def agree(page: Any) -> None:
    find(page, "#agree").click()


def asked_for(page: Any) -> set[str]:
    """Hosts that the browser has asked for anything."""
    hosts = set()
    for line in page.get_log("performance"):
        message = json.loads(line["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            if not url.startswith(("data:", "blob:", "chrome")):
                hosts.add(url.split("/")[2])
    return hosts


def test_from_a_file_to_a_video(page: Any, running: Any, media: Path) -> None:
    find(page, "#tab-generate [data-go]")
    choose(page, "generate", "target", media / "speaks.mp4")
    agree(page)
    assert "video · 64 × 48 · 1.0 s" in find(page, "[data-role=target] .filled .about").text
    find(page, "textarea").send_keys("hello")
    find(page, "[data-go=generate]").click()
    find(page, ".job[data-state=done]")
    assert "LSE-C" in find(page, "table.scores").text and "n/a" in page.page_source
    press(page, "[data-play]")
    both = "return [...document.querySelectorAll('.job video')].map((one) => [one.paused, one.muted])"
    assert page.execute_script(both) == [[False, True], [False, False]]  # both run, one is heard
    link = find(page, ".result a[download]")
    assert link.get_attribute("href").endswith("/0.mp4")
    find(page, ".job video")
    assert asked_for(page) == {f"127.0.0.1:{running.port}"}
    assert [line for line in page.get_log("browser") if line["level"] == "SEVERE"] == []


def test_a_bad_file_says_why_and_consent_stays(page: Any, media: Path) -> None:
    find(page, "#tab-generate [data-go]")
    choose(page, "generate", "target", media / "text.mp4")
    agree(page)
    assert (
        "text.mp4: this is no picture, video or sound"
        in find(page, "[data-role=target] .refusal:not(:empty)").text
    )
    reload(page)
    find(page, "#tab-generate [data-go]").click()
    assert "Face: choose a file" in find(page, "#tab-generate > * .refusal:not(:empty)").text
    assert not page.find_element("css selector", "#consent").is_displayed()


def test_comparing_plays_all_together(page: Any, media: Path) -> None:
    page.get(page.current_url.split("#")[0] + "#compare")
    find(page, "#tab-compare [data-go]")
    choose(page, "compare", "target", media / "speaks.mp4")
    agree(page)
    find(page, "#tab-compare [data-role=target] .filled")
    find(page, "#tab-compare textarea").send_keys("hello")
    find(page, "#tab-compare [data-go]").click()
    find(page, "#tab-compare .job[data-state=done]")
    find(page, "#tab-compare table.scores")
    press(page, "#tab-compare [data-play]")
    page.execute_async_script("setTimeout(arguments[0], 500)")
    times = page.execute_script(
        "return [...document.querySelectorAll('#tab-compare .result video')].map((one) => one.currentTime)"
    )
    assert len(times) == 3 and min(times) > 0 and max(times) - min(times) < 0.25


def test_a_job_is_cancelled(page: Any, media: Path) -> None:
    find(page, "#tab-generate [data-go]")
    choose(page, "generate", "target", media / "speaks.mp4")
    agree(page)
    find(page, "[data-role=target] .filled")
    find(page, "textarea").send_keys("sleep 60")
    find(page, "[data-go=generate]").click()
    find(page, ".job[data-state=working] progress")
    next(one for one in page.find_elements("css selector", ".job button") if one.text == "Cancel").click()
    assert "nothing is kept" in find(page, ".job[data-state=cancelled]").text


def test_a_sound_is_recorded(page: Any) -> None:
    find(page, "#tab-generate [data-go]")
    find(page, "[data-way=file]").click()
    find(page, "[data-role=audio] .row button:nth-child(2)").click()
    agree(page)
    find(page, "#recorder [data-do=go]").click()
    page.execute_async_script("setTimeout(arguments[0], 1500)")
    find(page, "#recorder [data-do=go]").click()
    assert "sound · " in find(page, "[data-role=audio] .filled .about").text


def test_runs_are_shown(page: Any) -> None:
    page.get(page.current_url.split("#")[0] + "#runs")
    find(page, "[data-run='swaptalk-x/swaptalk_lip_sync']").click()
    assert "talkgen train" in find(page, ".run").text
    find(page, ".run svg")
