"""Pictures of a run's report.html, for documents: light, dark and on a phone. Measures nothing.

Needs Chromium, chromedriver and selenium: python benchmarks/screenshot_report.py RUN OUT_FOLDER [--net ID]
"""

from __future__ import annotations

import argparse
import base64
import shutil
import tempfile
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

#: name, width and height in pixels (0: the whole page), dark
SHOTS = (
    ("report-light", 1280, 1180, False),
    ("report-dark", 1280, 1180, True),
    ("report-phone", 390, 844, False),
    ("report-all", 1280, 0, False),
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --hide-scrollbars --disable-dev-shm-usage"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder with a report.html")
    parser.add_argument("out", type=Path, help="where to write the pictures")
    parser.add_argument("--net", help="the network to select")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for flag in [*FLAGS.split(), f"--user-data-dir={tempfile.mkdtemp()}"]:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        for name, width, height, dark in SHOTS:
            driver.get("about:blank")
            theme = {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", theme)
            _size(driver, width, height or 1000)
            fragment = f"#net={arguments.net}" if arguments.net else ""
            driver.get((arguments.run / "report.html").resolve().as_uri() + fragment)
            while driver.execute_script("return document.documentElement.dataset.ready") != "yes":
                time.sleep(0.1)
            if not height:
                _size(driver, width, driver.execute_script("return document.documentElement.scrollHeight"))
            time.sleep(1)  # the charts settle on the new size
            picture = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
            (arguments.out / f"{name}.png").write_bytes(base64.b64decode(picture["data"]))
            print(arguments.out / f"{name}.png")
    finally:
        driver.quit()


def _size(driver: webdriver.Chrome, width: int, height: int) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1.5 if width > 500 else 2, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


if __name__ == "__main__":
    main()
