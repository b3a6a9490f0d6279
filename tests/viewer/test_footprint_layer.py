"""Footprints in pixels, found by the displayed part of the raster."""

import json
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pandas
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint

from rhm.errors import VectorError
from rhm.inference import predict_raster
from rhm.viewer.footprint_layer import MOST, FootprintLayer
from rhm.viewer.predictions import find_predictions
from tests.viewer.conftest import Brightness


def test_footprints_are_told_in_pixels(results: Path) -> None:
    (found,), _ = find_predictions(results)
    layer = FootprintLayer(found)
    assert len(layer) == 2
    answer = json.loads(layer.within(90, 190, 150, 240))
    assert answer["count"] == 1
    (footprint,) = answer["footprints"]
    assert footprint["score"] > 0.9
    assert footprint["area_m2"] == pytest.approx(40 * 30 / 4, rel=0.05)
    (ring,) = footprint["rings"]
    assert shapely.Polygon(ring).bounds == pytest.approx((100, 200, 140, 230), abs=0.5)
    assert json.loads(layer.within(500, 0, 600, 100)) == {"count": 0, "footprints": []}


@pytest.mark.parametrize("suffix", [".parquet", ".fgb", ".geojson"])
def test_footprints_of_every_format_lie_in_the_same_place(
    results: Path, scene: Path, tmp_path: Path, suffix: str
) -> None:
    (found,), _ = find_predictions(results)
    expected = json.loads(FootprintLayer(found).within(0, 0, 900, 600))
    frame = geopandas.read_file(found.buildings)
    assert found.buildings is not None
    other = tmp_path / f"x{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(other)
    else:
        (frame.to_crs(4326) if suffix == ".geojson" else frame).to_file(other)
    layer = FootprintLayer(replace(found, buildings=other))
    answer = json.loads(layer.within(0, 0, 900, 600))
    key = lambda each: each["score"]  # noqa: E731
    for ours, theirs in zip(
        sorted(answer["footprints"], key=key), sorted(expected["footprints"], key=key), strict=True
    ):
        assert shapely.Polygon(ours["rings"][0]).equals_exact(
            shapely.Polygon(theirs["rings"][0]), 0.05, normalize=True
        )


def test_ground_control_points_place_footprints_too(tmp_path: Path) -> None:
    gcps = [
        GroundControlPoint(row, col, 500_000 + col * 0.5 + row * 0.1, 5_000_000 - row * 0.5)
        for row in (0, 600)
        for col in (0, 900)
    ]
    pixels = np.full((600, 900, 1), 20, dtype=np.uint8)
    pixels[200:230, 100:140] = 250
    with rasterio.open(
        tmp_path / "town.tif", "w", driver="GTiff", height=600, width=900, count=1,
        dtype="uint8", gcps=gcps, crs="EPSG:32633",
    ) as raster:  # fmt: skip
        raster.write(pixels[..., 0], 1)
    predict_raster(Brightness(), tmp_path / "town.tif", tmp_path / "out", tile=256)
    (found,), _ = find_predictions(tmp_path / "out")
    (footprint,) = json.loads(FootprintLayer(found).within(0, 0, 900, 600))["footprints"]
    assert shapely.Polygon(footprint["rings"][0]).bounds == pytest.approx(
        (100, 200, 140, 230), abs=0.5
    )


def test_more_footprints_than_can_be_told_apart_are_only_counted(results: Path) -> None:
    (found,), _ = find_predictions(results)
    frame = geopandas.read_file(found.buildings)
    many = geopandas.GeoDataFrame(geometry=[frame.geometry.iloc[0]] * (MOST + 1), crs=frame.crs)
    many.to_parquet(results / "many.parquet")
    layer = FootprintLayer(replace(found, buildings=results / "many.parquet"))
    assert json.loads(layer.within(0, 0, 900, 600)) == {"count": MOST + 1, "footprints": []}


def test_footprints_without_geometry_are_one_error(results: Path) -> None:
    (found,), _ = find_predictions(results)
    assert found.buildings is not None
    pyogrio.write_dataframe(pandas.DataFrame({"score": [1.0]}), results / "none.gpkg")
    with pytest.raises(VectorError, match="no geometry"):
        FootprintLayer(replace(found, buildings=results / "none.gpkg"))


def test_footprints_without_numbers_are_shown_without(results: Path) -> None:
    (found,), _ = find_predictions(results)
    frame = geopandas.read_file(found.buildings)[["geometry"]].assign(score="<b>high</b>")
    frame.to_parquet(results / "odd.parquet")
    layer = FootprintLayer(replace(found, buildings=results / "odd.parquet"))
    (first, _) = json.loads(layer.within(0, 0, 900, 600))["footprints"]
    assert (first["score"], first["area_m2"]) == (None, None)


@pytest.mark.parametrize(
    "written",
    [
        "<OGRVRTDataSource><OGRVRTLayer name='x'><SrcDataSource>/etc</SrcDataSource>"
        "</OGRVRTLayer></OGRVRTDataSource>",
        "",
        "fgb",
    ],
    ids=["virtual", "empty", "another format"],
)
def test_what_is_not_the_format_that_its_name_says_is_not_opened(
    results: Path, written: str
) -> None:
    (found,), _ = find_predictions(results)
    (results / "town_buildings.gpkg").write_text(written)
    with pytest.raises(VectorError, match="is not GPKG"):
        FootprintLayer(found)


def test_a_prediction_without_footprints_is_refused(results: Path) -> None:
    (found,), _ = find_predictions(results)
    with pytest.raises(VectorError, match="town has no footprints"):
        FootprintLayer(replace(found, buildings=None))


def test_footprints_within_a_box_are_those_that_shapely_says_touch_it(results: Path) -> None:
    (found,), _ = find_predictions(results)
    layer = FootprintLayer(found)
    everything = json.loads(layer.within(0, 0, 900, 600))["footprints"]
    envelopes = [shapely.Polygon(each["rings"][0]).envelope for each in everything]

    @given(st.tuples(*[st.integers(-50, 950)] * 4))
    def check(box: tuple[int, int, int, int]) -> None:
        left, right, top, bottom = *sorted(box[:2]), *sorted(box[2:])
        asked = shapely.box(left, top, right, bottom)
        pairs = zip(everything, envelopes, strict=True)
        touching = [each for each, envelope in pairs if envelope.intersects(asked)]
        answer = json.loads(layer.within(left, top, right, bottom))
        assert answer == {"count": len(touching), "footprints": touching}

    check()


def test_marks_of_earlier_footprints_are_shown_and_can_be_taken_away(results: Path) -> None:
    (found,), _ = find_predictions(results)
    layer = FootprintLayer(found)
    layer.mark(0, "wrong")
    assert found.buildings is not None
    frame = geopandas.read_file(found.buildings)
    found.buildings.unlink()
    frame.geometry = frame.geometry.buffer(0.3)
    frame.to_file(found.buildings)
    again = FootprintLayer(found)
    assert len(again) == 2
    answer = json.loads(again.within(0, 0, 900, 600))
    assert [(each["id"], each["mark"], each["old"]) for each in answer["footprints"]] == [
        (0, None, False),
        (1, None, False),
        (2, "wrong", True),
    ]
    assert json.loads(again.mark(2, None)) == {"keep": 0, "wrong": 0}
    assert json.loads(again.within(0, 0, 900, 600))["count"] == 2
