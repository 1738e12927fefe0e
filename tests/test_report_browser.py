"""The page in a real browser: no error, selection by mouse and keyboard, phone width, both themes, news while a search runs."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from report_runs import EVIL, make_run

from tinynas.report import write_report
from tinynas.runs import Run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.xdist_group("browser")

if CHROMIUM is None or DRIVER is None:
    pytest.skip("no chromium and chromedriver (Debian: apt-get install chromium chromium-driver)", allow_module_level=True)
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (pip install selenium)")

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --hide-scrollbars --disable-dev-shm-usage"
)


class Browser:
    """Chromium with the page open."""

    def __init__(self, profile: Path) -> None:
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in [*FLAGS.split(), f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self.driver.set_page_load_timeout(60)

    def open(self, path: Path, *, width: int = 1280, dark: bool = False, fragment: str = "") -> None:
        phone = width < 500
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        theme = {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", theme)
        self.driver.get(path.resolve().as_uri() + fragment)
        self.wait(lambda: self.js("return document.documentElement.dataset.ready") == "yes")

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: Callable[[], Any], seconds: float = 30) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            value = condition()
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError("did not happen in time")

    def messages(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def selected(self) -> str:
        return str(self.js("return document.querySelector('#choice').value"))

    def key(self, selector: str, key: str) -> None:
        from selenium.webdriver.common.by import By

        self.driver.find_element(By.CSS_SELECTOR, selector).send_keys(key)

    def overflowing(self) -> list[str]:
        """Elements that stick out of the page to the right, but for those inside a box that scrolls."""
        found: list[str] = self.js("""
            const wide = document.documentElement.clientWidth + 1;
            return [...document.body.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > wide
              && !e.closest('.scroll') && !e.closest('svg') && !e.closest('.skip')).map(e => e.outerHTML.slice(0, 120));
        """)
        return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.driver.quit()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("runs") / "demo", networks=16, seed=4)
    write_report(run)
    return run


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_opens_without_errors_or_sideways_scroll(browser: Browser, run: Run, width: int, dark: bool) -> None:
    browser.open(run.report_file, width=width, dark=dark)
    assert browser.messages() == []
    assert browser.js("return document.documentElement.scrollWidth") == width
    assert browser.overflowing() == []
    drawn = browser.js("return [...document.querySelectorAll('.plot')].filter(p => !p.hidden && p.offsetParent).map(p => p.dataset.figure)")
    assert {"pareto", "strip", "memory", "layers", "training", "progress", "limit0", "limit1", "limit2"} <= set(drawn)
    assert browser.js("return document.querySelectorAll('.plot .main-svg').length") >= 3 * len(drawn)
    ground = browser.js("return getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(15, 19, 23)" if dark else "rgb(244, 246, 248)")
    ink = browser.js("return document.querySelector('#pareto .xtick text').style.fill")
    assert ink == ("rgb(155, 167, 179)" if dark else "rgb(89, 99, 110)")


def test_a_click_on_a_dot_selects_it_everywhere(browser: Browser, run: Run) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    browser.open(run.report_file)
    before = browser.selected()
    # The screen position of a dot of the front that is not selected yet.
    target = browser.js(
        """
        const box = document.querySelector('#pareto');
        box.scrollIntoView({block: 'center', behavior: 'instant'});
        const rect = box.getBoundingClientRect(), layout = box._fullLayout;
        const trace = box.data.find(t => t.name === 'front');
        const index = trace.customdata.findIndex(id => id !== arguments[0]);
        return [trace.customdata[index], rect.left + layout.xaxis._offset + layout.xaxis.d2p(trace.x[index]),
                rect.top + layout.yaxis._offset + layout.yaxis.d2p(trace.y[index])];
        """,
        before,
    )
    net_id, x, y = target
    actions = ActionChains(browser.driver)
    actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    actions.w3c_actions.pointer_action.click()
    actions.perform()
    browser.wait(lambda: browser.selected() == net_id)
    assert net_id in browser.js("return document.querySelector('#h-picked').textContent")
    assert browser.js("return document.querySelector('tr.selected button').dataset.id") == net_id
    assert browser.js("return location.hash") == f"#net={net_id}"
    assert browser.js("return document.querySelector('[data-figure=layers]').data[0].x.length") == len(_ops(run, net_id))
    ring = browser.js("const d = document.querySelector('#pareto').data; return d[d.length - 1].x[0]")
    trial = next(t for t in run.trials() if t.id == net_id and t.accuracy is not None)
    assert ring == pytest.approx(trial.costs["macs"], rel=1e-5)
    assert browser.messages() == []


def _ops(run: Run, net_id: str) -> tuple[Any, ...]:
    from tinynas.graph import lower

    return lower(run.arch(net_id)).ops


def test_the_keyboard_reaches_everything(browser: Browser, run: Run) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(run.report_file)
    walk = browser.js("return JSON.parse(document.querySelector('#data').textContent).figures.fronts.macs")
    browser.key("#pareto", Keys.HOME)
    assert browser.selected() == walk[0]
    browser.key("#pareto", Keys.ARROW_RIGHT)
    assert browser.selected() == walk[1]
    browser.key("#pareto", Keys.END)
    assert browser.selected() == walk[-1]
    browser.key("#pareto", Keys.ARROW_LEFT)
    assert browser.selected() == walk[-2]
    browser.key(f"button.net[data-id='{walk[0]}']", Keys.ENTER)
    assert browser.selected() == walk[0]
    assert browser.js("return document.querySelector(`button.net[data-id='${arguments[0]}']`).ariaPressed", walk[0]) == "true"
    now = browser.selected()
    browser.key("#next", Keys.ENTER)
    assert browser.selected() != now
    browser.key("#previous", Keys.ENTER)
    assert browser.selected() == now
    # Another cost: the radio buttons move with the arrow keys.
    browser.key("#axis-macs", Keys.ARROW_RIGHT)
    assert "SRAM" in browser.js("return document.querySelector('#pareto').layout.xaxis.title.text")
    assert browser.selected() == now
    # Tab alone reaches the chart, the switch, the table and the selector.
    browser.js("document.activeElement.blur(); scrollTo(0, 0)")
    seen = set()
    for _ in range(60):
        browser.key("html", Keys.TAB) if not seen else browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        seen.add(browser.js("const e = document.activeElement; return e.id || e.className || e.tagName"))
    assert {"pareto", "net", "choice", "previous", "next", "axis-sram_bytes"} <= seen


def test_a_link_opens_at_its_network(browser: Browser, run: Run) -> None:
    net_id = run.trials()[-1].id
    scored = [t.id for t in run.trials() if t.accuracy is not None]
    net_id = scored[-1]
    browser.open(run.report_file, fragment=f"#net={net_id}")
    assert browser.selected() == net_id


def test_class_names_cannot_run_scripts(browser: Browser, tmp_path: Path) -> None:
    run = make_run(tmp_path / "evil", networks=5, labels=EVIL)
    browser.open(write_report(run))
    assert browser.js("return window.pwned") is None
    assert browser.js("return document.querySelectorAll('img, .plot a').length") == 0
    assert "<img src=x" in browser.js("return document.querySelector('[data-figure=confusion_float]').textContent")
    assert "A <b>board</b>" in browser.js("return document.querySelector('h1').textContent")
    assert browser.messages() == []


def test_news_of_a_running_search_come_in_quietly(browser: Browser, tmp_path: Path) -> None:
    run = make_run(tmp_path / "live", networks=5, promoted=0, finished=False)
    write_report(run, running=True)
    browser.open(run.report_file)
    assert "searching" in browser.js("return document.querySelector('.chip.live').textContent")
    scored = [t for t in run.trials() if t.accuracy is not None]
    keep = scored[0].id
    browser.js("const c = document.querySelector('#choice'); c.value = arguments[0]; c.dispatchEvent(new Event('change'))", keep)
    browser.js("scrollTo(0, 500); window.sameDocument = true")
    trial = scored[-1]
    run.append_trial(type(trial)(**{**vars(trial), "scores": {"accuracy": 0.987}, "epochs": 27}))
    write_report(run, running=True)
    browser.wait(lambda: "98.7" in browser.js("return document.querySelector('h1').textContent"), 40)
    assert browser.js("return window.sameDocument") is True, "the page was reloaded"
    # The browser holds on to what is in view; a headline that wraps moves the number a little.
    assert abs(browser.js("return scrollY") - 500) < 80
    assert browser.selected() == keep
    run.write_json("summary", {"seconds": 9.0, "reason": "done", "interrupted": False})
    write_report(run)
    browser.wait(lambda: browser.js("return document.querySelector('.chip').textContent") == "finished", 40)
    assert browser.messages() == []


def test_empty_and_single_runs_open(browser: Browser, tmp_path: Path) -> None:
    for networks in (0, 1):
        run = make_run(tmp_path / str(networks), networks=networks, promoted=0, finished=False)
        browser.open(write_report(run), width=390)
        assert browser.messages() == []
        assert browser.overflowing() == []


def test_pictures_are_kept_where_asked(browser: Browser, run: Run) -> None:
    """``TINYNAS_SCREENSHOTS=folder`` keeps what the browser shows, for people to look at."""
    folder = os.environ.get("TINYNAS_SCREENSHOTS")
    for width, dark in ((1280, False), (1280, True), (390, False)):
        browser.open(run.report_file, width=width, dark=dark)
        picture = browser.driver.get_screenshot_as_png()
        assert len(picture) > 20_000
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / f"report-{width}-{'dark' if dark else 'light'}.png").write_bytes(picture)
