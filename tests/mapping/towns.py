"""Scenes of a made-up town: masks and footprints as a prediction leaves them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from rasterio.transform import from_origin

from rhm.inference.layers.vector_files import Footprints, write_footprints
from rhm.inference.tiling.storage import DATE
from rhm.mapping.scene_layers import SceneLayer, layers_of

UTM = "EPSG:32633"
EAST, NORTH, GSD = 500_000.0, 5_000_000.0, 0.5


def ground(left: float, top: float, right: float, bottom: float) -> shapely.Polygon:
    """A rectangle in metres from the town's upper-left corner, downwards."""
    return shapely.box(EAST + left, NORTH - bottom, EAST + right, NORTH - top)


def write_town_scene(
    folder: Path,
    name: str,
    extent: tuple[float, float, float, float],
    buildings: Sequence[tuple[Any, float]],
    *,
    date: str | None = None,
    suffix: str = ".gpkg",
    crs: str = UTM,
    mask: bool = True,
) -> Path:
    """Write mask and footprints of a scene; buildings are cut at its extent (metres).

    Returns the path of the footprints.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left, top, right, bottom = extent
    if mask:
        height, width = round((bottom - top) / GSD), round((right - left) / GSD)
        with rasterio.open(
            folder / f"{name}_mask.tif", "w", driver="GTiff", height=height, width=width, count=1,
            dtype="uint8", nodata=255, crs=UTM,
            transform=from_origin(EAST + left, NORTH - top, GSD, GSD),
        ) as raster:  # fmt: skip
            raster.write(np.zeros((1, height, width), np.uint8))
            if date is not None:
                raster.update_tags(**{DATE: date})
    inside = [(shapely.intersection(shape, ground(*extent)), score) for shape, score in buildings]
    found = [
        (part, score)
        for shape, score in inside
        for part in shapely.get_parts(shape)
        if part.area > 0
    ]
    polygons = np.array([part for part, _ in found], dtype=object)
    scores = np.array([score for _, score in found], dtype=float)
    areas = shapely.area(polygons).astype(float)
    if crs != UTM:
        polygons = gpd.GeoSeries(polygons, crs=UTM).to_crs(crs).to_numpy()
    path = folder / f"{name}_buildings{suffix}"
    write_footprints([Footprints(polygons, scores, areas)], crs, path)
    return path


def layers_in(*files: Path) -> list[SceneLayer]:
    return layers_of(list(files))


def read_layer_file(path: Path) -> gpd.GeoDataFrame:
    return gpd.read_parquet(path) if path.suffix == ".parquet" else gpd.read_file(path)
