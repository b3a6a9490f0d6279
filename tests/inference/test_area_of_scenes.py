"""Predictions of an area of interest are those of the whole scene, cut to the area."""

from collections import Counter
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import torch
from numpy.typing import NDArray
from rasterio.features import geometry_mask

from rhm.data.rasters.raster import Raster
from rhm.data.vectors.area_of_interest import AreaOfInterest, read_area
from rhm.errors import OutputError, OutsideAreaError
from rhm.inference.many_scenes import predict_scenes
from rhm.inference.prediction_config import PredictionConfig
from rhm.inference.scenes import predict_raster
from rhm.inference.settings.polygon_config import PolygonConfig
from tests.inference.networks import built
from tests.inference.scenes import UTM, Bright, spec, write_scene

LSHAPE = shapely.box(500_020, 4_999_900, 500_140, 4_999_980) - shapely.box(
    500_020, 4_999_900, 500_090, 4_999_950
)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A scene of 300 x 400 pixels of noise."""
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    return write_scene(tmp_path / "town.tif", noise)


@pytest.fixture
def area(tmp_path: Path) -> AreaOfInterest:
    """An area in the shape of an L, in degrees."""
    path = tmp_path / "area.geojson"
    gpd.GeoSeries([LSHAPE.segmentize(5)], crs=UTM).to_crs("EPSG:4326").to_file(path)
    return read_area(path)


def read(path: Path) -> tuple[NDArray[Any], Any]:
    with rasterio.open(path) as raster:
        return raster.read(1), raster.transform


# No pixel reaches the threshold: tracing thousands of specks would take most of the time.
OPTIONS: dict[str, Any] = {"tile": 64, "overlap": 16, "polygons": PolygonConfig(threshold=0.999)}


@pytest.mark.parametrize(("gsd_m", "dtype"), [(0.5, "uint8"), (0.8, "float32"), (0.3, "float32")])
def test_an_area_has_the_probabilities_of_the_whole_scene(
    scene: Path, area: AreaOfInterest, tmp_path: Path, gsd_m: float, dtype: str
) -> None:
    network = built(
        **{
            k: v
            for k, v in vars(spec(gsd_m=gsd_m)).items()
            if k in ("mean", "std", "scalings", "gsd_m")
        }
    )
    whole = predict_raster(network, scene, tmp_path / "whole", dtype=dtype, **OPTIONS)
    part = predict_raster(network, scene, tmp_path / "part", dtype=dtype, aoi=area, **OPTIONS)
    all_of_it, grid = read(whole.probability)
    cut, moved = read(part.probability)
    col, row = (round(each) for each in ~grid @ (moved.c, moved.f))
    assert moved.almost_equals(grid @ rasterio.Affine.translation(col, row))
    assert (row, col, *cut.shape) == (40, 40, 160, 240)
    there = all_of_it[row : row + cut.shape[0], col : col + cut.shape[1]]
    outside = geometry_mask([LSHAPE], cut.shape, moved)
    nodata = 255 if dtype == "uint8" else -1
    assert (cut[outside] == nodata).mean() > 0.99  # the edge in degrees is not the same line
    inside = cut != nodata
    assert inside.mean() > 0.5
    limit = 1 if dtype == "uint8" else 1e-5
    assert np.abs(cut[inside].astype(float) - there[inside].astype(float)).max() <= limit


def test_only_what_touches_the_area_is_read_and_predicted(
    scene: Path, area: AreaOfInterest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: Counter[str] = Counter()
    real = Raster.read

    def counting(self: Raster, window: Any = None) -> Any:
        counted["read"] += 1
        return real(self, window)

    class Counting(Bright):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            counted["predicted"] += len(images)
            return super().forward(images)

    monkeypatch.setattr(Raster, "read", counting)
    network = Counting(spec())
    predict_raster(network, scene, tmp_path / "part", aoi=area, **OPTIONS)
    part = dict(counted)
    counted.clear()
    predict_raster(network, scene, tmp_path / "whole", **OPTIONS)
    assert counted["predicted"] == 6 * 8
    # Five rows of six tiles, without two rows of three in the corner that the L leaves out.
    assert part["predicted"] == 24
    assert part["read"] <= part["predicted"] + 2


def test_footprints_are_cut_to_the_area(tmp_path: Path, houses: NDArray[np.uint8]) -> None:
    scene = write_scene(tmp_path / "two.tif", houses)
    west = read_area(f"500000,4999900,500020,5000000,{UTM}")
    found = predict_raster(Bright(spec()), scene, tmp_path / "out", aoi=west)
    assert found.count == 1
    (footprint,) = gpd.read_file(found.buildings).geometry
    assert footprint.bounds == (500_015.0, 4_999_980.0, 500_020.0, 4_999_990.0)


def test_the_area_belongs_to_the_identity_of_results(
    scene: Path, area: AreaOfInterest, tmp_path: Path
) -> None:
    network = built()
    options = OPTIONS | {"resume": True, "resample": False}
    predict_raster(network, scene, tmp_path, aoi=area, **options)
    before = (tmp_path / "town_probability.tif").read_bytes()
    again = predict_raster(network, scene, tmp_path, aoi=area, **options)
    assert "the results already existed" in again.notes
    other = predict_raster(network, scene, tmp_path, **options)
    assert "the results already existed" not in other.notes
    assert (tmp_path / "town_probability.tif").read_bytes() != before


def test_an_interrupted_area_is_continued_to_the_same_bytes(
    scene: Path, area: AreaOfInterest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = built()
    options = OPTIONS | {"resample": False, "aoi": area}
    whole = predict_raster(network, scene, tmp_path / "whole", **options)
    steps = 0

    def interrupting(_: int) -> None:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_raster(network, scene, tmp_path / "part", on_progress=interrupting, **options)
    part = predict_raster(network, scene, tmp_path / "part", resume=True, **options)
    for name in ("probability", "mask", "buildings"):
        assert getattr(whole, name).read_bytes() == getattr(part, name).read_bytes()


def test_in_a_batch_scenes_outside_are_told_from_failures(
    scene: Path, area: AreaOfInterest, tmp_path: Path
) -> None:
    far = write_scene(
        tmp_path / "far.tif",
        np.zeros((50, 50, 3), np.uint8),
        transform=rasterio.transform.from_origin(600_000, 5_000_000, 0.5, 0.5),
    )
    config = PredictionConfig(aoi=area, tile=64, overlap=16)
    results = predict_scenes(Bright(spec()), [str(far), str(scene)], tmp_path / "out", config)
    assert [result.is_outside for result in results] == [True, False]
    assert results[1].prediction is not None
    assert "far.tif lies outside the area of interest" in results[0].failure
    with pytest.raises(OutsideAreaError):
        predict_raster(Bright(spec()), far, tmp_path / "out", aoi=area)


def test_results_of_more_than_the_area_are_kept_unless_told_otherwise(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    scene, out = write_scene(tmp_path / "x.tif", houses), tmp_path / "out"
    west = read_area(f"500000,4999900,500020,5000000,{UTM}")
    more = read_area(f"500000,4999900,500030,5000000,{UTM}")
    east = read_area(f"500030,4999900,500050,5000000,{UTM}")

    def predicted(**options: Any) -> dict[str, bytes]:
        predict_raster(Bright(spec()), scene, out, **options)
        return {path.name: path.read_bytes() for path in out.iterdir()}

    whole = predicted()
    for smaller in (west, east):
        with pytest.raises(OutputError, match="ground outside the area of interest, which would"):
            predicted(aoi=smaller)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    part = predicted(aoi=west, overwrite=True)
    assert predicted(aoi=west) == part
    assert predicted(aoi=more) != part
    with pytest.raises(OutputError, match="ground outside the area of interest"):
        predicted(aoi=east)
    assert predicted() == whole
