"""The sample world against what it promises: geometry, determinism, and sensors that disagree."""

import itertools
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import rasterio.features
import shapely
from hypothesis import given
from hypothesis import strategies as st
from skimage.exposure import match_histograms

from rhm.errors import ConfigError, OutputError
from rhm.synthetic.town import TOWNS
from rhm.synthetic.world import DOMAINS, SENSORS, Response, write_sample_world

SMALL: dict[str, Any] = {"tile_size": 128, "tiles_per_domain": 3, "scene_size": 160}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_sample_world(folder, seed=0, **SMALL)
    return folder


def images(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.tif"))


def footprints_of(image: Path) -> Path:
    beside = image.with_suffix(".gpkg")
    return (
        beside if image.parent.name == "scenes" else image.parents[1] / "footprints" / beside.name
    )


def read(path: Path) -> npt.NDArray[Any]:
    with rasterio.open(path) as dataset:
        pixels: npt.NDArray[Any] = np.moveaxis(dataset.read(), 0, 2)
    return pixels


def bounds(path: Path) -> Any:
    with rasterio.open(path) as dataset:
        return shapely.box(*dataset.bounds)


def ranks(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Mean ranks, ties sharing theirs, as Spearman's correlation has them."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks: npt.NDArray[np.float64] = (np.cumsum(counts) - counts / 2)[inverse.ravel()]
    return mean_ranks


def test_returns_every_file_it_leaves_behind(tmp_path: Path) -> None:
    written = write_sample_world(
        tmp_path / "new", tile_size=64, tiles_per_domain=2, scene_size=64, gsd_m=1.0
    )
    assert written == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    expected = {f"{d}/images/{d}_{n}.tif" for d in DOMAINS for n in ("00", "01")}
    expected |= {f"{d}/footprints/{d}_{n}.gpkg" for d in DOMAINS for n in ("00", "01")}
    expected |= {"scenes/birch_satellite.tif", "scenes/birch_satellite.gpkg"}
    assert {path.relative_to(tmp_path / "new").as_posix() for path in written} == expected


def test_rasters_are_as_declared(world: Path) -> None:
    for path in images(world):
        with rasterio.open(path) as dataset:
            town, sensor = path.stem.split("_")[:2]
            assert dataset.crs.to_epsg() == TOWNS[town].epsg
            assert dataset.dtypes == (SENSORS[sensor].dtype,) * 3
            assert dataset.nodata is None
            assert dataset.res == (0.5, 0.5)
            size = SMALL["scene_size"] if path.parent.name == "scenes" else SMALL["tile_size"]
            assert dataset.shape == (size, size)
            assert dataset.compression.name == "deflate"
            assert dataset.read().max() <= SENSORS[sensor].largest


def test_default_tiles_are_blocks_of_256(tmp_path: Path) -> None:
    write_sample_world(tmp_path, tile_size=300, tiles_per_domain=1, scene_size=64, gsd_m=0.2)
    with rasterio.open(tmp_path / "alder_aerial/images/alder_aerial_00.tif") as dataset:
        assert dataset.block_shapes == [(256, 256)] * 3


def test_same_seed_same_world_and_another_seed_another(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"tile_size": 64, "tiles_per_domain": 2, "scene_size": 80}
    first = tmp_path / "first"
    for name, seed in (("first", 0), ("same", 0), ("other", 1)):
        write_sample_world(tmp_path / name, seed=seed, **sizes)
    for path in images(first):
        same, other = (tmp_path / name / path.relative_to(first) for name in ("same", "other"))
        np.testing.assert_array_equal(read(same), read(path))
        assert (read(other) != read(path)).mean() > 0.5
        truth, again, changed = (
            geopandas.read_file(footprints_of(image)).geometry.to_wkb().tolist()
            for image in (path, same, other)
        )
        assert truth == again
        assert truth != changed


def test_a_domain_alone_is_that_of_the_whole_world(world: Path, tmp_path: Path) -> None:
    for domain in ("birch_aerial", "birch_satellite"):
        alone = tmp_path / domain
        for path in write_sample_world(alone, seed=0, domains=[domain], **SMALL):
            same = world / path.relative_to(alone)
            assert domain in path.name
            if path.suffix == ".tif":
                assert path.read_bytes() == same.read_bytes()
            else:
                ours, theirs = (geopandas.read_file(each).geometry for each in (path, same))
                assert ours.to_wkb().tolist() == theirs.to_wkb().tolist()
        assert (alone / "scenes").exists() == (domain == "birch_satellite")
        assert {path.name for path in alone.iterdir()} <= {domain, "scenes"}


def test_a_domain_that_the_world_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no domain oak_aerial: choose from alder_aerial, "):
        write_sample_world(tmp_path, domains=["alder_aerial", "oak_aerial"])
    assert not list(tmp_path.iterdir())


def test_footprints_are_valid_polygons_inside_their_image(world: Path) -> None:
    for path in images(world):
        table = geopandas.read_file(footprints_of(path), layer="buildings")
        assert table.crs.to_epsg() == TOWNS[path.stem.split("_")[0]].epsg
        assert len(table) > 0
        assert set(table.geom_type) == {"Polygon"}
        assert table.is_valid.all()
        assert bounds(path).buffer(1e-6).contains(table.union_all())
        assert table.area.between(1.0, 2000.0).all()


def test_buildings_cover_a_tenth_to_three_tenths(world: Path) -> None:
    for domain in DOMAINS:
        paths = images(world / domain)
        built = sum(geopandas.read_file(footprints_of(path)).area.sum() for path in paths)
        assert 0.10 <= built / sum(bounds(path).area for path in paths) <= 0.30


def test_footprints_lie_on_the_edges_that_are_seen(world: Path) -> None:
    """Moving the outlines by two metres any way takes them off the edges in the image."""
    for path in images(world / "birch_aerial"):
        grey = read(path).astype(float).mean(axis=2)
        steepness = np.hypot(*np.gradient(grey))
        outlines = geopandas.read_file(footprints_of(path)).boundary
        with rasterio.open(path) as dataset:
            on_edge, *moved = (
                rasterio.features.rasterize(
                    outlines.translate(*shift), dataset.shape, transform=dataset.transform
                ).astype(bool)
                for shift in ((0, 0), (2, 0), (-2, 0), (0, 2), (0, -2))
            )
        assert all(steepness[on_edge].mean() > 1.25 * steepness[off].mean() for off in moved)


def test_tiles_and_scene_show_distinct_ground(world: Path) -> None:
    for domain in DOMAINS:
        ground = [bounds(path) for path in images(world / domain)]
        if domain == "birch_satellite":
            ground.append(bounds(world / "scenes" / "birch_satellite.tif"))
        assert all(a.disjoint(b) for a, b in itertools.combinations(ground, 2))


@pytest.mark.parametrize("town", TOWNS)
def test_both_sensors_see_the_same_ground(world: Path, town: str) -> None:
    pairs = zip(images(world / f"{town}_aerial"), images(world / f"{town}_satellite"), strict=True)
    for aerial, satellite in pairs:
        assert bounds(aerial).equals(bounds(satellite))
        first, second = (geopandas.read_file(footprints_of(path)) for path in (aerial, satellite))
        assert first.geometry.to_wkb().tolist() == second.geometry.to_wkb().tolist()
        left, right = read(aerial), read(satellite)
        for band in range(3):
            assert np.corrcoef(ranks(left[..., band]), ranks(right[..., band]))[0, 1] > 0.85


@pytest.mark.parametrize("town", TOWNS)
def test_matching_reconciles_the_sensors_and_stretching_does_not(world: Path, town: str) -> None:
    """The oracle is scikit-image's histogram matching of one sensor to the other."""
    aerial = np.concatenate([read(path) for path in images(world / f"{town}_aerial")])
    satellite = np.concatenate([read(path) for path in images(world / f"{town}_satellite")])
    matched = match_histograms(satellite, aerial, channel_axis=-1).astype(float)
    low, high = np.percentile(satellite, [2, 98], axis=(0, 1))
    to_low, to_high = np.percentile(aerial, [2, 98], axis=(0, 1))
    stretched = (satellite - low) / (high - low) * (to_high - to_low) + to_low
    # The tint of a pixel is what a network may take for the thing itself.
    tint, tint_matched, tint_stretched = (
        image[..., [0, 2]] - image[..., [1]] for image in (aerial.astype(float), matched, stretched)
    )
    assert abs(tint_matched - tint).mean() < 0.5 * abs(tint_stretched - tint).mean()


@given(
    darker=st.floats(0, 0.999),
    step=st.floats(1e-3, 1),
    low=st.floats(0, 0.4),
    gamma=st.floats(0.3, 3),
    saturation=st.floats(0.1, 8),
)
def test_a_response_is_strictly_increasing_within_its_range(
    darker: float, step: float, low: float, gamma: float, saturation: float
) -> None:
    response = Response(low, 0.9, gamma, saturation)
    light = np.array([0.0, darker, min(darker + step, 1.0), 1.0])
    first, dim, bright, last = response(light)
    assert dim < bright or darker**gamma < 1e-9
    assert first == pytest.approx(low)
    assert last == pytest.approx(0.9)


@pytest.mark.parametrize("sensor", SENSORS.values(), ids=SENSORS)
def test_sensors_respond_strictly_monotonically(sensor: Any) -> None:
    for response in sensor.responses:
        assert (np.diff(response(np.linspace(0, 1, 2001))) > 0).all()


@pytest.mark.parametrize(
    "wrong", [{"tile_size": 63}, {"scene_size": 0}, {"tiles_per_domain": 0}, {"gsd_m": 0.0}]
)
def test_impossible_worlds_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="choose at least 1 tile, 64 pixels"):
        write_sample_world(tmp_path, **wrong)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(OutputError, match="taken"):
        write_sample_world(tmp_path / "taken", tile_size=64, tiles_per_domain=1, scene_size=64)
