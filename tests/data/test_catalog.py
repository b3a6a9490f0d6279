import shutil
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pandas
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import Affine

from rhm.data.catalog import SPLITS, Catalog, Source, Tile
from rhm.data.rasters.georeference import ONE
from rhm.errors import CatalogError, OutputError, RasterError, VectorError
from tests.data.imagery import HALF_METRE, UTM, noise, write_raster

SPLIT_SHARES = {"val": 0.2, "test": 0.3}


def _sources(folder: Path) -> list[Source]:
    """Three images: with a mask, with footprints, with neither CRS nor label."""
    masked = write_raster(folder / "images" / "masked.tif", noise(40, 50), nodata=0)
    mask = np.zeros((40, 50), dtype=np.uint8)
    mask[:10] = 255
    drawn = noise(40, 50, 4, dtype="uint16")
    drawn[20:] = 0
    vector = folder / "footprints" / "drawn.gpkg"
    vector.parent.mkdir()
    west, north = HALF_METRE @ (0, 0)
    east, south = HALF_METRE @ (25, 10)
    footprint = shapely.box(west, south, east, north)
    geopandas.GeoDataFrame(geometry=[footprint], crs=UTM).to_crs("EPSG:4326").to_file(vector)
    return [
        Source(
            masked,
            write_raster(folder / "masks" / "masked.png", mask, crs=None),
            "north",
            "a",
            "val",
            gsd_m=9.0,
        ),
        Source(
            write_raster(folder / "images" / "drawn.tif", drawn, photometric="minisblack"),
            vector,
            "south",
            "b",
            black_is_nodata=True,
        ),
        Source(
            write_raster(folder / "images" / "plain.png", noise(8, 9), crs=None), None, "south", "c"
        ),
    ]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog.build(_sources(tmp_path / "data"))


def _table(groups: list[str], splits: list[str] | None = None, domain: str = "town") -> Catalog:
    """A catalog of images that no file stands behind."""
    rows = [
        {
            "image": f"/images/{domain}_{index}.tif",
            "label": "",
            "domain": domain,
            "group": group,
            "split": splits[index] if splits else "",
            "gsd_m": np.nan,
            "black_is_nodata": False,
            "width": 1,
            "height": 1,
            "bands": 1,
            "dtype": "uint8",
            "crs": "",
            "nodata": np.nan,
            "building_fraction": np.nan,
        }
        for index, group in enumerate(groups)
    ]
    outlines = [shapely.Polygon()] * len(rows)
    return Catalog(geopandas.GeoDataFrame(rows, geometry=outlines, crs="EPSG:4326"))


def _together(*catalogs: Catalog) -> Catalog:
    """A catalog of the rows of several, without any check."""
    frames = [catalog.frame for catalog in catalogs]
    both = pandas.concat(frames, ignore_index=True)
    return Catalog(geopandas.GeoDataFrame(both, geometry="geometry", crs="EPSG:4326"))


def test_a_catalog_says_what_the_files_say(catalog: Catalog, tmp_path: Path) -> None:
    masked, drawn, plain = catalog.tiles
    assert (masked.width, masked.height, masked.bands, masked.dtype) == (50, 40, 3, "uint8")
    assert (masked.crs, masked.nodata, masked.split) == (UTM, 0.0, "val")
    # The file's own distance is trusted more than what the source says.
    assert masked.gsd_m == pytest.approx(0.5, rel=1e-3)
    assert masked.building_fraction == pytest.approx(0.25)
    assert (drawn.bands, drawn.dtype, drawn.nodata) == (4, "uint16", None)
    # 250 of the 1000 pixels that are not black.
    assert drawn.building_fraction == pytest.approx(0.25)
    assert drawn.black_is_nodata
    assert (plain.crs, plain.gsd_m, plain.label, plain.building_fraction) == ("", None, None, None)
    assert plain.image == tmp_path / "data" / "images" / "plain.png"


def test_progress_is_told_once_per_image(tmp_path: Path) -> None:
    sources = _sources(tmp_path)
    ticks: list[int] = []
    Catalog.build(sources, on_progress=lambda: ticks.append(1))
    assert len(ticks) == len(sources)


def test_processes_make_the_same_catalog(tmp_path: Path) -> None:
    sources = _sources(tmp_path)
    assert Catalog.build(sources, workers=2).tiles == Catalog.build(sources).tiles


