from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import shapely
from rasterio.transform import Affine
from shapely.affinity import affine_transform

from rhm.data.footprints import burn
from rhm.data.labels import IGNORE, Label, parse_building_values
from rhm.data.rasters.raster import Raster
from rhm.data.rasters.windows import Window, partition
from rhm.errors import RasterError, VectorError
from tests.data.imagery import HALF_METRE, UTM, noise, warped, warped_gcps, write_raster

TRUTH = np.zeros((60, 80), dtype=np.uint8)
TRUTH[5:25, 10:40] = 1
TRUTH[31:52, 60:80] = 1
BOXES = [shapely.box(10, 5, 40, 25), shapely.box(60, 31, 95, 52), shapely.box(200, 5, 210, 9)]
SUFFIXES = [".geojson", ".gpkg", ".shp", ".fgb", ".parquet"]


def _image(folder: Path, **options: Any) -> Path:
    return write_raster(folder / "image.tif", noise(60, 80), **options)


def _vectors(path: Path, transform: Affine = HALF_METRE, crs: str = UTM) -> Path:
    placed = [affine_transform(each, transform.to_shapely()) for each in BOXES]
    frame = geopandas.GeoDataFrame(geometry=placed, crs=UTM).to_crs(crs)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    return path


def _truth(image: Path, label: Path, scale: float = 1.0) -> Any:
    with Raster(image, scale=scale) as raster, Label(label, raster) as truth:
        return truth.read()


@pytest.mark.parametrize(
    "mask",
    [TRUTH, TRUTH * 255, TRUTH * 3000.0, np.dstack([TRUTH * 0, TRUTH * 0, TRUTH * 90])],
    ids=["0/1", "0/255", "16 bit", "blue"],
)
def test_everything_but_zero_is_building(tmp_path: Path, mask: Any) -> None:
    stored = mask.astype(np.uint16) if mask.dtype == float else mask
    label = write_raster(tmp_path / "label.png", stored, crs=None)
    truth = _truth(_image(tmp_path), label)
    assert truth.dtype == np.uint8
    np.testing.assert_array_equal(truth, TRUTH)


@pytest.mark.parametrize(("nodata", "unknown"), [(0, 0), (255, IGNORE), (7, IGNORE)])
def test_a_mask_may_declare_what_it_does_not_know(
    tmp_path: Path, nodata: int, unknown: int
) -> None:
    mask = TRUTH.copy()
    mask[40:] = nodata
    expected = TRUTH.copy()
    expected[40:] = unknown
    label = write_raster(tmp_path / "label.tif", mask, nodata=nodata)
    np.testing.assert_array_equal(_truth(_image(tmp_path), label), expected)


def test_alpha_is_not_a_building(tmp_path: Path) -> None:
    mask = np.dstack([TRUTH * 255, np.full_like(TRUTH, 255)])
    label = write_raster(tmp_path / "label.tif", mask, alpha=True)
    np.testing.assert_array_equal(_truth(_image(tmp_path), label), TRUTH)


def test_a_mask_of_another_size_is_refused_by_both_names(tmp_path: Path) -> None:
    label = write_raster(tmp_path / "label.png", TRUTH[:, :-1], crs=None)
    image = _image(tmp_path)
    with pytest.raises(RasterError) as error:
        _truth(image, label)
    assert str(error.value) == (
        f"label {label} is 79 x 60 pixels, but its image {image} is 80 x 60: use a mask of the "
        "same size"
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", "EPSG:3857"])
def test_footprints_in_any_crs_are_laid_over_the_image(
    tmp_path: Path, suffix: str, crs: str
) -> None:
    label = _vectors(tmp_path / f"label{suffix}", crs=crs)
    image = _image(tmp_path)
    np.testing.assert_array_equal(_truth(image, label), TRUTH)
    with Raster(image) as raster, Label(label, raster) as truth:
        assert truth.footprints is not None
        assert truth.footprints.crs == UTM
        assert len(truth.footprints) == 2


@pytest.mark.parametrize(
    "transform",
    [
        HALF_METRE @ Affine.scale(1, -1),
        HALF_METRE @ Affine.scale(-1, 1),
        HALF_METRE @ Affine.rotation(30),
    ],
    ids=["south up", "mirrored", "rotated"],
)
def test_images_lie_any_way_round(tmp_path: Path, transform: Affine) -> None:
    label = _vectors(tmp_path / "label.gpkg", transform, "EPSG:4326")
    np.testing.assert_array_equal(_truth(_image(tmp_path, transform=transform), label), TRUTH)


def test_footprints_want_an_image_with_a_crs(tmp_path: Path) -> None:
    label = _vectors(tmp_path / "label.gpkg")
    image = _image(tmp_path, crs=None)
    with pytest.raises(VectorError, match="has no coordinate reference system") as error:
        _truth(image, label)
    assert str(image) in str(error.value)
    assert str(label) in str(error.value)


def test_an_empty_geojson_is_no_buildings(tmp_path: Path) -> None:
    label = tmp_path / "label.geojson"
    label.write_text('{"type": "FeatureCollection", "features": []}')
    image = _image(tmp_path)
    assert not _truth(image, label).any()
    with Raster(image) as raster, Label(label, raster) as truth:
        assert not truth.read(Window(-5, -5, 20, 20)).any()


@pytest.mark.parametrize("name", ["label.gpkg", "label.png"])
def test_a_missing_label_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises((VectorError, RasterError), match=name) as error:
        _truth(_image(tmp_path), tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.7, 1.6])
