import errno
import os
from pathlib import Path
from typing import Any

import pytest

from rhm.data.catalog import Catalog
from rhm.data.layouts.spacenet import LAYOUT, find_spacenet
from rhm.errors import CatalogError
from tests.data.imagery import noise, write_raster

EMPTY = '{"type": "FeatureCollection", "features": []}'
AREA = "L15-0331E-1257N_1327_3160_13"
MONTH = f"global_monthly_2018_01_mosaic_{AREA}"

SN1 = (
    "3band/3band_AOI_1_RIO_img1.tif",
    "vectordata/geojson/Geo_AOI_1_RIO_img1.geojson",
)
SN1_BY_STRIP = (
    "3band/3band_013022223130_Public_img1.tif",
    "geojson/013022223130_Public_img1_Geo.geojson",
)
SN2 = (
    "AOI_2_Vegas_Train/RGB-PanSharpen/RGB-PanSharpen_AOI_2_Vegas_img802.tif",
    "AOI_2_Vegas_Train/geojson/buildings/buildings_AOI_2_Vegas_img802.geojson",
)
SN2_LATER = (
    "train/AOI_2_Vegas/PS-RGB/SN2_buildings_train_AOI_2_Vegas_PS-RGB_img802.tif",
    "train/AOI_2_Vegas/geojson_buildings/"
    "SN2_buildings_train_AOI_2_Vegas_geojson_buildings_img802.geojson",
)
SN7 = (f"train/{AREA}/images_masked/{MONTH}.tif", f"train/{AREA}/labels/{MONTH}_Buildings.geojson")


