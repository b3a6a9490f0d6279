"""Days of scenes, by their lists and by their tags."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from rhm.inference.scene_lists.scene_dates import date_of, day_of
from rhm.inference.scene_lists.scene_names import NamedScene
from tests.inference.scenes import write_scene


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2024-05-01T10:00:00Z", "2024-05-01"),
        ("2019:12:31 23:59:59", "2019-12-31"),
        ("2024-02-30", None),
        ("20240501", None),
        ("", None),
        (None, None),
        (20240501, None),
    ],
)
def test_a_time_begins_with_its_day(text: object, day: str | None) -> None:
    assert day_of(text) == day


def test_the_list_is_asked_first_then_the_tags(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", np.zeros((8, 8, 1), np.uint8))
    assert date_of(path) is None
    with rasterio.open(path, "r+") as raster:
        raster.update_tags(TIFFTAG_DATETIME="2020:01:02 00:00:00")
    assert date_of(path) == "2020-01-02"
    with rasterio.open(path, "r+") as raster:
        raster.update_tags(ns="IMAGERY", ACQUISITIONDATETIME="2019-03-04 10:11:12")
    assert date_of(path) == "2019-03-04"
    assert date_of(NamedScene(str(path), "a", "2018-01-01")) == "2018-01-01"
    assert date_of(tmp_path / "none.tif") is None