@pytest.mark.parametrize("kind", ["mask", "vector"])
def test_windows_show_what_the_whole_shows(tmp_path: Path, kind: str, scale: float) -> None:
    label = (
        _vectors(tmp_path / "label.gpkg", crs="EPSG:4326")
        if kind == "vector"
        else write_raster(tmp_path / "label.png", TRUTH * 255, crs=None)
    )
    with (
        Raster(_image(tmp_path), scale=scale) as raster,
        Label(label, raster) as truth,
    ):
        whole = truth.read()
        assert whole.shape == (raster.info.height, raster.info.width)
        for window in partition(*whole.shape, 17):
            part = whole[window.row :, window.col :][: window.height, : window.width]
            np.testing.assert_array_equal(truth.read(window), part)
        beyond = truth.read(Window(-3, -4, 10, 10))
        assert not beyond[:3].any()
        assert not beyond[:, :4].any()
        np.testing.assert_array_equal(beyond[3:, 4:], whole[:7, :6])


@pytest.mark.parametrize("high", [1, 255])
@pytest.mark.parametrize("kind", ["mask", "vector"])
def test_halved_labels_are_what_most_of_a_pixel_shows(tmp_path: Path, kind: str, high: int) -> None:
    even = np.zeros((60, 80), dtype=np.uint8)
    even[6:26, 10:40] = 1
    label = tmp_path / ("label.gpkg" if kind == "vector" else "label.png")
    if kind == "vector":
        placed = affine_transform(shapely.box(10, 6, 40, 26), HALF_METRE.to_shapely())
        geopandas.GeoDataFrame(geometry=[placed], crs=UTM).to_file(label)
    else:
        write_raster(label, even * high, crs=None)
    np.testing.assert_array_equal(_truth(_image(tmp_path), label, scale=0.5), even[::2, ::2])


@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0])
def test_footprints_lie_where_control_points_say(tmp_path: Path, scale: float) -> None:
    boxes = np.array([shapely.box(left, 6, left + 12, 26) for left in (0, 20, 34, 66)])
    placed = shapely.transform(boxes, lambda places: warped(places, 80))
    label = tmp_path / "label.gpkg"
    geopandas.GeoDataFrame(geometry=placed, crs=UTM).to_crs("EPSG:4326").to_file(label)
    image = _image(tmp_path, gcps=warped_gcps(60, 80))
    height, width = round(60 * scale), round(80 * scale)
    truth = burn(boxes, Affine.scale(1 / scale), height, width)
    with Raster(image, scale=scale) as raster, Label(label, raster) as found:
        np.testing.assert_array_equal(found.read(), truth)
        np.testing.assert_array_equal(found.read_numbers() > 0, truth == 1)
        assert len(np.unique(found.read_numbers())) == 1 + len(boxes)
        for window in partition(height, width, 17):
            part = truth[window.row :, window.col :][: window.height, : window.width]
            np.testing.assert_array_equal(found.read(window), part)
            np.testing.assert_array_equal(found.read_numbers(window) > 0, part == 1)
        assert found.outlines is not None
        away = shapely.hausdorff_distance(
            found.outlines, shapely.transform(boxes, lambda places: places * scale)
        )
        assert away.max() < 0.3 * scale


def test_footprints_that_control_points_fold_stay_valid(tmp_path: Path) -> None:
    # Its longest edge is straight on the ground and in pixels, and its last vertex in between.
    folded = shapely.Polygon([(0, 0), (80, 58), (10, 58), (41, 29), (0, 50)])
    placed = shapely.transform(folded, lambda places: warped(places, 80))
    assert (folded.is_valid, placed.is_valid) == (False, True)
    label = tmp_path / "label.gpkg"
    geopandas.GeoDataFrame(geometry=[placed], crs=UTM).to_file(label)
    image = _image(tmp_path, gcps=warped_gcps(60, 80))
    with Raster(image) as raster, Label(label, raster) as found:
        assert found.outlines is not None
        assert shapely.is_valid(found.outlines).all()
        assert {each.geom_type for each in found.outlines} == {"Polygon"}
        numbers = found.read_numbers()
        np.testing.assert_array_equal(numbers > 0, found.read() == 1)
        assert len(np.unique(numbers)) == 2
        assert found.read().sum() == pytest.approx(shapely.make_valid(folded).area, rel=0.05)


