import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine

from rhm.data.rasters.cog import writing_cog
from rhm.errors import OutputError
from tests.data.imagery import HALF_METRE, UTM


def _write(path: Path, pixels: NDArray[Any], **changes: Any) -> None:
    options: dict[str, Any] = {
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "dtype": pixels.dtype.name,
        "nodata": 255,
        "crs": CRS.from_string(UTM),
        "transform": HALF_METRE,
    }
    with writing_cog(path, **options | changes) as dataset:
        for row in range(0, pixels.shape[0], 300):
            rows = pixels[row : row + 300]
            dataset.write(rows, 1, window=((row, row + len(rows)), (0, pixels.shape[1])))


def _random(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, (height, width)).astype(np.uint8)


@contextmanager
def _small_disk(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``size`` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_file_is_a_cog_of_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "scene.tif"
    pixels = _random(1100, 700)
    _write(path, pixels, scale=1 / 254, description="building probability")
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), pixels)
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.block_shapes == [(512, 512)]
        assert dataset.overviews(1)
        assert dataset.nodata == 255
        assert dataset.scales == (1 / 254,)
        assert dataset.descriptions == ("building probability",)
        assert (dataset.crs, dataset.transform) == (CRS.from_string(UTM), HALF_METRE)
    assert os.listdir(path.parent) == ["scene.tif"]


def test_floats_and_a_single_pixel_without_place(tmp_path: Path) -> None:
    path = tmp_path / "one.tif"
    pixels = np.array([[0.25]], dtype=np.float32)
    _write(path, pixels, nodata=-1.0, crs=None, transform=Affine.identity())
    with rasterio.open(path) as dataset:
        assert dataset.read(1) == pixels
        assert dataset.crs is None


def test_overviews_of_classes_hold_classes(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    classes = np.random.default_rng(0).integers(0, 2, (1100, 700)).astype(np.uint8)
    _write(path, classes, overview_resampling="mode")
    with rasterio.open(path, OVERVIEW_LEVEL=0) as dataset:
        assert dataset.height == 550
        assert set(np.unique(dataset.read(1))) == {0, 1}


def test_nothing_is_left_of_a_failure_and_the_earlier_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"

    def fail() -> None:
        with writing_cog(
            path,
            height=9,
            width=9,
            dtype="uint8",
            nodata=255,
            crs=CRS.from_string(UTM),
            transform=HALF_METRE,
        ):
            raise RuntimeError("the network failed")

    with pytest.raises(RuntimeError, match="the network failed"):
        fail()
    assert not list(tmp_path.iterdir())
    path.write_text("earlier")
    with pytest.raises(RuntimeError, match="the network failed"):
        fail()
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size", [1_000, 250_000, 750_000, 790_000, 850_000, 1_000_000])
def test_a_full_disk_leaves_no_broken_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / "scene.tif"
    with _small_disk(size), pytest.raises(OutputError) as error:
        _write(path, _random(1100, 700))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["file/scene.tif", "folder"])
def test_a_path_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot write") as error:
        _write(tmp_path / name, _random(9, 9))
    assert "\n" not in str(error.value)
