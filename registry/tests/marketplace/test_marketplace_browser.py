"""The pages in a real browser: keyboard, screen readers, small screens, dark rooms, and no word to anybody else."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
from selenium.webdriver import ActionChains, Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from fuseml_sdk.environments import trusted_authorities

pytestmark = pytest.mark.full
#: The accessibility rules, and what npm's registry calls their integrity.
AXE = ("axe-core@4.14.1", "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==")
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PAGES = ("/", "/?q=mlflow&kind=template", "/?q=mlfow", "/packages/extensions/mlflow", "/packages/extensions/kserve",
         "/packages/team/churn/-/1.1.0", "/packages/team/base", "/packages/team/churn/-/versions",
         "/packages/team/churn/-/1.1.0/diff/1.0.0", "/packages/hostile/shown", "/packages/no/such")


def missing(reason: str) -> NoReturn:
    """Continuous integration has a browser; a person may do without."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The accessibility rules as a script."""
    if shutil.which("npm") is None:
        missing("npm is not installed: apt-get install npm")
    folder = tmp_path_factory.mktemp("axe")
    done = subprocess.run(["npm", "pack", AXE[0], "--pack-destination", folder], cwd=folder, capture_output=True, text=True,
                          timeout=120, env={"NODE_EXTRA_CA_CERTS": trusted_authorities(), **os.environ})
    if done.returncode:
        missing(f"npm pack {AXE[0]} failed: {done.stderr.strip()[-500:]}")
    data = next(folder.glob("*.tgz")).read_bytes()
    assert f"sha512-{base64.b64encode(hashlib.sha512(data).digest()).decode()}" == AXE[1]
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A browser without a screen, which can reach this machine only."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        missing("Chromium is not installed: apt-get install chromium chromium-driver")
    options = ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                     "--disable-background-networking", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                     f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--lang=en"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = Chrome(options=options, service=ChromeService(driver))
    browser.set_page_load_timeout(30)
    yield browser
    browser.quit()


@pytest.fixture
def browser(started: Chrome, market: Any) -> Iterator[Chrome]:
    """The browser as a new visitor has it; after each test it must not have asked anybody else, nor complained."""
    started.get("about:blank")
    started.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    started.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    screen(started, 1280, 900)
    for kind in ("browser", "performance"):
        started.get_log(kind)
    yield started
    asked = set()
    for entry in started.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.add(urlsplit(message["params"]["request"]["url"]).netloc)
    assert asked - {""} == {market.host}
    complaints = [entry["message"] for entry in started.get_log("browser") if "/packages/no/such" not in entry["message"] and "ERR_BLOCKED_BY_CLIENT" not in entry["message"]]
    assert complaints == []


@pytest.fixture(scope="module", autouse=True)
def hostile(market: Any) -> None:
    """A bundle that would run scripts and load pictures if it were let."""
    market.push_raw("hostile/shown", {"name": "shown", "summary": "<script>window.harmed = 1</script>\u202egnp"},
                    readme=b"<script>window.harmed=1</script> ![x](https://evil.example/x.png) [a](javascript:window.harmed=1)\n\n"
                           b"| wide |\n|---|\n| " + b"wide" * 200 + b" |\n\n" + b"`" + b"long" * 100 + b"`\n",
                    icon=b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9" onload="window.harmed=1">'
                         b'<image href="https://evil.example/y.png"/><script>window.harmed=1</script></svg>')