@pytest.mark.shared
def test_real_footprints_agree_with_real_masks(shared_data: Path) -> None:
    folder = shared_data / "spacenet2_vegas"
    for label in sorted((folder / "footprints").glob("*.geojson")):
        image = folder / "images" / f"{label.stem}.tif"
        burnt, mask = _truth(image, label), _truth(image, folder / "masks" / f"{label.stem}.png")
        assert (burnt != mask).mean() < 0.01, label.name


@pytest.mark.parametrize("metres", [20.0, 200_000.0])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_a_mask_beside_its_image_is_refused(tmp_path: Path, metres: float, scale: float) -> None:
    moved = Affine.translation(metres, 0.0) @ HALF_METRE
    label = write_raster(tmp_path / "label.tif", TRUTH, transform=moved)
    with pytest.raises(RasterError, match=rf"lies {2 * metres:.0f} pixels .* beside its image"):
        _truth(_image(tmp_path), label, scale)


def test_a_mask_may_lie_half_a_pixel_aside_or_have_another_crs(tmp_path: Path) -> None:
    image = _image(tmp_path)
    aside = write_raster(
        tmp_path / "aside.tif", TRUTH, transform=HALF_METRE @ Affine.translation(0.5, -0.5)
    )
    # The neighbouring zone: the same corner, with axes turned by two degrees.
    to_other = pyproj.Transformer.from_crs(UTM, "EPSG:32632", always_xy=True)
    ground = [HALF_METRE @ place for place in ((0, 0), (80, 0), (0, 60))]
    corners = np.array([to_other.transform(*place) for place in ground])
    across, down = (corners[1] - corners[0]) / 80, (corners[2] - corners[0]) / 60
    turned = Affine(across[0], down[0], corners[0][0], across[1], down[1], corners[0][1])
    other = write_raster(tmp_path / "other.tif", TRUTH, crs="EPSG:32632", transform=turned)
    for label in (aside, other):
        np.testing.assert_array_equal(_truth(image, label), TRUTH)


@pytest.mark.parametrize("scale", [3.0, 1.0, 0.5])
def test_a_mask_fits_at_every_scale_or_at_none(tmp_path: Path, scale: float) -> None:
    for pixels, fits in ((0.75, True), (2.0, False)):
        aside = HALF_METRE @ Affine.translation(pixels, pixels)
        label = write_raster(tmp_path / "label.tif", TRUTH, transform=aside)
        if fits:
            assert _truth(_image(tmp_path), label, scale).any()
        else:
            with pytest.raises(RasterError, match=r"lies 3 pixels \(1\.41 m\) beside its image"):
                _truth(_image(tmp_path), label, scale)


def test_no_footprint_goes_on_beyond_the_image(tmp_path: Path) -> None:
    around = Window(-20, -20, 100, 140)
    label = _vectors(tmp_path / "label.gpkg")
    with Raster(_image(tmp_path)) as raster, Label(label, raster) as truth:
        np.testing.assert_array_equal(truth.read(around), np.pad(TRUTH, [(20, 20), (20, 40)]))
        np.testing.assert_array_equal(truth.read_numbers(around) > 0, truth.read(around) > 0)
        assert not truth.read(Window(31, 80, 20, 20)).any()


CLASSES = np.where(TRUTH, 3, np.arange(80, dtype=np.uint8) % 3)
ISPRS = np.where(TRUTH[..., None] == 1, (0, 0, 255), (0, 255, 255)).astype(np.uint8)


@pytest.mark.parametrize(
    ("mask", "values", "nodata"),
    [
        (CLASSES, "3", None),
        (1 - TRUTH, "0", None),
        ((1 - TRUTH) * 255, "0", 0),
        (CLASSES + TRUTH * (np.arange(60)[:, None] % 2), "3 4", None),
        (ISPRS, "0,0,255", None),
    ],
)
def test_a_mask_may_say_which_values_are_building(
    tmp_path: Path, mask: Any, values: str, nodata: int | None
) -> None:
    label = write_raster(tmp_path / "label.tif", mask.astype(np.uint8), nodata=nodata)
    image = _image(tmp_path)
    with Raster(image) as raster, Label(label, raster, building_values=values) as truth:
        np.testing.assert_array_equal(truth.read(), TRUTH)
        assert not truth.read(Window(-20, -20, 20, 20)).any()
    assert _truth(image, label).mean() != TRUTH.mean()


@pytest.mark.parametrize("values", ["blue", "1.5", "-1", "1,", "99999999"])
def test_other_building_values_are_refused(tmp_path: Path, values: str) -> None:
    with pytest.raises(RasterError, match="no values of a mask"):
        parse_building_values(values)
    assert parse_building_values("2 0,0,255") == ((2,), (0, 0, 255))


def test_building_values_have_a_number_for_each_band(tmp_path: Path) -> None:
    label = write_raster(tmp_path / "label.tif", TRUTH)
    with (
        Raster(_image(tmp_path)) as raster,
        pytest.raises(RasterError, match=r"has 1 bands, and the building value 0,0,255 is for 3"),
    ):
        Label(label, raster, building_values="0,0,255")
