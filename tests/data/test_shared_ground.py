"""Images of different splits that show the same ground."""

from dataclasses import replace
from pathlib import Path

import geopandas
import shapely
from rasterio.transform import Affine

from rhm.data.catalog import Catalog, Source
from rhm.data.indexing import note_on_ground
from tests.data.imagery import HALF_METRE, noise, write_raster


def test_the_same_ground_in_two_splits_is_noted(tmp_path: Path) -> None:
    sources = []
    for place in range(10):
        transform = HALF_METRE @ Affine.translation(95 * place, 0)  # neighbours share an edge
        for year in (2020, 2021):
            path = write_raster(
                tmp_path / f"t{place}_{year}.tif", noise(100, 100), transform=transform
            )
            sources.append(Source(path, None, "x", path.stem))
    catalog = Catalog.build(sources).assign_splits({"val": 0.2, "test": 0.2})
    split = dict(zip(catalog.frame["group"], catalog.frame["split"], strict=True))
    divided = [n for n in range(10) if split[f"t{n}_2020"] != split[f"t{n}_2021"]]
    assert divided
    (note,) = catalog.notes
    assert note.startswith(f"{2 * len(divided)} images show ground that an image of another split")
    assert f"t{divided[0]}_2020.tif ({split[f't{divided[0]}_2020']}) and " in note
    grouped = [replace(source, group=source.group[:2]) for source in sources]
    assert Catalog.build(grouped).assign_splits({"val": 0.2, "test": 0.2}).notes == ()
    again = catalog.assign_splits({"val": 0.2, "test": 0.2})
    assert again.notes == catalog.notes
    nowhere = write_raster(tmp_path / "x.tif", noise(9, 9), crs=None)
    alone = Catalog.build([Source(nowhere, None, "x", "x", gsd_m=1.0)])
    assert alone.assign_splits({"val": 0.5}).notes == ()


def test_the_ground_of_many_images_is_compared_in_bounded_time() -> None:
    """Chips may have the outline of their whole scene, and outlines may be wrong."""
    count = 6000
    crossed = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 1)])
    outlines = [shapely.box(0, 0, 1, 1)] * (count - 3) + [shapely.box(9, 0, 10, 1), crossed, None]
    values = {
        "image": [f"{n}.tif" for n in range(count)],
        "split": [("train", "val", "test")[n % 3] for n in range(count)],
    }
    (note,) = note_on_ground(geopandas.GeoDataFrame(values, geometry=outlines, crs="EPSG:4326"))
    assert note.startswith(f"{count - 2} images show ground")
    apart = [shapely.box(0.9999 * n, 0, 0.9999 * n + 1, 1) for n in range(count)]
    frame = geopandas.GeoDataFrame(values, geometry=apart, crs="EPSG:4326")
    assert note_on_ground(frame) == ()
