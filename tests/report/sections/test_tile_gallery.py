"""The gallery: two methods side by side on each tile, every picture embedded once."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rhm.errors import ConfigError
from rhm.report.sections.tile_gallery import section
from tests.report.conftest import MakeRun
from tests.report.sections.shown import HOSTILE, Shown, check_harmless, compared
from tests.report.test_thresholds import edited


def with_example(run: Path, domain: int = 0, **changes: Any) -> Path:
    """Change the example of a run's domain."""
    path = run / "evaluation" / "scores.json"
    (example,) = json.loads(path.read_text())["domains"][domain]["examples"]
    return edited(run, domain, examples=[example | changes])


def repainted(run: Path, level: int) -> Path:
    """Give a run another picture of the same size."""
    picture = run / "evaluation" / "examples" / "a.png"
    cv2.imwrite(str(picture), np.full((6, 8, 3), level, np.uint8))
    return run


def two(make_run: MakeRun) -> tuple[Path, Path]:
    base = make_run("base", {"city": 0.2}, method="none")
    return base, make_run("best", {"city": 0.4}, method="rhm")


def test_a_tile_is_shown_as_the_best_method_and_the_baseline_saw_it(make_run: MakeRun) -> None:
    runs = [*two(make_run), make_run("middle", {"city": 0.3}, method="gamma")]
    shown = Shown(section(compared(*runs)))
    assert shown.captions == ["city_0"]
    assert shown.of("p")[1:] == [
        "rhm IoU 0.40 its best tile, seed 0",
        "none IoU 0.20 its best tile, seed 0",
    ]
    assert "pair two" in shown.values("class")


def test_what_only_one_of_them_has_is_shown_alone(make_run: MakeRun) -> None:
    base, best = two(make_run)
    with_example(best, name="city_7", kind="worst")
    shown = Shown(section(compared(base, best)))
    assert shown.captions == ["city_7", "city_0"]
    assert "pair two" not in shown.values("class")


def test_a_picture_that_two_show_is_embedded_once(make_run: MakeRun) -> None:
    base, best = two(make_run)
    same = Shown(section(compared(base, best)))
    assert same.tags.count("image") == same.tags.count("use") == 1
    (identifier,) = (each for each in same.values("id") if each.startswith("tile-"))
    assert f"#{identifier}" in same.values("href")
    repainted(best, 200)
    different = Shown(section(compared(base, best)))
    assert (different.tags.count("image"), different.tags.count("use")) == (2, 0)
    identifiers = [each for each in different.values("id") if each.startswith("tile-")]
    assert len(set(identifiers)) == 2


def test_outlines_are_drawn_and_described_for_those_who_see_no_picture(make_run: MakeRun) -> None:
    run = with_example(make_run("a", {"city": 0.25}), prediction=[])
    built = section(compared(run))
    shown = Shown(built)
    assert "city_0: buildings on the ground and as none sees them, IoU 0.250" in shown.values(
        "aria-label"
    )
    ((_, ((_, (view,)),)),) = built.view["galleries"][0]["blocks"]
    assert view["truth"] == "M1 1L5 1L5 4L1 4Z"
    assert view["prediction"] == ""


def test_the_numbers_name_the_tiles_and_hold_no_pictures(make_run: MakeRun) -> None:
    rows = section(compared(*two(make_run))).numbers["gallery"]
    assert [(row["tile"], row["method"], row["run"], row["kind"], row["iou"]) for row in rows] == [
        ("city_0", "rhm", "best", "best", 0.4),
        ("city_0", "none", "base", "best", 0.2),
    ]
    assert len(json.dumps(rows)) < 500


def test_without_examples_there_is_no_gallery(make_run: MakeRun) -> None:
    built = section(compared(edited(make_run("a", {"city": 0.2}), 0, examples=[])))
    assert not built.shown
    assert built.numbers == {"gallery": []}


def test_each_set_of_sources_names_the_methods_it_shows(make_run: MakeRun) -> None:
    runs = [
        make_run(f"{source}-{method}", {"city": iou}, method=method, sources=(source,))
        for source in ("town", "port")
        for method, iou in (("none", 0.2), ("rhm", 0.4))
    ]
    headings = Shown(section(compared(*runs))).of("h3")
    assert headings == ["Trained on port: rhm and none", "Trained on town: rhm and none"]


@pytest.mark.parametrize("content", [None, b"GIF89a", b""])
def test_a_picture_that_is_not_there_or_is_none_is_refused(
    make_run: MakeRun, content: bytes | None
) -> None:
    run = make_run("a", {"city": 0.2})
    picture = run / "evaluation" / "examples" / "a.png"
    picture.unlink()
    if content is not None:
        picture.write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.png is (missing|not a PNG)") as caught:
        section(compared(run))
    assert "\n" not in str(caught.value)


def test_hostile_names_are_text(make_run: MakeRun) -> None:
    run = make_run("a", {HOSTILE: 0.2}, method=HOSTILE, sources=(HOSTILE,), folder="a")
    with_example(run, name=HOSTILE)
    other = make_run("b", {"city": 0.3}, sources=("port",))
    shown = Shown(section(compared(run, other)))
    check_harmless(shown)
    assert HOSTILE in shown.captions
    assert HOSTILE in shown.of("h4")
    assert f"Trained on {HOSTILE}: {HOSTILE}" in shown.of("h3")
    assert any(label.startswith(f"{HOSTILE}: buildings") for label in shown.values("aria-label"))


def test_a_tile_that_another_model_picked_is_not_called_its_own(make_run: MakeRun) -> None:
    base, best = two(make_run)
    with_example(base, picked=True)
    built = section(compared(base, best))
    assert Shown(built).of("p")[1:] == [
        "rhm IoU 0.40 its best tile, seed 0",
        "none IoU 0.20 seed 0",
    ]
    assert [row["picked"] for row in built.numbers["gallery"]] == [False, True]
