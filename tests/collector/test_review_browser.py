"""The pages in a real browser: Debian's Chromium."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from misgiving.collector.review.accounts import Accounts
from misgiving.collector.store import Store
from shared.reviewing import CLOSED, digests, filled, reviewing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = Path("/usr/bin/chromium")
PASSWORD = "four words of mine"

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists() or importlib.util.find_spec("playwright") is None,
    reason="no Chromium or no playwright here; .ci/run installs it",
)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("review") / "store"
    with filled(folder, [0.2, 2.0, 1.5, 0.4, 3.0]) as made:
        Accounts(made.database).add("ann", PASSWORD)
        yield made


@pytest.fixture(scope="module")
def address(store: Store) -> Iterator[str]:
    with reviewing(store) as made:
        yield made


@pytest.fixture
def page(browser: "Browser", request: pytest.FixtureRequest) -> Iterator["Page"]:
    """A page of a new profile; what the browser complains about fails the test."""
    options: dict[str, Any] = getattr(request, "param", {})
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(60_000)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []


WIDTHS = [
    {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    for width in (400, 1400)
    for scheme in ("light", "dark")
]


@pytest.mark.parametrize("page", WIDTHS, indirect=True)
def test_pages_fit(page: "Page", address: str, store: Store) -> None:
    for path in ("/", "/?device=car-7", "/audit", "/overview", f"/frames/{digests(store)['f1']}"):
        page.goto(address + path)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= page.viewport_size["width"], path
        pictures = page.locator("img")
        for at in range(pictures.count()):
            pictures.nth(at).scroll_into_view_if_needed()
            page.wait_for_function("at => document.images[at].complete", arg=at)
        assert page.evaluate("[...document.images].every(one => one.naturalWidth && one.alt)")


@pytest.mark.parametrize("page", WIDTHS[:2], indirect=True)
def test_text_can_be_read(page: "Page", address: str, store: Store) -> None:
    """The contrast that WCAG AA asks for, of text and links, in both schemes."""
    for path in ("/", "/audit", "/overview", f"/frames/{digests(store)['f1']}"):
        page.goto(address + path)
        assert page.evaluate(CONTRAST) == [], path


def test_keys_mark_and_move(page: "Page", address: str, store: Store) -> None:
    found = digests(store)
    page.goto(f"{address}/?order=worst")
    page.locator("ol.sheet a").first.click()
    page.wait_for_url(f"**/frames/{found['f4']}?order=worst")
    page.keyboard.press("ArrowRight")
    page.wait_for_url(f"**/frames/{found['f1']}?order=worst")
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(f"**/frames/{found['f4']}?order=worst")
    page.keyboard.press("c")
    page.wait_for_url(f"**/frames/{found['f1']}?order=worst")
    assert "f4 is marked: Confirmed failure" in page.get_by_role("status").inner_text()
    page.keyboard.press("u")
    page.wait_for_url(f"{address}/?order=worst")
    marked = page.locator("ol.sheet li").first.locator(".mark")
    assert marked.inner_text() == "Confirmed failure"


def test_keys_do_nothing_while_somebody_types(page: "Page", address: str) -> None:
    page.goto(f"{address}/?device=car-7")
    page.get_by_label("Device").fill("")
    page.get_by_label("Device").press_sequentially("uclip")
    assert page.get_by_label("Device").input_value() == "uclip"
    page.keyboard.press("Enter")
    page.wait_for_url("**/?device=uclip*")
    assert "No frame fits the filter" in page.locator("main").inner_text()


def test_the_picture_without_drawing(page: "Page", address: str, store: Store) -> None:
    page.goto(f"{address}/frames/{digests(store)['f2']}")
    picture = page.locator("#picture")
    assert not picture.get_attribute("src").endswith("plain=1")
    page.keyboard.press("p")
    page.wait_for_function("document.images[0].src.endsWith('plain=1')")
    page.get_by_text("With drawing").click()
    page.wait_for_function("!document.images[0].src.endsWith('plain=1')")


def test_the_first_tab_skips_to_the_content(page: "Page", address: str) -> None:
    page.goto(address)
    page.keyboard.press("Tab")
    skip = page.get_by_text("Skip to the content")
    assert skip.bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


@pytest.mark.parametrize("page", [{"java_script_enabled": False}], indirect=True)
def test_all_of_it_works_without_script(page: "Page", address: str, store: Store) -> None:
    found = digests(store)
    page.goto(f"{address}/frames/{found['f0']}")
    page.get_by_role("button", name="No failure").click()
    assert "f0 is marked: No failure" in page.get_by_role("status").inner_text()
    page.goto(f"{address}/frames/{found['f0']}")
    link = page.get_by_role("link", name="Without drawing").get_attribute("href")
    assert page.request.get(address + link).headers["content-type"] == "image/jpeg"


@pytest.fixture
def closed(store: Store) -> Iterator[str]:
    """An address that asks for a login; named before the page, it is there until that is closed."""
    with reviewing(store, CLOSED) as made:
        yield made


def test_login(closed: str, page: "Page") -> None:
    page.goto(f"{closed}/audit")
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{closed}/audit")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(f"{closed}/login")
    page.goto(closed)
    page.wait_for_url("**/login?next=*")


CONTRAST = """() => {
  const channel = (value) => {
    value /= 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [red, green, blue] = numbers(colour).map(channel);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if ((numbers(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const bad = [];
  for (const one of document.querySelectorAll("main *, header *")) {
    const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || one.closest("svg") || !one.checkVisibility()) continue;
    const both = [light(getComputedStyle(one).color), light(ground(one))];
    const [high, low] = both.sort((a, b) => b - a);
    if ((high + 0.05) / (low + 0.05) < 4.5) bad.push(one.outerHTML.slice(0, 80));
  }
  return bad;
}"""
