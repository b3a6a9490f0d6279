"""Results as a STAC catalog: one item for each scene, and the collection of all in a folder.

The catalog is static and self-contained: its files lie beside the results and name them by relative
paths, so that the folder can be moved, or put on a web server as it is. SpatioTemporal Asset
Catalog 1.1, https://stacspec.org.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import shapely

from rhm.data.rasters.georeference import outline
from rhm.data.rasters.raster import describe
from rhm.data.vectors.antimeridian import cut_at_meridian
from rhm.documents import read_json
from rhm.errors import ConfigError, OutputError, one_line
from rhm.files import write_text
from rhm.inference.prediction import Prediction
from rhm.inference.scene_lists.scene_dates import day_of
from rhm.inference.scene_lists.scene_names import place_of
from rhm.inference.tiling.storage import DATE, fingerprint_of
from rhm.remote_files import is_address

if TYPE_CHECKING:
    from pystac import Asset, Item

COLLECTION = "collection.json"
"""File name of the collection in a folder of results."""

EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
"""Begin of the time in which a scene without a date was acquired."""

MEDIA_TYPES = {
    ".gpkg": "application/geopackage+sqlite3",
    ".fgb": "application/vnd.flatgeobuf",
    ".geojson": "application/geo+json",
    ".parquet": "application/vnd.apache.parquet",
}
"""Media types of the formats of footprints, by the suffix of their files."""

_ITEM = "_item.json"
_MASK = "_mask.tif"
_MARK = "rhm:version"
_TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
_DIGITS = 7  # of a degree: a centimetre
_ALL = (-180.0, -90.0, 180.0, 90.0)


@dataclass(frozen=True)
class _Facts:
    """What the collection says of an item.

    Attributes:
        name: name of its file.
        box: its bounding box in degrees; None without a place on Earth.
        times: begin and end of the time of acquisition.
    """

    name: str
    box: tuple[float, ...] | None
    times: tuple[datetime, datetime]

    @classmethod
    def of(cls, name: str, document: Mapping[str, Any]) -> "_Facts":
        """Return the facts of an item.

        Raises:
            KeyError, TypeError, ValueError: it was changed, so that it has none.
        """
        about = document["properties"]
        begin, end = (
            datetime.fromisoformat(about[key]) for key in ("start_datetime", "end_datetime")
        )
        if begin.tzinfo is None or end.tzinfo is None:
            raise ValueError("its time has no zone")
        box = document.get("bbox")
        if box is None:
            return cls(name, None, (begin, end))
        if not isinstance(box, list) or len(box) != len(_ALL):
            raise ValueError("its bounding box has not four numbers")
        sides = tuple(float(side) for side in box)
        if not all(map(math.isfinite, sides)):
            raise ValueError("its bounding box is not finite")
        return cls(name, sides, (begin, end))


def check_catalog(folder: Path, masks: Iterable[Path]) -> None:
    """Check that the catalog of results can be written.

    Args:
        folder: folder of the results.
        masks: masks of the results, which need not exist yet.

    Raises:
        ConfigError: pystac is not installed.
        OutputError: a file that another program wrote would be lost.
    """
    if not find_spec("pystac"):
        raise ConfigError("--stac needs pystac, which is not installed: pip install 'rhm[stac]'")
    for path in (folder / COLLECTION, *map(item_file, masks)):
        if os.path.lexists(path) and _marked(path) is None:
            raise OutputError(f"{path} exists and was not written by rhm: move it away")
    for _ in _items_in(folder):
        pass


@dataclass(frozen=True)
class ResultCatalog:
    """What ``write_catalog`` wrote.

    Attributes:
        collection: file of the collection.
        items: number of its items.
        undated: number of the scenes just written that do not say when they were acquired.
        unplaced: number of the scenes just written that have no place on Earth.
    """

    collection: Path
    items: int
    undated: int
    unplaced: int


def write_catalog(results: Sequence[tuple[str, Prediction]]) -> ResultCatalog:
    """Write an item beside the results of each scene, and the collection of all in their folder.

    Items of earlier predictions in the folder stay in the collection.

    Args:
        results: at least one scene, as it was named, and its prediction; all in one folder.

    Raises:
        ConfigError: pystac is not installed.
        OutputError: a file of this name is not one of ours, or cannot be written.
        RasterError: a mask cannot be read.
    """
    folder = results[0][1].mask.parent
    check_catalog(folder, (found.mask for _, found in results))
    collection = folder / COLLECTION
    items = {item_file(found.mask): _item(scene, found) for scene, found in results}
    for path, item in items.items():
        # pystac would look for a place of its own to resolve addresses from, and there is none.
        write_text(path, _json(item.to_dict(include_self_link=False, transform_hrefs=False)))
    facts = list(_items_in(folder))
    write_text(collection, _json(_collection(folder, facts)))
    written = items.values()
    return ResultCatalog(
        collection,
        len(facts),
        sum(item.common_metadata.start_datetime == EARLIEST for item in written),
        sum(item.geometry is None for item in written),
    )


def item_file(mask: Path) -> Path:
    """Return the file of the item of a mask.

    It is not called after the scene alone, because imagery often has an item of that name.
    """
    return mask.with_name(f"{mask.name.removesuffix(_MASK)}{_ITEM}")


def _item(scene: str, prediction: Prediction) -> "Item":
    from pystac import Item, Link, RelType
    from pystac.extensions.projection import ProjectionExtension

    mask = prediction.mask
    info = describe(mask)
    place = outline(info.crs, info.transform, info.height, info.width)
    created = datetime.fromtimestamp(int(mask.stat().st_mtime), UTC)
    begin, end = _acquired(day_of(fingerprint_of(mask, DATE)), created)
    item = Item(
        id=mask.name.removesuffix(_MASK),
        geometry=None if place.is_empty else shapely.geometry.mapping(_cut(place)),
        bbox=None if place.is_empty else _box(place),
        datetime=None,
        start_datetime=begin,
        end_datetime=end,
        properties={
            "created": _text(created),
            _MARK: version("rhm"),
            "rhm:buildings": prediction.count,
            "rhm:threshold": prediction.threshold,
            "rhm:score": prediction.scores,
        },
        collection=mask.parent.resolve().name,
    )
    for name, asset in _assets(prediction).items():
        item.add_asset(name, asset)
    if info.crs is not None:
        projection = ProjectionExtension.ext(item, add_if_missing=True)
        epsg = info.crs.to_epsg()
        projection.code = None if epsg is None else f"EPSG:{epsg}"
        if epsg is None:
            projection.wkt2 = info.crs.to_wkt(version="WKT2_2019")
        projection.shape = [info.height, info.width]
        projection.transform = list(info.transform)
    for relation in (RelType.COLLECTION, RelType.PARENT, RelType.ROOT):
        item.add_link(Link(relation, f"./{COLLECTION}", "application/json"))
    item.add_link(Link("derived_from", _source(scene, mask.parent), None, "the scene"))
    return item


def _acquired(day: str | None, created: datetime) -> tuple[datetime, datetime]:
    """Return the time within which a scene was acquired: its day, or before it was predicted."""
    if day is None:
        return EARLIEST, created
    begin = datetime.fromisoformat(day).replace(tzinfo=UTC)
    return begin, begin + timedelta(days=1, seconds=-1)


def _assets(prediction: Prediction) -> "dict[str, Asset]":
    from pystac import Asset

    kind = MEDIA_TYPES[prediction.buildings.suffix]
    return {
        name: Asset(f"./{quote(path.name)}", title, None, media, ["data"])
        for name, path, title, media in (
            ("buildings", prediction.buildings, "Footprints of buildings", kind),
            ("mask", prediction.mask, "Buildings, 0 or 1", _TIFF),
            ("probability", prediction.probability, "Probability of building", _TIFF),
        )
    }


def _source(scene: str, folder: Path) -> str:
    """Return where a scene is, seen from the folder of its results."""
    place = place_of(scene)
    if is_address(place) or place.startswith("/vsi"):
        return place
    try:
        return quote(Path(os.path.relpath(place, folder.resolve())).as_posix())
    except ValueError:  # another drive
        return Path(place).as_uri()


def _box(place: shapely.Geometry) -> list[float]:
    """Return the bounding box; across the antimeridian, west is greater than east (RFC 7946)."""
    west, south, east, north = (round(side, _DIGITS) for side in place.bounds)
    if east - west >= 360.0:  # round a pole
        west, east = -180.0, 180.0
    return [_turned(west), south, _turned(east), north]


def _turned(longitude: float) -> float:
    inside = abs(longitude) <= 180.0
    return longitude if inside else round((longitude + 180.0) % 360.0 - 180.0, _DIGITS)


def _cut(place: shapely.Geometry) -> shapely.Geometry:
    """Return an outline in degrees, cut at the antimeridian, and rounded."""
    return shapely.transform(cut_at_meridian(place), lambda points: points.round(_DIGITS))


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _marked(path: Path) -> dict[str, Any] | None:
    """Return a document of ours; None if it is another's, or none."""
    try:
        # Neither a link, which may lead anywhere, nor a pipe, which never ends.
        document = read_json(path) if path.is_file() and not path.is_symlink() else None
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict):
        return None
    properties = document.get("properties")
    ours = _MARK in document or (isinstance(properties, Mapping) and _MARK in properties)
    return document if ours else None