def screen(browser: Chrome, width: int, height: int) -> None:
    """Give the browser a screen of this size in CSS pixels."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})


def prefer(browser: Chrome, **media: str) -> None:
    """Set what the visitor prefers, such as `color_scheme="dark"`."""
    features = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in media.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def heading(browser: Chrome) -> str:
    """What the list of results says about itself."""
    return browser.find_element(By.ID, "found-title").text


def wait(browser: Chrome, condition: Any) -> None:
    """Wait until something is so."""
    WebDriverWait(browser, 10, ignored_exceptions=[Exception]).until(condition)


def press(browser: Chrome, *keys: str) -> None:
    """Press keys, wherever the focus is."""
    ActionChains(browser).send_keys(*keys).perform()


def tab_to(browser: Chrome, script: str) -> int:
    """Press Tab until the focused element fulfils a condition; returns how often."""
    for count in range(1, 80):
        press(browser, Keys.TAB)
        if browser.execute_script(f"const e = document.activeElement; return {script}"):
            return count
    raise AssertionError(f"the keyboard does not reach {script}")


def test_r169_search_as_you_type_and_filters(browser, market):
    """Results change without another page; the address can be shared; the focus stays where it is."""
    browser.get(f"{market.url}/")
    browser.execute_script("window.same = true")
    field = browser.find_element(By.ID, "q")
    field.send_keys("mlflow")
    wait(browser, lambda b: heading(b).startswith("2 packages") or heading(b).startswith("3 packages"))
    assert browser.current_url.endswith("?q=mlflow")
    assert browser.switch_to.active_element == field
    tab_to(browser, "e.value === 'builder'")
    press(browser, Keys.SPACE)
    wait(browser, lambda b: heading(b).startswith("1 package"))
    assert browser.execute_script("return document.activeElement.value") == "builder"
    assert browser.execute_script("return document.getElementById('announcer').textContent") == heading(browser)
    assert browser.find_element(By.CSS_SELECTOR, ".card h3 a").text == "mlflow"
    assert browser.execute_script("return window.same") is True
    browser.refresh()
    assert heading(browser).startswith("1 package")


def test_everything_works_without_scripts(browser, market):
    """Search, filters with their button, order, and the command to copy by hand."""
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/static/script-*"]})
    browser.get(f"{market.url}/")
    assert browser.execute_script("return document.documentElement.className") == ""
    tab_to(browser, "e.value === 'builder'")
    press(browser, Keys.SPACE)
    tab_to(browser, "e.textContent === 'Apply filters'")
    press(browser, Keys.ENTER)
    wait(browser, lambda b: heading(b) == "1 package")
    browser.find_element(By.CSS_SELECTOR, ".chips a").click()
    wait(browser, lambda b: heading(b) != "1 package")
    browser.find_element(By.ID, "q").send_keys("kserve", Keys.ENTER)
    wait(browser, lambda b: "for “kserve”" in heading(b))
    browser.find_element(By.CSS_SELECTOR, ".card h3 a").click()
    wait(browser, lambda b: b.find_element(By.ID, "command").text.endswith("fuseml extension install kserve"))
    assert not browser.find_element(By.CSS_SELECTOR, "[data-copy]").is_displayed()


def test_by_keyboard_alone_from_search_to_the_copied_command(browser, market):
    """The skip link comes first, every stop is visible, the copy is announced and in the clipboard."""
    browser.execute_cdp_cmd("Browser.grantPermissions", {"origin": f"http://{market.host}",
                                                         "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})
    browser.get(f"{market.url}/")
    press(browser, Keys.TAB)
    assert browser.switch_to.active_element.text == "Skip to the content"
    assert browser.switch_to.active_element.rect["y"] >= 0
    press(browser, Keys.ENTER)
    tab_to(browser, "e.id === 'q'")
    assert browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    press(browser, "kserve")
    wait(browser, lambda b: "for “kserve”" in heading(b))
    tab_to(browser, "e.textContent === 'kserve'")
    press(browser, Keys.ENTER)
    wait(browser, lambda b: b.find_element(By.ID, "command"))
    assert tab_to(browser, "e.dataset.copy") < 8
    press(browser, Keys.ENTER)
    wait(browser, lambda b: b.find_element(By.CSS_SELECTOR, "[data-copied]").get_attribute("textContent")
         == "The install command was copied.")
    copied = browser.execute_async_script("navigator.clipboard.readText().then(arguments[0], e => arguments[0](String(e)))")
    assert copied == "fuseml extension install kserve"


def test_dark_rooms_and_calm_screens(browser, market):
    """The colours and the motion that the system asks for."""
    pictures = {}
    for scheme in ("light", "dark"):
        prefer(browser, color_scheme=scheme)
        browser.get(f"{market.url}/packages/extensions/mlflow")
        pictures[scheme] = browser.get_screenshot_as_png()
    assert pictures["light"] != pictures["dark"]
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(16, 20, 18)"
    assert browser.execute_script("return getComputedStyle(document.documentElement).scrollBehavior") == "smooth"
    prefer(browser, reduced_motion="reduce")
    assert browser.execute_script("return getComputedStyle(document.documentElement).scrollBehavior") == "auto"


@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_a_small_screen(browser, market, path):
    """320 CSS pixels; wide tables and code scroll by themselves."""
    screen(browser, 320, 800)
    browser.get(f"{market.url}{path}")
    assert browser.execute_script("return document.documentElement.scrollWidth") == 320
    assert browser.execute_script("return window.harmed") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_pass_the_accessibility_rules(browser, market, axe, scheme):
    """axe-core with the rules of WCAG 2.2 AA and best practices finds nothing, in both colour schemes and sizes."""
    prefer(browser, color_scheme=scheme, reduced_motion="reduce")
    found = {}
    for path in PAGES:
        for width in (1280, 400):
            screen(browser, width, 900)
            browser.get(f"{market.url}{path}")
            browser.execute_script(axe)
            report = browser.execute_async_script(
                "axe.run(document, {runOnly: arguments[0]}).then(r => arguments[1]({bad: r.violations.map(v => [v.id, "
                "v.nodes.slice(0, 3).map(n => n.html.slice(0, 200))]), good: r.passes.length}))", TAGS)
            assert report["good"] > 15
            if report["bad"]:
                found[f"{path} at {width}"] = report["bad"]
    assert found == {}


def test_landmarks_and_language(browser, market):
    """One main, one h1, headings without gaps, a language, a title of its own for each page."""
    titles = set()
    for path in PAGES:
        browser.get(f"{market.url}{path}")
        levels = browser.execute_script("return [...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => +h.tagName[1])")
        assert levels.count(1) == 1, path
        assert all(after - before <= 1 for before, after in pairwise(levels)), (path, levels)
        assert browser.execute_script("return document.documentElement.lang") == "en"
        assert len(browser.find_elements(By.TAG_NAME, "main")) == 1
        titles.add(browser.title)
    assert len(titles) >= len(PAGES) - 1


def test_pictures_for_people_to_look_at(browser, market, tmp_path):
    """Kept with the test's other files; a page that is blank would be small."""
    for name, path in (("search", "/"), ("package", "/packages/extensions/mlflow")):
        browser.get(f"{market.url}{path}")
        picture = Path(tmp_path / f"{name}.png")
        picture.write_bytes(browser.get_screenshot_as_png())
        assert picture.stat().st_size > 20_000
