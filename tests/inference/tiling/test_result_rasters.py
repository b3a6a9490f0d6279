"""Both rasters of a prediction are on the grid of its scene, with their tags."""

from pathlib import Path

import numpy as np
import rasterio

from rhm.data.rasters.raster import describe
from rhm.inference.tiling.result_rasters import writing_results
from rhm.inference.tiling.storage import STORAGES
from tests.inference.scenes import write_scene


def test_they_lie_where_the_scene_lies(tmp_path: Path) -> None:
    scene = describe(write_scene(tmp_path / "s.tif", np.zeros((20, 30, 1), np.uint8)))
    paths = tmp_path / "p.tif", tmp_path / "m.tif"
    with writing_results(
        paths[0],
        paths[1],
        scene,
        STORAGES["uint8"],
        maps=["building probability"],
        compress="deflate",
        probability_tags={"A": "1"},
        mask_tags={"B": "2"},
    ) as rasters:
        for raster in rasters:
            raster.write(np.full((20, 30), 1, np.uint8), 1)
    for path, tag in zip(paths, ({"A": "1"}, {"B": "2"}), strict=True):
        with rasterio.open(path) as raster:
            assert raster.transform == scene.transform
            assert raster.crs == scene.crs
            assert raster.nodata == 255
            assert tag.items() <= raster.tags().items()
