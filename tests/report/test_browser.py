"""The page in a browser: no errors, the slider slides, hostile names are text, phone and paper."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from rhm.report import write_report
from tests.report.conftest import MakeRun

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


@pytest.fixture
def report(make_run: MakeRun, tmp_path: Path) -> Path:
    runs = [
        make_run(f"{method}-{seed}", {"town": 0.6, HOSTILE: iou}, method=method, seed=seed)
        for method, iou in (("none", 0.2), ("rhm", 0.5), (HOSTILE, 0.3))
        for seed in (0, 1)
        if method != HOSTILE or not seed
    ]
    return write_report(runs, tmp_path / "report.html")


def opened(
    browser: Browser, report: Path, *, width: int = 1280, dark: bool = False
) -> tuple[Page, list[str]]:
    page = browser.new_page(
        viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
    )
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda asked: problems.append(asked.url) if outside(asked.url) else None)
    page.goto(report.as_uri())
    return page, problems


def outside(url: str) -> bool:
    return not url.startswith(("file:", "data:"))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_opens_without_complaint_and_fits(
    browser: Browser, report: Path, width: int, dark: bool
) -> None:
    page, problems = opened(browser, report, width=width, dark=dark)
    assert page.title() == "Cross-domain report"
    assert problems == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") is not dark
    page.close()


def test_hostile_names_are_shown_as_text(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report)
    assert HOSTILE in page.locator("#matrix thead").inner_text()
    assert page.locator("img").count() == 0
    assert page.title() == "Cross-domain report"
    page.close()


def test_the_slider_uncovers_the_view_below(browser: Browser, report: Path) -> None:
    page, problems = opened(browser, report)
    pair = page.locator(".pair.two").first
    first, second = pair.locator(".tile").nth(0), pair.locator(".tile").nth(1)
    assert first.bounding_box() == second.bounding_box()
    slider = pair.locator("input[type=range]")
    assert slider.get_attribute("aria-label") is not None
    slider.focus()
    page.keyboard.press("Home")
    assert second.evaluate("node => getComputedStyle(node).clipPath") == "inset(0px 0px 0px 0%)"
    page.keyboard.press("End")
    assert second.evaluate("node => getComputedStyle(node).clipPath") == "inset(0px 0px 0px 100%)"
    page.locator("#slide").uncheck()
    assert first.bounding_box() != second.bounding_box()
    assert not slider.is_visible()
    assert problems == []
    page.close()


def test_outlines_can_be_taken_off(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report)
    truth = page.locator(".tile .truth").first
    assert truth.is_visible()
    page.locator("#show-truth").uncheck()
    assert not truth.is_visible()
    page.close()


def test_on_paper_views_lie_side_by_side(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report)
    page.emulate_media(media="print")
    boxes = [page.locator(".pair.two").first.locator(".tile").nth(i).bounding_box() for i in (0, 1)]
    assert boxes[0] != boxes[1]
    assert not page.locator("input[type=range]").first.is_visible()
    page.close()