def _items_in(folder: Path) -> Iterator[_Facts]:
    """Yield the facts of each item of ours in a folder whose results exist, by their names.

    Raises:
        OutputError: an item was changed since, so that its facts are none.
    """
    for path in sorted(folder.glob(f"*{_ITEM}")):
        mask = path.with_name(f"{path.name.removesuffix(_ITEM)}{_MASK}")
        document = _marked(path) if mask.is_file() else None
        if document is None:
            continue
        try:
            yield _Facts.of(path.name, document)
        except (KeyError, TypeError, ValueError) as error:
            raise OutputError(
                f"{path} was changed since it was written ({one_line(error)}): remove it, and "
                "predict its scene again with --resume"
            ) from error


def _collection(folder: Path, facts: Sequence[_Facts]) -> dict[str, Any]:
    from pystac import Collection, Extent, Link, RelType, SpatialExtent, TemporalExtent

    boxes = [each.box for each in facts if each.box is not None] or [_ALL]
    if any(box[0] > box[2] for box in boxes):
        # One that crosses the antimeridian: what holds all of them goes round the Earth.
        boxes = [*boxes, (_ALL[0], boxes[0][1], _ALL[2], boxes[0][3])]
    sides = np.array(boxes)
    whole = [*sides[:, :2].min(axis=0).tolist(), *sides[:, 2:].max(axis=0).tolist()]
    times = [[min(each.times[0] for each in facts), max(each.times[1] for each in facts)]]
    collection = Collection(
        id=folder.resolve().name or "predicted",
        title="Footprints of buildings",
        description="Footprints of buildings, predicted by rhm.",
        extent=Extent(SpatialExtent([whole]), TemporalExtent(times)),
        license="other",
        extra_fields={_MARK: version("rhm")},
    )
    collection.add_link(Link(RelType.ROOT, f"./{COLLECTION}", "application/json"))
    for each in facts:
        collection.add_link(Link(RelType.ITEM, f"./{quote(each.name)}", "application/geo+json"))
    return dict(collection.to_dict(include_self_link=False, transform_hrefs=False))
