"""Labels that tell buildings apart: the same pixels are building, with a number for each."""

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from shapely.affinity import affine_transform

from rhm.augmentation.mask_values import MARKED_BOUNDARY, MARKED_CONTACT, is_building
from rhm.data import Catalog, index_folder
from rhm.data.labels import Label
from rhm.data.rasters.raster import Raster
from rhm.data.rasters.windows import Window
from tests.data.imagery import HALF_METRE, UTM, noise, write_raster

ROW = [shapely.box(left, 5, left + 10, 25) for left in (10, 20, 30)]
"""Three houses that share walls."""

RAMP = np.zeros((60, 80), dtype=np.uint8)
RAMP[10:30, 10:30], RAMP[12:28, 12:28], RAMP[10:30, 30:33] = 2, 1, 3
"""A building as in the masks of ramp: footprint 1, boundary 2, contact 3."""


def read(folder: Path, label: Path, **options: Any) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    image = write_raster(folder / "image.tif", noise(60, 80))
    with Raster(image) as raster, Label(label, raster, **options) as truth:
        return truth.read(), truth.read_numbers()


def footprints(path: Path) -> Path:
    placed = [affine_transform(each, HALF_METRE.to_shapely()) for each in ROW]
    geopandas.GeoDataFrame(geometry=placed, crs=UTM).to_file(path)
    return path


def test_footprints_that_share_walls_have_different_numbers(tmp_path: Path) -> None:
    truth, numbers = read(tmp_path, footprints(tmp_path / "row.gpkg"))
    np.testing.assert_array_equal(is_building(numbers), truth == 1)
    houses = [np.unique(numbers[5:25, left : left + 10]) for left in (10, 20, 30)]
    assert [len(values) for values in houses] == [1, 1, 1]
    assert len(np.unique(np.concatenate(houses))) == 3


def test_a_footprint_has_the_same_number_in_every_window(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "image.tif", noise(60, 80))
    with (
        Raster(image) as raster,
        Label(footprints(tmp_path / "row.gpkg"), raster) as truth,
    ):
        whole = truth.read_numbers()
        for window in (Window(0, 15, 30, 20), Window(10, 25, 60, 80)):
            part = truth.read_numbers(window)
            inside = whole[window.slices]
            rows, cols = inside.shape
            np.testing.assert_array_equal(part[:rows, :cols], inside)
            assert not part[rows:].any()


@pytest.mark.parametrize("bands", [1, 3])
def test_each_value_of_an_instance_mask_is_a_building(tmp_path: Path, bands: int) -> None:
    values = np.zeros((60, 80), dtype=np.uint8)
    values[5:25, 10:20], values[5:25, 20:30] = 40, 41
    mask = values if bands == 1 else np.dstack([values, 0 * values, values])
    label = write_raster(tmp_path / "label.png", mask, crs=None)
    truth, numbers = read(tmp_path, label, instances=True)
    np.testing.assert_array_equal(is_building(numbers), truth == 1)
    assert numbers[10, 19] != numbers[10, 20]
    assert read(tmp_path, label)[1].max() == 1


def test_marked_classes_are_kept_and_contact_is_background(tmp_path: Path) -> None:
    label = write_raster(tmp_path / "label.png", RAMP, crs=None)
    values = {"boundary_values": "2", "contact_values": "3"}
    truth, numbers = read(tmp_path, label, **values)
    np.testing.assert_array_equal(truth == 1, np.isin(RAMP, (1, 2)))
    np.testing.assert_array_equal(numbers == MARKED_BOUNDARY, RAMP == 2)
    np.testing.assert_array_equal(numbers == MARKED_CONTACT, RAMP == 3)
    np.testing.assert_array_equal(numbers == 1, RAMP == 1)
    named = read(tmp_path, label, building_values="1", **values)
    np.testing.assert_array_equal(named, (truth, numbers))


def test_a_catalog_keeps_what_the_values_of_masks_mean(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_raster(tmp_path / "town" / "images" / f"{name}.tif", noise(60, 80))
        write_raster(tmp_path / "town" / "masks" / f"{name}.png", RAMP, crs=None)
    found = index_folder(
        tmp_path / "town",
        building_values=["1"],
        boundary_values=["2"],
        contact_values=["3"],
        instances=True,
    )
    found.save(tmp_path / "catalog.parquet")
    tile = Catalog.load(tmp_path / "catalog.parquet").tiles[0]
    assert (tile.building_values, tile.boundary_values, tile.contact_values) == ("1", "2", "3")
    assert tile.instances
    assert tile.building_fraction == pytest.approx(np.isin(RAMP, (1, 2)).mean())


def instances(folder: Path, label: Path, **options: Any) -> NDArray[np.int32] | None:
    image = write_raster(folder / "image.tif", noise(60, 80))
    with Raster(image) as raster, Label(label, raster, **options) as truth:
        return truth.read_instances()


def test_instances_have_numbers_that_never_repeat(tmp_path: Path) -> None:
    """The numbers of ``read_numbers`` do, because they have eight bits."""
    values = np.arange(60 * 80, dtype=np.uint16).reshape(60, 80)
    label = write_raster(tmp_path / "mask.tif", values)
    found = instances(tmp_path, label, instances=True)
    assert found is not None
    assert (found == 0).sum() == 1
    assert len(np.unique(found)) == 60 * 80


def test_boundaries_tell_buildings_apart(tmp_path: Path) -> None:
    mask = np.zeros((60, 80), np.uint8)
    for left in (10, 30):
        mask[10:30, left : left + 20] = 2
        mask[12:28, left + 2 : left + 18] = 1
    mask[50:52, 5:8] = 2  # nothing but boundary
    label = write_raster(tmp_path / "mask.tif", mask)
    found = instances(tmp_path, label, boundary_values="2")
    assert found is not None
    np.testing.assert_array_equal(found > 0, mask > 0)
    houses = [np.unique(part) for part in (found[10:30, 10:30], found[10:30, 30:50])]
    assert [len(part) for part in houses] == [1, 1]
    assert len({int(np.max(part)) for part in (*houses, found[50:52, 5:8])}) == 3
    # With values of its own for every inside, too.
    mask[12:28, 32:48] = 7
    write_raster(label, mask)
    apart = instances(tmp_path, label, boundary_values="2", instances=True)
    assert apart is not None
    np.testing.assert_array_equal(apart > 0, mask > 0)
    assert len(np.unique(apart)) == 4


def test_other_labels_have_no_instances(tmp_path: Path) -> None:
    assert instances(tmp_path, footprints(tmp_path / "row.gpkg")) is None
    mask = write_raster(tmp_path / "mask.tif", RAMP)
    assert instances(tmp_path, mask) is None
    assert instances(tmp_path, mask, contact_values="3") is None
