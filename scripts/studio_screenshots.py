"""Pictures of every tab of the studio for docs/studio.md, made in a headless Chromium.

python scripts/studio_screenshots.py [--runs runs] [--prepared prepared] [--out docs/images]

Wants trained methods below --runs and the demo corpus below --prepared (`make demo`); only faces of the demo
corpus are shown. Needs the `studio` extra, selenium, Chromium and its chromedriver.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2

WIDTH, HEIGHT = 1280, 900
WAIT_SECONDS = 900
MOST_BYTES = 200_000  # of a picture
TASKS = ("generate", "compare", "regions", "swap")


@contextlib.contextmanager
def studio(runs: Path, prepared: Path) -> Iterator[str]:
    """A studio in a temporary folder; its address."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "talkgen.cli", "studio", "--port", "0", "--folder", folder]
        command += ["--runs", str(runs), "--prepared", str(prepared)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[4]
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = os.environ.get("CHROMIUM") or str(shutil.which("chromium"))
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", "no-first-run", "disable-quic",
        "disable-background-networking", "disable-component-update", "disable-sync",
        "disable-dev-shm-usage", "autoplay-policy=no-user-gesture-required",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def find(page: Any, selector: str, seconds: float = 60) -> Any:
    """What is visible, once it is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for one in page.find_elements("css selector", selector):
            if one.is_displayed():
                return one
        time.sleep(0.2)
    raise SystemExit(f"{selector} did not appear")


def wait_for(page: Any, selector: str, condition: str, seconds: float = 60) -> None:
    """Wait until a condition in JavaScript holds for all that are visible, or for so long."""
    seen = f"[...document.querySelectorAll('{selector}')].filter((one) => one.offsetParent)"
    end = time.monotonic() + seconds
    while (
        not page.execute_script(f"return {seen}.every((one) => one.{condition})") and time.monotonic() < end
    ):
        time.sleep(0.5)


def save(page: Any, out: Path, name: str, height: int = HEIGHT, top: bool = True) -> None:
    """The page as a JPEG of at most ``MOST_BYTES``; from its top, or as it is scrolled."""
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )
    if top:
        page.execute_script("window.scrollTo(0, 0)")
    time.sleep(1.5)
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        page.save_screenshot(file.name)
        picture = cv2.imread(file.name)
    for quality in (90, 80, 70, 60):
        data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(data) <= MOST_BYTES:
            break
    file_out = out / f"studio_{name}.jpg"
    file_out.write_bytes(data)
    print(f"{file_out}: {picture.shape[1]} × {picture.shape[0]}, {len(data) / 1000:.0f} kB")


def open_tab(page: Any, address: str, tab: str) -> None:
    """Show a tab."""
    page.get(f"{address}/#{tab}")
    find(page, f"#tab-{tab}")


def make(page: Any, address: str, task: str) -> None:
    """Fill in the example of a tab, make it, wait, and stop the videos in the middle."""
    open_tab(page, address, task)
    if not page.find_elements("css selector", f"#tab-{task} [data-example]"):
        print(f"{task}: no method that can do it, or no demo corpus")
        return
    find(page, f"#tab-{task} [data-example]").click()
    with contextlib.suppress(SystemExit):
        find(page, "#agree", 3).click()
    find(page, f"#tab-{task} [data-role=target] .filled", 120)
    end = time.monotonic() + 120
    while page.find_elements("css selector", f"#tab-{task} [data-example][disabled]"):
        if time.monotonic() > end:
            raise SystemExit(f"{task}: the example does not come")
        time.sleep(0.2)
    find(page, f"#tab-{task} [data-go]").click()
    ended = find(page, f"#tab-{task} .job:is([data-state=done], [data-state=failed])", WAIT_SECONDS)
    if ended.get_attribute("data-state") == "failed":
        raise SystemExit(f"{task}: {ended.text}")
    page.execute_script(
        "for (const one of document.querySelectorAll('.job video'))"
        " one.currentTime = Math.min(1.2, one.duration / 2)"
    )


def main() -> None:
    """Make every picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--prepared", type=Path, default=Path("prepared"))
    parser.add_argument("--run", default="swaptalk_lip_sync", help="end of the name of the run that is shown")
    parser.add_argument("--corpus", default="demo")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--only", nargs="*", default=[*TASKS, "runs", "corpora"])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with studio(given.runs, given.prepared) as address, chromium() as page:
        page.set_window_size(WIDTH, HEIGHT)
        for task in (task for task in TASKS if task in given.only):
            make(page, address, task)
            save(page, given.out, task, 1040 if task == "compare" else HEIGHT)
        if "runs" in given.only:
            open_tab(page, address, "runs")
            find(page, f"[data-run$='{given.run}']").click()
            find(page, ".run svg")
            save(page, given.out, "runs")
            for jump in page.find_elements("css selector", ".jumps button"):
                if jump.text == "Samples":
                    page.execute_script("arguments[0].click()", jump)
                    wait_for(page, ".run video", "readyState > 1")
                    time.sleep(1)
                    save(page, given.out, "samples", 620, top=False)
        if "corpora" in given.only:
            open_tab(page, address, "corpora")
            for choice in find(page, "select[name=corpus]").find_elements("tag name", "option"):
                if choice.text == given.corpus:
                    choice.click()
            time.sleep(2)
            find(page, ".clip").click()
            find(page, ".looked video")
            wait_for(page, ".looked video", "readyState > 1")
            wait_for(page, "img", "complete")
            save(page, given.out, "corpora", 1100)


if __name__ == "__main__":
    main()
