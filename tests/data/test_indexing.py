"""Images and their labels; law: what cannot be is refused, what looks odd is told once."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
import PIL.Image
import pytest
import shapely
from rasterio.transform import Affine

from rhm.data import index_folder
from rhm.data.catalog import Catalog, Source
from rhm.data.indexing import mapping_in, open_source
from rhm.errors import CatalogError, RasterError
from tests.data.imagery import HALF_METRE, UTM, noise, write_raster

TRUTH = np.zeros((40, 40), np.uint8)
TRUTH[4:16, 8:24] = 1
CLASSES = np.where(TRUTH, 5, 2 + np.arange(40) % 2).astype(np.uint8)


def town(folder: Path, *masks: Any) -> Path:
    for number, mask in enumerate(masks):
        write_raster(folder / "images" / f"{number}.tif", noise(40, 40, seed=number))
        write_raster(folder / "masks" / f"{number}.tif", np.asarray(mask, np.uint8))
    return folder


@pytest.mark.parametrize("mask", [1 - TRUTH, (1 - TRUTH) * 255, CLASSES])
def test_a_domain_of_buildings_only_is_refused_unless_told_so(tmp_path: Path, mask: Any) -> None:
    town(tmp_path / "town", mask, mask)
    with pytest.raises(CatalogError, match=r"town: .*0.tif has the values? .*--building-value"):
        index_folder(tmp_path / "town")
    value = str(int(mask[5, 9]))
    catalog = index_folder(tmp_path / "town", building_values=[value])
    assert catalog.notes == ()
    catalog.save(tmp_path / "catalog.parquet")
    for tile in Catalog.load(tmp_path / "catalog.parquet").tiles:
        assert tile.building_values == value
        assert tile.building_fraction == pytest.approx(TRUTH.mean())
        with tile.open() as raster, tile.open_label(raster) as label:
            np.testing.assert_array_equal(label.read(), TRUTH)


def test_told_so_may_also_mean_that_everything_is_building(tmp_path: Path) -> None:
    town(tmp_path, np.ones((40, 40)))
    assert index_folder(tmp_path, building_values=["1"]).tiles[0].building_fraction == 1.0


def test_masks_of_several_values_are_a_note_for_each_domain(tmp_path: Path) -> None:
    classes = TRUTH * (1 + np.arange(40) // 10 % 3)
    town(tmp_path / "a", classes, classes, TRUTH)
    town(tmp_path / "b", TRUTH, TRUTH * 255)
    catalog = index_folder(tmp_path).assign_splits({"val": 0.2})
    note, *_ = catalog.notes
    assert note.startswith(f"a: {tmp_path}/a/masks/0.tif (and 1 more) has the values 1 2 3 besides")


def test_only_a_dozen_values_are_listed(tmp_path: Path) -> None:
    town(tmp_path, TRUTH * (1 + np.arange(1600).reshape(40, 40) % 250))
    (note,) = index_folder(tmp_path).notes
    assert " ... besides 0" in note
    assert len(note.replace(str(tmp_path), "")) < 300


FRACTIONS = (TRUTH * np.linspace(0.25, 0.75, 40).round(1)).astype(np.float32)


def test_the_values_of_probabilities_are_told_as_they_are(tmp_path: Path) -> None:
    write_raster(tmp_path / "images" / "a.tif", noise(40, 40))
    mask = write_raster(tmp_path / "masks" / "a.tif", FRACTIONS)
    (note,) = index_folder(tmp_path).notes
    assert " has the values 0.4 0.5 besides 0, which all count" in note
    assert note.endswith("if they are probabilities, make masks of 0 and 1 of them")
    write_raster(mask, np.where(TRUTH, 0.9, 0.25).astype(np.float32))
    told = r"has the values 0\.25 0\.9 besides 0 \(probabilities\?\): make masks of 0 and 1"
    with pytest.raises(CatalogError, match=told):
        index_folder(tmp_path)


def test_groups_of_several_domains_are_a_note(tmp_path: Path) -> None:
    town(tmp_path / "a", TRUTH, TRUTH, TRUTH)
    town(tmp_path / "b", TRUTH, TRUTH)
    (note,) = index_folder(tmp_path).notes
    assert note.startswith("2 groups have images in several domains, such as '0' in a and b, and")
    assert index_folder(tmp_path, domain="one").notes == ()
    # Their images have the same split, whatever their domains.
    frame = index_folder(tmp_path).assign_splits({"test": 0.5}).frame
    assert (frame.groupby("group")["split"].nunique() == 1).all()


def test_a_group_with_two_splits_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    def source(name: str, domain: str, group: str, split: str) -> Source:
        return Source(tmp_path / f"{name}.tif", None, domain, group, split)

    sources = [source("a", "x", "g", "train"), source("b", "x", "g", ""), source("c", "x", "h", "")]
    for domain in ("x", "y"):
        with pytest.raises(CatalogError) as refused:
            Catalog.build([*sources, source("d", domain, "g", "test")])
        assert str(refused.value).startswith(
            f"group 'g' is train for {tmp_path}/a.tif and test for {tmp_path}/d.tif: give it one"
        )
    with pytest.raises(RasterError, match=r"no such file: .*a\.tif"):
        Catalog.build([*sources, source("d", "y", "h", "test")])


def test_an_image_that_is_listed_twice_is_refused_before_anything_is_opened(
    tmp_path: Path,
) -> None:
    twice = [Source(tmp_path / name, None, "x", "x") for name in ("a.tif", "b.tif", "./b.tif")]
    twice[2] = Source(tmp_path / "c" / ".." / "b.tif", tmp_path / "m.tif", "y", "y")
    with pytest.raises(CatalogError, match=r"lists .*/b\.tif more than once"):
        Catalog.build(twice)


def footprints(path: Path, *boxes: shapely.Polygon, crs: str = UTM) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    geopandas.GeoDataFrame(geometry=list(boxes), crs=crs).to_file(path)
    return path


HERE = shapely.box(500_002, 4_999_990, 500_008, 4_999_996)
FAR = shapely.box(700_000, 5_200_000, 700_010, 5_200_010)


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg"])
def test_a_label_without_any_polygon_on_its_image_is_named(tmp_path: Path, suffix: str) -> None:
    for number, box in enumerate((HERE, FAR, FAR, HERE)):
        write_raster(tmp_path / "images" / f"{number}.tif", noise(40, 40))
        footprints(tmp_path / "footprints" / f"{number}{suffix}", box)
    (note,) = index_folder(tmp_path).notes
    assert note.startswith(f"{tmp_path}/footprints/1{suffix} (and 1 more) has footprints, but none")


def test_no_buildings_at_all_and_a_file_for_the_whole_town_are_not_astray(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", noise(40, 40))
    away = write_raster(
        tmp_path / "b.tif", noise(40, 40), transform=Affine.translation(4e5, 4e5) @ HALF_METRE
    )
    (tmp_path / "none.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    shared = footprints(tmp_path / "town.gpkg", HERE)
    assert not open_source(Source(image, tmp_path / "none.geojson", "town", "a")).misses
    assert open_source(Source(away, shared, "town", "b")).misses
    both = [Source(image, shared, "town", "a"), Source(away, shared, "town", "b")]
    assert Catalog.build(both).notes == ()
    assert len(Catalog.build(both[1:]).notes) == 1


def test_pixels_that_are_not_square_are_a_note_for_each_domain(tmp_path: Path) -> None:
    degrees = Affine(0.25 / 55_800, 0, 20.0, 0, -0.5 / 111_412, 60.0)
    for name in "ab":
        for number in range(2):
            image = tmp_path / name / "images" / f"{number}.tif"
            image.parent.mkdir(parents=True, exist_ok=True)
            write_raster(image, noise(20, 20), crs="EPSG:4326", transform=degrees)
    catalog = Catalog.build([Source(path, None, "x", "x") for path in tmp_path.rglob("*.tif")])
    (note,) = catalog.notes
    assert note.endswith(
        "cover 0.25 x 0.5 m of ground: set data.gsd_m in training, so that the model sees them "
        "square"
    )
    catalog.save(tmp_path / "catalog.parquet")
    for tile in Catalog.load(tmp_path / "catalog.parquet").tiles:
        assert tile.pixel_aspect == pytest.approx(0.5, rel=1e-2)
        assert tile.scale_to(0.5) == pytest.approx((1.0, 0.5), rel=1e-2)


def test_images_without_a_resolution_beside_others_are_a_note(tmp_path: Path) -> None:
    placed = write_raster(tmp_path / "a.tif", noise(20, 20))
    plain = [
        write_raster(tmp_path / f"{n}.tif", noise(20, 20), crs=None, transform=Affine.identity())
        for n in range(2)
    ]
    sources = [Source(path, None, "town", path.stem) for path in (placed, *plain)]
    (note,) = Catalog.build(sources).notes
    assert note.startswith("town: 2 of 3 images do not say their metres per pixel")
    assert Catalog.build(sources[:1]).notes == ()


def test_domains_without_any_resolution_are_one_note_that_says_how_to_give_it(
    tmp_path: Path,
) -> None:
    for domain in ("b", "c"):
        for number in range(2):
            image = tmp_path / domain / "images" / f"{domain}{number}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(noise(20, 20)).save(image)
    placed = write_raster(tmp_path / "a" / "images" / "a.tif", noise(20, 20))
    (note,) = index_folder(tmp_path).notes
    assert note.startswith("no image of b (and 1 more) says its metres per pixel, so a model of")
    (note,) = index_folder(tmp_path / "c").notes
    assert note.startswith("no image of c says its metres per pixel")
    assert index_folder(tmp_path, gsd_m=1.0).notes == ()
    table = tmp_path / "table.csv"
    rows = [f"{path},{path.parent.parent.name},2.0" for path in tmp_path.rglob("*.png")]
    table.write_text("\n".join(["image,domain,gsd_m", f"{placed},a,", *rows]))
    assert index_folder(tmp_path, table=table).notes == ()


def test_images_of_several_catalogs_are_kept_once_and_a_note_says_so(tmp_path: Path) -> None:
    paths = [write_raster(tmp_path / f"{n}.tif", noise(9, 9)) for n in range(3)]
    sources = [Source(path, None, "x", "x") for path in paths]
    both = Catalog.join({"a": Catalog.build(sources[:2]), "b": Catalog.build(sources[1:])})
    assert len(both) == 3
    assert both.notes == ("images that two catalogs have are kept once: 1",)


def test_catalogs_with_other_metres_per_pixel_are_not_joined(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", noise(9, 9), crs=None)
    coarse, fine = (Catalog.build([Source(path, None, "x", "x", gsd_m=m)]) for m in (1.0, 0.3))
    with pytest.raises(CatalogError, match="metres per pixel"):
        Catalog.join({"a": coarse, "b": fine})
    assert len(Catalog.join({"a": fine, "b": fine})) == 1


def test_catalogs_of_earlier_versions_have_square_pixels(tmp_path: Path) -> None:
    catalog = Catalog.build([Source(write_raster(tmp_path / "a.tif", noise(9, 9)), None, "x", "x")])
    catalog.frame.drop(columns="pixel_aspect").to_parquet(tmp_path / "old.parquet")
    (tile,) = Catalog.load(tmp_path / "old.parquet").tiles
    assert tile.pixel_aspect == 1.0


def test_catalogs_of_earlier_versions_have_no_building_values(tmp_path: Path) -> None:
    town(tmp_path, TRUTH)
    index_folder(tmp_path).save(tmp_path / "catalog.parquet")
    frame = geopandas.read_parquet(tmp_path / "catalog.parquet")
    frame.drop(columns="building_values").to_parquet(tmp_path / "catalog.parquet")
    assert Catalog.load(tmp_path / "catalog.parquet").tiles[0].building_values == ""


def test_impossible_building_values_are_refused_before_anything_is_opened(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.tif").touch()
    with pytest.raises(RasterError, match="'blue' are no values of a mask"):
        index_folder(tmp_path, building_values=["blue"])


def test_metres_per_pixel_that_no_catalog_may_have_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    write_raster(folder / "a.tif", noise(9, 9), crs=None, transform=Affine.identity())
    assert index_folder(tmp_path, gsd_m=10.0).tiles[0].gsd_m == 10.0
    with pytest.raises(CatalogError, match=r"gsd_m of .*a\.tif is 1e\+09, which cannot be"):
        index_folder(tmp_path, gsd_m=1e9)
    # Pixels that someone took for degrees.
    write_raster(folder / "a.tif", noise(9, 9), crs="EPSG:4326", transform=Affine.scale(1, -1))
    with pytest.raises(CatalogError, match="correct its georeference"):
        index_folder(tmp_path)


def test_images_that_cannot_be_read_later_are_refused(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", noise(9, 9).astype(np.float64))
    with pytest.raises(RasterError, match=r"a\.tif is float64: rhm reads"):
        index_folder(tmp_path)


def test_catalogs_that_read_a_mask_in_two_ways_are_not_joined(tmp_path: Path) -> None:
    town(tmp_path, CLASSES)
    first, second = (index_folder(tmp_path, building_values=[value]) for value in ("5", "2"))
    with pytest.raises(CatalogError, match=r"with different labels, .* or values of its mask"):
        Catalog.join({"a": first, "b": second})
    assert len(Catalog.join({"a": first, "b": first})) == 1


def test_catalogs_that_read_an_image_alike_are_joined(tmp_path: Path) -> None:
    town(tmp_path, CLASSES)
    catalog = index_folder(tmp_path, building_values=["5", "2"])
    other = index_folder(tmp_path, building_values=["2", "5"])
    assert len(Catalog.join({"a": catalog, "b": other})) == 1
    # Neither values nor instances are those of what is no mask.
    for label in ("", str(tmp_path / "a.gpkg")):
        frames = [
            catalog.frame.assign(label=label),
            catalog.frame.assign(label=label, building_values="", instances=True),
        ]
        joined = Catalog.join({str(number): Catalog(each) for number, each in enumerate(frames)})
        assert len(joined) == 1


@pytest.mark.parametrize(
    "missing",
    [pandas.Series([None]), pandas.Series([np.nan]), pandas.Series([None], dtype="boolean")],
)
def test_a_missing_truth_value_is_false_wherever_it_is_read(tmp_path: Path, missing: Any) -> None:
    town(tmp_path, CLASSES)
    catalog = index_folder(tmp_path, building_values=["5"])
    catalog.save(tmp_path / "a.parquet")
    stored = geopandas.read_parquet(tmp_path / "a.parquet")
    stored.assign(black_is_nodata=missing).to_parquet(tmp_path / "b.parquet")
    both = {name: Catalog.load(tmp_path / f"{name}.parquet") for name in ("a", "b")}
    assert both["b"].tiles == both["a"].tiles
    joined = Catalog.join({**both, "again": Catalog.load(tmp_path / "b.parquet")})
    joined.save(tmp_path / "c.parquet")
    assert Catalog.load(tmp_path / "c.parquet").tiles == catalog.tiles


class _Fatal(Source):
    """An image that ends the process that opens it."""

    def open(self, *args: Any, **options: Any) -> Any:
        os._exit(1)


def test_a_process_that_is_killed_is_one_line(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", noise(9, 9))
    with pytest.raises(CatalogError, match=r"was killed .*use fewer --workers"):
        Catalog.build([_Fatal(image, None, "town", "a")], workers=2)


class _Interrupted(Source):
    """An image that is opened when the user interrupts the command."""

    def open(self, *args: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return super().open(*args, **options)


@pytest.mark.skipif(os.name != "posix", reason="interrupts are no signals")
def test_an_interrupt_is_left_to_the_process_of_the_command(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    images = [write_raster(tmp_path / f"{number}.tif", noise(9, 9)) for number in range(4)]
    sources = [_Interrupted(image, None, "town", image.stem) for image in images]
    assert len(Catalog.build(sources, workers=2)) == 4
    assert signal.getsignal(signal.SIGINT) is before


class _Slow(Source):
    """An image that takes longer than a user would wait."""

    def open(self, *args: Any, **options: Any) -> Any:
        self.image.with_suffix(".begun").touch()
        time.sleep(15.0)
        self.image.with_suffix(".read").touch()


def test_images_that_were_begun_are_not_waited_for(tmp_path: Path) -> None:
    """Else an interrupt would take as long as the largest image."""
    images = [tmp_path / f"{number}.tif" for number in range(4)]
    slow = [_Slow(image, None, "town", image.stem) for image in images]
    with suppress(KeyboardInterrupt), mapping_in(2) as mapping:
        mapping(open_source, slow)
        while not list(tmp_path.glob("*.begun")):
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert not list(tmp_path.glob("*.read"))


def test_processes_ignore_interrupts_whoever_starts_them() -> None:
    """Only the main thread can have them inherit that; others may be started late."""

    def handling() -> set[Any]:
        with mapping_in(2) as mapping:
            return set(mapping(signal.getsignal, [signal.SIGINT] * 4))

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(handling).result() == {signal.SIG_IGN}