def _files(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(EMPTY)


@pytest.mark.parametrize(
    ("names", "domain", "group"),
    [
        (SN1, "AOI_1_RIO", "AOI_1_RIO_img1"),
        (SN1_BY_STRIP, "AOI_1_RIO", "013022223130_img1"),
        (SN2, "AOI_2_Vegas", "AOI_2_Vegas_img802"),
        (SN2_LATER, "AOI_2_Vegas", "AOI_2_Vegas_img802"),
        (SN7, "SN7", AREA),
    ],
    ids=["SN1", "SN1 by strip", "SN2", "SN2 later", "SN7"],
)
def test_official_namings(tmp_path: Path, names: tuple[str, str], domain: str, group: str) -> None:
    image, label = names
    _files(tmp_path, image, label)
    (source,) = find_spacenet(tmp_path)
    assert source.image == tmp_path / image
    assert source.label == tmp_path / label
    assert (source.domain, source.group, source.split) == (domain, group, "")


def test_numbers_and_areas_are_not_confused(tmp_path: Path) -> None:
    stems = [f"{area}_img{number}" for area in ("AOI_2_Vegas", "AOI_3_Paris") for number in (1, 11)]
    _files(tmp_path, *(f"RGB-PanSharpen/RGB-PanSharpen_{stem}.tif" for stem in stems))
    _files(tmp_path, *(f"geojson/buildings_{stem}.geojson" for stem in stems[1:]))
    sources = find_spacenet(tmp_path)
    assert [source.group for source in sources] == stems
    assert [source.label and source.label.stem for source in sources] == [
        None,
        *(f"buildings_{stem}" for stem in stems[1:]),
    ]


def test_the_months_of_an_area_are_one_group(tmp_path: Path) -> None:
    later = MONTH.replace("2018_01", "2019_11")
    _files(
        tmp_path,
        *SN7,
        f"train/{AREA}/images/{MONTH}.tif",
        f"train/{AREA}/images/{later}.tif",
        f"train/{AREA}/UDM_masks/{later}_UDM.tif",
        f"train/{AREA}/labels/{later}_Buildings.geojson",
        f"train/{AREA}/labels/{later}_UDM.geojson",
        f"train/{AREA}/labels_match/{later}_Buildings.geojson",
        f"train/{AREA}/labels_match_pix/{later}_Buildings.geojson",
    )
    first, second = find_spacenet(tmp_path)
    # Where there is a masked image it is taken; masks of unusable ground are not images.
    assert first.image == tmp_path / SN7[0]
    assert second.image == tmp_path / f"train/{AREA}/images/{later}.tif"
    assert second.label == tmp_path / f"train/{AREA}/labels/{later}_Buildings.geojson"
    assert first.group == second.group == AREA


def test_other_products_are_chosen_by_name(tmp_path: Path) -> None:
    stem = "AOI_5_Khartoum_img3"
    products = ("RGB-PanSharpen", "MUL-PanSharpen", "MUL", "PAN")
    _files(tmp_path, *(f"{product}/{product}_{stem}.tif" for product in products))
    for product in products:
        (source,) = find_spacenet(tmp_path, products=[product])
        assert source.image.parent.name == product


def test_two_files_of_one_tile_are_refused(tmp_path: Path) -> None:
    _files(tmp_path, *SN2, "copy/buildings_AOI_2_Vegas_img802.geojson")
    with pytest.raises(CatalogError, match="both belong to the same tile") as error:
        find_spacenet(tmp_path)
    assert "copy/buildings_AOI_2_Vegas_img802.geojson" in str(error.value)
    _files(tmp_path / "images", SN2[0], SN2_LATER[0])
    with pytest.raises(CatalogError, match="both belong to the same tile"):
        find_spacenet(tmp_path / "images")


@pytest.mark.parametrize("names", [(), ("RGB-PanSharpen/photo.tif",), SN2[1:]])
def test_other_names_are_refused_with_a_hint(tmp_path: Path, names: tuple[str, ...]) -> None:
    _files(tmp_path, *names)
    with pytest.raises(CatalogError, match="rhm data index folder"):
        find_spacenet(tmp_path)


def test_capital_letters_in_suffixes_make_no_difference(tmp_path: Path) -> None:
    image, label = (Path(name) for name in SN2)
    image, label = image.with_suffix(".TIF"), label.with_suffix(".GeoJSON")
    _files(tmp_path, str(image), str(label))
    (source,) = find_spacenet(tmp_path)
    assert (source.image, source.label) == (tmp_path / image, tmp_path / label)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    other = "geojson/buildings_AOI_2_Vegas_img9.geojson"
    _files(tmp_path, *SN2, other, "RGB-PanSharpen/RGB-PanSharpen_Vegas_802.tif")
    notes: list[str] = []
    find_spacenet(tmp_path, tell=notes.append)
    assert notes == [
        f"{tmp_path}/RGB-PanSharpen/RGB-PanSharpen_Vegas_802.tif is not named like an image of "
        "SpaceNet, and is left out",
        f"{tmp_path}/{other} belongs to none of the images, and is left out",
    ]


def test_folders_that_are_links_are_searched_once(tmp_path: Path) -> None:
    image, label = SN2
    _files(tmp_path / "disk", image, label)
    (tmp_path / "data").mkdir()
    for name in ("vegas", "vegas_again"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "disk" / "AOI_2_Vegas_Train")
    (tmp_path / "disk" / "AOI_2_Vegas_Train" / "loop").symlink_to(tmp_path / "data")
    (source,) = find_spacenet(tmp_path / "data")
    folder = tmp_path / "data" / "vegas"
    assert source.image == folder / Path(image).relative_to("AOI_2_Vegas_Train")
    assert source.label == folder / Path(label).relative_to("AOI_2_Vegas_Train")


def test_a_folder_is_not_called_by_the_name_of_a_link_to_it(tmp_path: Path) -> None:
    image, label = SN2
    _files(tmp_path, image, label)
    (tmp_path / "A").symlink_to(tmp_path / "AOI_2_Vegas_Train")
    (source,) = find_spacenet(tmp_path)
    assert (source.image, source.label) == (tmp_path / image, tmp_path / label)


def test_a_folder_that_cannot_be_read_is_not_called_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _files(tmp_path, *SN2)
    closed, scandir = [str(tmp_path / "AOI_2_Vegas_Train" / "geojson")], os.scandir

    def scan(folder: Any) -> Any:
        if os.fspath(folder) in closed:
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", scan)
    notes: list[str] = []
    (source,) = LAYOUT.sources(tmp_path, tell=notes.append)
    assert source.label is None
    assert notes == [f"{closed[0]} cannot be read by this user, and is left out"]
    closed.append(str(tmp_path))
    with pytest.raises(CatalogError, match=r"cannot be read: Permission denied$"):
        LAYOUT.sources(tmp_path)


def test_an_empty_geojson_is_a_tile_without_buildings(tmp_path: Path) -> None:
    _files(tmp_path, *SN2)
    write_raster(tmp_path / SN2[0], noise(9, 9, dtype="uint16"))
    unlabelled = tmp_path / "RGB-PanSharpen_AOI_2_Vegas_img9.tif"
    write_raster(unlabelled, noise(9, 9, dtype="uint16"))
    labelled, plain = Catalog.build(find_spacenet(tmp_path)).tiles
    assert labelled.building_fraction == 0.0
    assert plain.building_fraction is None


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "domain", "images", "labels"),
    [("spacenet1_rio", "AOI_1_RIO", 25, 10), ("spacenet2_vegas", "AOI_2_Vegas", 10, 10)],
)
def test_real_tiles(shared_data: Path, name: str, domain: str, images: int, labels: int) -> None:
    catalog = Catalog.build(find_spacenet(shared_data / name))
    assert catalog.domains == [domain]
    assert len(catalog) == images
    labelled = catalog.select(labelled=True).tiles
    assert len(labelled) == labels
    for tile in labelled:
        assert tile.building_fraction is not None
        assert 0.0 <= tile.building_fraction < 0.6
    assert max(tile.building_fraction or 0.0 for tile in labelled) > 0.02
