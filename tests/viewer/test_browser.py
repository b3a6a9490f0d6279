"""The viewer in a browser: layers, slider, popups; hostile names are text."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from rhm.inference import predict_raster
from rhm.inference.polygons import PolygonConfig
from rhm.viewer.marks import read_marks
from rhm.viewer.predictions import find_predictions
from rhm.viewer.server import ViewerServer
from tests.viewer.conftest import Brightness, write_scene

HOSTILE = "<img src=x onerror=document.title='taken'>"


@pytest.fixture
def server(results: Path, scene: Path, tmp_path: Path) -> Iterator[ViewerServer]:
    other = write_scene(tmp_path / "imagery" / f"{HOSTILE}.tif")
    predict_raster(Brightness(), other, results, tile=256, polygons=PolygonConfig(0.4))
    predictions, _ = find_predictions(results, [str(scene), str(other)])
    with ViewerServer(predictions[::-1]) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def opened(browser: Browser, url: str, **options: Any) -> tuple[Page, list[str]]:
    page = browser.new_page(**({"viewport": {"width": 1280, "height": 800}} | options))
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda asked: None if asked.url.startswith((url, "data:")) else problems.append(asked.url),
    )
    page.goto(url)
    # On a busy machine the network is idle before the page has asked for its first tile.
    page.wait_for_selector("img.leaflet-tile", state="attached")
    page.wait_for_selector("canvas.leaflet-tile", state="attached")
    page.wait_for_load_state("networkidle")
    return page, problems


def place(page: Page, col: int, row: int) -> tuple[float, float]:
    """Where a pixel of the scene is in the window, by one of its tiles."""
    left, top, width, first_col, first_row, side = page.evaluate(
        """() => {
             const canvas = document.querySelector('canvas.leaflet-tile');
             const {left, top, width} = canvas.getBoundingClientRect();
             return [left, top, width, ...canvas.dataset.covers.split(' ').map(Number)];
           }"""
    )
    scale = width / side
    return left + (col - first_col) * scale, top + (row - first_row) * scale


def colour(page: Page, col: int, row: int) -> list[int]:
    """The colour that the layer of the threshold has at a pixel of the scene."""
    found: list[int] = page.evaluate(
        """([col, row]) => {
             for (const canvas of document.querySelectorAll('canvas.leaflet-tile')) {
               if (!canvas.levels) continue;
               const [left, top, side] = canvas.dataset.covers.split(' ').map(Number);
               const x = Math.floor((col - left) / side * 256);
               const y = Math.floor((row - top) / side * 256);
               if (x >= 0 && y >= 0 && x < 256 && y < 256)
                 return [...canvas.getContext('2d').getImageData(x, y, 1, 1).data];
             }
             return null;
           }""",
        [col, row],
    )
    return found


def test_the_layer_is_saved_under_its_name_and_the_scale_is_that_of_the_ground(
    browser: Browser, server: ViewerServer, results: Path
) -> None:
    page, problems = opened(browser, server.url)
    expect(page.locator("#name")).to_have_text("town")
    with page.expect_download() as saved:
        page.locator("#save").click()
    assert saved.value.suggested_filename == "town_buildings.gpkg"
    assert saved.value.path().read_bytes() == (results / "town_buildings.gpkg").read_bytes()
    (metres,) = page.locator(".leaflet-control-scale-line").all_inner_texts()
    bar = page.locator(".leaflet-control-scale-line").bounding_box()
    first, second = place(page, 0, 0), place(page, 100, 0)
    pixel_m = server.shown[0].prediction.pixel_m
    assert bar is not None
    assert pixel_m is not None
    on_screen = bar["width"] / (second[0] - first[0]) * 100 * pixel_m
    assert on_screen == pytest.approx(float(metres.split()[0]), rel=0.06)
    assert problems == []
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_opens_without_complaint_and_fits(
    browser: Browser, server: ViewerServer, width: int, scheme: str
) -> None:
    page, problems = opened(
        browser, server.url, viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    expect(page.locator("#status")).to_have_text("2 footprints in view")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".leaflet-control-layers-overlays label").all_inner_texts() == [
        " Scene", " Probability", " At the threshold", " Footprints",
    ]  # fmt: skip
    assert problems == []
    page.close()


def test_the_sliders_move_the_mask_and_the_footprints(
    browser: Browser, server: ViewerServer
) -> None:
    page, problems = opened(browser, server.url)
    page.select_option("#scene", label="town")
    page.wait_for_load_state("networkidle")
    expect(page.locator("#level")).to_have_text("0.40")
    assert colour(page, 120, 215)[3] > 0
    assert colour(page, 320, 215)[3] > 0
    assert colour(page, 600, 400)[3] == 0
    page.locator("#threshold").fill("0.9")
    expect(page.locator("#level")).to_have_text("0.90")
    assert colour(page, 120, 215)[3] > 0
    assert colour(page, 320, 215)[3] == 0
    # A score is no probability of a pixel: what was predicted is shown until a score is asked for.
    page.locator("#score").fill("0.9")
    page.mouse.click(*place(page, 320, 215))
    expect(page.locator(".leaflet-popup")).to_have_count(0)
    page.mouse.click(*place(page, 120, 215))
    expect(page.locator(".leaflet-popup")).to_have_count(1)
    page.get_by_role("button", name="As predicted").click()
    expect(page.locator("#level")).to_have_text("0.40")
    assert colour(page, 320, 215)[3] > 0
    assert problems == []
    page.close()


def test_a_click_on_a_building_shows_its_score_and_area(
    browser: Browser, server: ViewerServer
) -> None:
    page, problems = opened(browser, server.url)
    page.mouse.click(*place(page, 120, 215))
    popup = page.locator(".leaflet-popup-content")
    expect(popup).to_contain_text("Score")
    expect(popup).to_contain_text("0.9")
    expect(popup).to_contain_text("300 m²")
    assert problems == []
    page.close()


def test_layers_are_toggled(browser: Browser, server: ViewerServer) -> None:
    page, problems = opened(browser, server.url)
    assert page.locator("img.leaflet-tile").count() > 0
    page.get_by_label("Scene", exact=True).last.uncheck()
    expect(page.locator("img.leaflet-tile")).to_have_count(0)
    before = page.locator("canvas.leaflet-tile").count()
    page.get_by_label("Probability").check()
    expect(page.locator("canvas.leaflet-tile")).to_have_count(2 * before)
    page.get_by_label("At the threshold").uncheck()
    expect(page.locator("canvas.leaflet-tile")).to_have_count(before)
    page.get_by_label("Footprints").uncheck()
    expect(page.locator("#status")).to_have_text("")
    page.mouse.click(*place(page, 120, 215))
    expect(page.locator(".leaflet-popup")).to_have_count(0)
    assert problems == []
    page.close()


def test_zooming_asks_for_finer_tiles(browser: Browser, server: ViewerServer) -> None:
    page, problems = opened(browser, server.url, viewport={"width": 390, "height": 800})
    coarse = page.locator("img.leaflet-tile").evaluate_all("tiles => tiles.map(tile => tile.src)")
    assert coarse
    assert not any("/image/0/" in url for url in coarse)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for _ in range(6):
        page.get_by_role("button", name="Zoom in").click()
        page.wait_for_timeout(400)
    page.wait_for_load_state("networkidle")
    assert any("/image/0/" in url for url in asked)
    assert problems == []
    page.close()


def test_a_hostile_name_is_shown_as_text(browser: Browser, server: ViewerServer) -> None:
    page, problems = opened(browser, server.url)
    page.select_option("#scene", label=HOSTILE)
    page.wait_for_load_state("networkidle")
    assert page.title() == f"{HOSTILE} - rhm view"
    assert page.locator("option img, header img").count() == 0
    assert problems == []
    page.close()


def test_what_cannot_be_read_is_said(browser: Browser, server: ViewerServer, results: Path) -> None:
    (results / "town_buildings.gpkg").write_text("broken")
    page, _ = opened(browser, server.url)
    page.select_option("#scene", label="town")
    expect(page.locator("#status")).to_contain_text("Footprints cannot be shown")
    page.close()


def test_marks_are_saved_at_once_and_shown_again(
    browser: Browser, server: ViewerServer, results: Path
) -> None:
    file = results / "town_marks.gpkg"
    for name, press, marks in [
        ("Wrong", "true", ["wrong"]),
        ("Right", "true", ["keep"]),
        ("Right", "false", []),
    ]:
        page, problems = opened(browser, server.url)
        page.mouse.click(*place(page, 120, 215))
        page.get_by_role("button", name=name).click()
        expect(page.locator(".leaflet-popup")).to_have_count(0)
        assert [each.mark for each in read_marks(file)] == marks
        right, wrong = (int(mark in marks) for mark in ("keep", "wrong"))
        told = f"Marked: {right} right, {wrong} wrong" if marks else ""
        expect(page.locator("#marked")).to_have_text(told)
        page.mouse.click(*place(page, 120, 215))
        expect(page.get_by_role("button", name=name)).to_have_attribute("aria-pressed", press)
        assert problems == []
        page.close()


def test_a_mark_that_cannot_be_saved_is_said_and_not_shown(
    browser: Browser, server: ViewerServer, results: Path
) -> None:
    (results / "town_marks.gpkg").mkdir()
    page, _ = opened(browser, server.url)
    expect(page.locator("#status")).to_contain_text("Footprints cannot be shown")
    page.close()


@pytest.fixture
def compared(results: Path, scene: Path, tmp_path: Path) -> Iterator[ViewerServer]:
    """The prediction, and another one in which only the first house is found, but surely."""
    other = tmp_path / "other"
    predict_raster(Brightness(), scene, other, tile=256, polygons=PolygonConfig(0.9))
    one, two = (find_predictions(each, [str(scene)])[0] for each in (results, other))
    with ViewerServer(one, others=two) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_two_predictions_are_compared_at_a_divider(
    browser: Browser, compared: ViewerServer
) -> None:
    page, problems = opened(browser, compared.url)
    expect(page.locator("#status")).to_have_text("2 and 1 footprints in view")
    expect(page.locator("#choose")).to_be_hidden()
    for share, buildings in [("1", 1), ("0", 0)]:
        page.locator("#divider").fill(share)
        page.mouse.click(*place(page, 320, 215))
        expect(page.locator(".leaflet-popup")).to_have_count(buildings)
        page.keyboard.press("Escape")
    page.mouse.click(*place(page, 120, 215))
    page.get_by_role("button", name="Wrong").click()
    expect(page.locator(".leaflet-popup")).to_have_count(0)
    second = compared.shown[1].prediction.marks
    assert [each.mark for each in read_marks(second)] == ["wrong"]
    assert not compared.shown[0].prediction.marks.exists()
    handle = page.locator("#divider").bounding_box()
    assert handle is not None
    page.mouse.move(handle["x"] + handle["height"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    page.mouse.move(640, handle["y"] + 5)
    page.mouse.up()
    assert float(page.locator("#divider").input_value()) == pytest.approx(0.5, abs=0.03)
    assert problems == []
    page.close()


def dragged(page: Page, col: int, row: int, to: tuple[float, float]) -> None:
    """Drag the map until a pixel of the scene lies at a place of it, from its upper left corner."""
    box = page.locator("#map").bounding_box()
    assert box is not None
    x, y = place(page, col, row)
    start = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    end = start[0] + box["x"] + to[0] - x, start[1] + box["y"] + to[1] - y
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=20)
    page.wait_for_timeout(300)  # so that the map does not go on by itself
    page.mouse.up()
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)


@pytest.mark.parametrize("width", [390, 1280])
def test_a_popup_near_the_edge_stays(browser: Browser, server: ViewerServer, width: int) -> None:
    page, problems = opened(browser, server.url, viewport={"width": width, "height": 700})
    dragged(page, 120, 215, (110, 30))  # between the controls
    page.mouse.click(*place(page, 120, 215))
    page.wait_for_timeout(1500)
    expect(page.locator(".leaflet-popup")).to_have_count(1)
    page.get_by_role("button", name="Right").click()
    expect(page.locator("#marked")).to_have_text("Marked: 1 right, 0 wrong")
    assert problems == []
    page.close()


def test_marks_are_given_without_a_pointer(browser: Browser, server: ViewerServer) -> None:
    page, problems = opened(browser, server.url)
    page.locator("#map").focus()
    page.keyboard.press("r")
    expect(page.locator("#status")).to_contain_text("No footprint under the cross")
    box = page.locator("#map").bounding_box()
    assert box is not None
    dragged(page, 120, 215, (box["width"] / 2, box["height"] / 2))
    page.locator("#map").focus()
    for key, text in (("w", "0 right, 1 wrong"), ("r", "1 right, 0 wrong")):
        page.keyboard.press(key)
        expect(page.locator("#marked")).to_have_text(f"Marked: {text}")
    assert problems == []
    page.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_two_predictions_fit_and_say_which_is_which(
    browser: Browser, compared: ViewerServer, width: int
) -> None:
    page, problems = opened(browser, compared.url, viewport={"width": width, "height": 800})
    expect(page.locator("#left")).to_have_text("results")
    expect(page.locator("#right")).to_have_text("other")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert problems == []
    page.close()