def test_the_building_fraction_counts_each_pixel_once(tmp_path: Path) -> None:
    # Larger than a block of counting, and not a multiple of one.
    mask = np.zeros((2100, 2300), dtype=np.uint8)
    mask[500:1800, 700:] = 1
    image = write_raster(tmp_path / "image.tif", np.ones_like(mask))
    label = write_raster(tmp_path / "label.tif", mask)
    (tile,) = Catalog.build([Source(image, label, "town", "a")]).tiles
    assert tile.building_fraction == mask.mean()


def test_what_is_saved_is_loaded(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "catalog.parquet"
    catalog.save(path)
    loaded = Catalog.load(path)
    assert loaded.tiles == catalog.tiles
    assert len(loaded) == 3
    assert loaded.domains == ["north", "south"]
    assert loaded.split_hash() == catalog.split_hash()


def test_a_catalog_moves_with_its_folder(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.save(tmp_path / "data" / "catalog.parquet")
    moved = tmp_path / "moved"
    shutil.move(tmp_path / "data", moved)
    monkeypatch.chdir(tmp_path)
    for path in (moved / "catalog.parquet", Path("moved/catalog.parquet")):
        loaded = Catalog.load(path)
        for tile in loaded.tiles:
            assert tile.image.is_relative_to(moved)
            with tile.open() as raster:
                assert raster.info.width == tile.width
    assert loaded.split_hash() == catalog.split_hash()


def test_a_catalog_loaded_by_a_relative_path_can_be_saved_elsewhere(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.save(tmp_path / "data" / "catalog.parquet")
    monkeypatch.chdir(tmp_path)
    loaded = Catalog.load("data/catalog.parquet")
    for path in ("data/again.parquet", "other/again.parquet", "again.parquet"):
        loaded.save(path)
        assert Catalog.load(path).tiles == catalog.tiles
    monkeypatch.chdir(tmp_path / "other")
    assert loaded.tiles == catalog.tiles


def test_what_other_programs_leave_missing_is_empty(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "catalog.parquet"
    catalog.save(path)
    frame = geopandas.read_parquet(path)
    for column in ("label", "split", "crs"):
        frame[column] = frame[column].astype(object).where(frame[column] != "", None)
    frame.to_parquet(path)
    loaded = Catalog.load(path)
    assert loaded.tiles == catalog.tiles
    assert "" not in set(loaded.assign_splits({}).frame["split"])


def test_the_file_is_geoparquet_with_outlines_in_degrees(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "catalog.parquet"
    catalog.save(path)
    frame = geopandas.read_parquet(path)
    assert frame.crs == "EPSG:4326"
    corners = [HALF_METRE @ (col, row) for col, row in ((0, 0), (50, 0), (50, 40), (0, 40))]
    expected = geopandas.GeoSeries([shapely.Polygon(corners)], crs=UTM).to_crs("EPSG:4326")
    difference = shapely.symmetric_difference(frame.geometry[0], expected[0])
    assert difference.area < 1e-6 * expected[0].area
    assert frame.geometry[2].is_empty


def test_the_outline_of_a_rotated_image_is_rotated(tmp_path: Path) -> None:
    turned = HALF_METRE @ Affine.rotation(30)
    image = write_raster(tmp_path / "image.tif", noise(40, 50), transform=turned)
    frame = Catalog.build([Source(image, None, "town", "a")]).frame
    assert frame.to_crs(UTM).area[0] == pytest.approx(40 * 50 / 4, rel=1e-4)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32760", Affine(200.0, 0, 815_000.0, 0, -200.0, 8_030_000.0)),
        ("EPSG:4326", Affine(2e-3, 0, 179.95, 0, -2e-3, -17.8)),
    ],
)
def test_an_image_on_the_180th_meridian_is_on_both_sides_of_it(
    tmp_path: Path, crs: str, transform: Affine
) -> None:
    image = write_raster(tmp_path / "fiji.tif", noise(64, 64), crs=crs, transform=transform)
    frame = Catalog.build([Source(image, None, "town", "a")]).frame
    for district in (shapely.box(179.97, -17.86, 180, -17.8), shapely.box(-180, -18, -179.99, -17)):
        assert frame.intersects(district).all()
    assert not frame.intersects(shapely.box(-170, -18, 170, -17)).any()


@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3413", 90.0), ("EPSG:3031", -90.0)])
def test_an_image_round_a_pole_is_at_all_longitudes(tmp_path: Path, crs: str, pole: float) -> None:
    transform = Affine(1000.0, 0, -32_000.0, 0, -1000.0, 20_000.0)
    image = write_raster(tmp_path / "ice.tif", noise(64, 64), crs=crs, transform=transform)
    (place,) = Catalog.build([Source(image, None, "ice", "a")]).frame.geometry
    assert place.is_valid
    assert place.bounds[::2] == (-180.0, 180.0)
    for longitude in range(-175, 180, 25):
        assert place.covers(shapely.Point(longitude, 0.9995 * pole))


@pytest.mark.parametrize(
    "content",
    ["none", "garbage", "plain", "other", "empty", "wrong", "far", "zero", "twice", "server"],
)
def test_what_is_no_catalog_is_refused_in_one_line(
    catalog: Catalog, tmp_path: Path, content: str
) -> None:
    path = tmp_path / "catalog.parquet"
    if content == "garbage":
        path.write_bytes(b"PAR1 and then something else PAR1")
    elif content == "plain":
        pandas.DataFrame({"image": ["a"]}).to_parquet(path)
    elif content == "other":
        catalog.frame.drop(columns="domain").to_parquet(path)
    elif content == "empty":
        catalog.frame[:0].to_parquet(path)
    elif content == "wrong":
        catalog.frame.assign(width="wide").to_parquet(path)
    elif content == "far":
        catalog.frame.assign(height=np.inf).to_parquet(path)
    elif content == "twice":
        pandas.concat([catalog.frame, catalog.frame[1:2]]).to_parquet(path)
    elif content == "server":
        stored = catalog.frame["image"].where(
            catalog.frame.index != 1, "/vsicurl?url=http%3A%2F%2Fx"
        )
        catalog.frame.assign(image=stored).to_parquet(path)
    elif content == "zero":
        catalog.frame.assign(image="a\0.tif").to_parquet(path)
    with pytest.raises(CatalogError) as error:
        Catalog.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_catalog_lists_something_that_exists(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no images to catalogue"):
        Catalog.build([])
    with pytest.raises(RasterError, match=r"no such file: none\.tif"):
        Catalog.build([Source(Path("none.tif"), None, "town", "a")])
    image = write_raster(tmp_path / "image.tif", noise(4, 4))
    with pytest.raises(VectorError, match=r"none\.gpkg"):
        Catalog.build([Source(image, tmp_path / "none.gpkg", "town", "a")])
    small = write_raster(tmp_path / "small.png", np.zeros((2, 2), np.uint8), crs=None)
    with pytest.raises(RasterError, match="is 2 x 2 pixels"):
        Catalog.build([Source(image, small, "town", "a")])


def test_names_that_are_not_utf_8_are_refused_when_the_catalog_is_built(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "image.tif", noise(4, 4))
    with pytest.raises(CatalogError, match=r"the domain 'to\\udcffwn' is not UTF-8"):
        Catalog.build([Source(image, None, "to\udcffwn", "a")])


def test_a_catalog_that_cannot_be_saved_leaves_the_earlier_one(
    catalog: Catalog, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("earlier")
    with pytest.raises(OutputError, match="cannot write"):
        catalog.save(tmp_path / "file" / "catalog.parquet")
    assert (tmp_path / "file").read_text() == "earlier"


def test_a_catalog_that_lists_an_image_twice_is_not_saved(catalog: Catalog, tmp_path: Path) -> None:
    path = tmp_path / "catalog.parquet"
    catalog.save(path)
    with pytest.raises(CatalogError, match=r"the catalog lists .*masked\.tif more than once"):
        _together(catalog, catalog.select(split="val")).save(path)
    assert Catalog.load(path).tiles == catalog.tiles


def test_what_looked_wrong_to_the_indexer_is_a_note(tmp_path: Path) -> None:
    catalog = Catalog.build(_sources(tmp_path), notes=["b.tif is left out"])
    assert catalog.notes[0] == "b.tif is left out"
    assert catalog.notes[1:] == Catalog.build(_sources(tmp_path / "again")).notes != ()


def test_rows_are_selected(catalog: Catalog) -> None:
    def names(chosen: Catalog) -> list[str]:
        return [tile.name for tile in chosen.tiles]

    assert names(catalog.select(domains=["south"])) == ["drawn", "plain"]
    assert names(catalog.select(domains=["south"], labelled=True)) == ["drawn"]
    assert names(catalog.select(labelled=False)) == ["plain"]
    assert names(catalog.select(split="val")) == ["masked"]
    assert names(catalog.select(split="train")) == []
    with pytest.raises(CatalogError, match="no domain 'west' in the catalog: it has north, south"):
        catalog.select(domains=["south", "west"])


GROUPS = st.lists(st.sampled_from("abcdefghijklmnopqrst"), min_size=1, max_size=60)


@given(GROUPS, GROUPS, st.integers(0, 99))
def test_groups_never_part(first: list[str], second: list[str], seed: int) -> None:
    catalog = _together(_table(first), _table(second, domain="city"))
    frame = catalog.assign_splits(SPLIT_SHARES, seed=seed).frame
    assert set(frame["split"]) <= set(SPLITS)
    assert (frame.groupby("group")["split"].nunique() == 1).all()
    assert (catalog.frame["split"] == "").all()


@given(GROUPS, st.data())
def test_given_splits_stay_and_hold_their_groups(groups: list[str], data: st.DataObject) -> None:
    where = {group: data.draw(st.sampled_from(SPLITS)) for group in sorted(set(groups))}
    given_rows = [data.draw(st.booleans()) for _ in groups]
    splits = [where[g] if known else "" for g, known in zip(groups, given_rows, strict=True)]
    frame = _table(groups, splits).assign_splits(SPLIT_SHARES).frame
    for group, split, before in zip(groups, frame["split"], splits, strict=True):
        assert split == (before or split)
        if any(each for each, name in zip(splits, groups, strict=True) if name == group):
            assert split == where[group]


def test_a_group_with_two_splits_is_not_dealt() -> None:
    catalog = _table(["a", "b", "b", "b"], ["val", "test", "", "train"])
    with pytest.raises(CatalogError, match=r"group 'b' is test for .*_1\.tif and train for .*_3"):
        catalog.assign_splits(SPLIT_SHARES)


def test_splits_follow_from_the_seed_and_come_close_to_their_shares() -> None:
    catalog = _table([f"g{index // 3}" for index in range(300)])
    first, again, other = (catalog.assign_splits(SPLIT_SHARES, seed=seed) for seed in (0, 0, 1))
    assert first.split_hash() == again.split_hash() != other.split_hash()
    shuffled = Catalog(catalog.frame.sample(frac=1.0, random_state=0).reset_index(drop=True))
    assert shuffled.assign_splits(SPLIT_SHARES, seed=0).split_hash() == first.split_hash()
    counts = first.frame["split"].value_counts()
    # A group has three images, so a share is met to within one and a half.
    assert abs(counts["val"] - 60) <= 1.5
    assert abs(counts["test"] - 90) <= 1.5
    assert set(catalog.assign_splits({}).frame["split"]) == {"train"}


@pytest.mark.parametrize("shares", [{"val": 0.7, "test": 0.4}, {"val": -0.1}, {"dev": 0.1}])
def test_impossible_shares_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(CatalogError, match="split shares can be given for train, val, test"):
        _table(["a"]).assign_splits(shares)


def test_the_split_hash_knows_the_split_and_not_the_folder() -> None:
    catalog = _table(["a", "b"], ["train", "val"])
    moved = catalog.frame.assign(
        image=[f"/elsewhere/{Path(image).name}" for image in catalog.frame["image"]]
    )
    assert Catalog(moved).split_hash() == catalog.split_hash()
    assert Catalog(catalog.frame[::-1]).split_hash() == catalog.split_hash()
    assert _table(["a", "b"], ["val", "train"]).split_hash() != catalog.split_hash()
    assert _table(["a", "c"], ["train", "val"]).split_hash() != catalog.split_hash()
    assert _table(["a"], ["train"]).split_hash() != catalog.split_hash()


def test_a_scale_joins_two_distances() -> None:
    tile = Tile(Path("a.tif"), None, "town", "a", gsd_m=0.5)
    assert tile.scale_to(1.0) == (0.5, 0.5)
    assert tile.scale_to(0.25) == (2.0, 2.0)
    assert tile.scale_to(0.502) == ONE
    assert tile.scale_to(None) == ONE
    assert replace(tile, gsd_m=None).scale_to(0.25) == ONE
    assert replace(tile, pixel_aspect=4.0).scale_to(0.5) == (0.5, 2.0)
