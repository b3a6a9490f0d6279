"""One layer from the footprints of many scenes, every building once.

A building that several scenes show is taken from the one that sees it best: not cut by the border
of the scene, then away from it, then with the highest score. Buildings that no scene shows whole
are joined from their pieces. Numbers are in memory, some eighty bytes for each footprint; polygons
are on disk. The result does not depend on the order of the scenes.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pyarrow as pa
import pyproj
import pyproj.exceptions
import shapely
from numpy.typing import NDArray

import rhm
from rhm.errors import CatalogError, ConfigError, OutputError
from rhm.inference.layers.footprint_choice import notes_on_choices
from rhm.inference.layers.geopackage import date_of_geopackage
from rhm.inference.layers.stamps import Stamp
from rhm.inference.layers.vector_files import FORMATS, write_table
from rhm.mapping.layer_files import LAYER_ORIGIN, check_layer, write_tiles
from rhm.mapping.merge_config import MergeConfig
from rhm.mapping.merging.best_footprints import Buildings, buildings_of, ranks, select, trimmed_by
from rhm.mapping.merging.footprint_heap import FootprintHeap
from rhm.mapping.merging.interiors import better_seen_elsewhere
from rhm.mapping.merging.joins import BuildingBatch, drawn
from rhm.mapping.merging.overlaps import find_overlaps
from rhm.mapping.merging.scene_parts import crs_of_layer, part_path, write_part
from rhm.mapping.place_tiles import tile_numbers
from rhm.mapping.scene_layers import SceneLayer

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("scene", pa.string()),
        ("date", pa.string()),
        ("score", pa.float64()),
        ("area_m2", pa.float64()),
        ("parts", pa.int32()),
        ("geometry", pa.binary()),
    ]
)
"""Columns of a merged layer."""

_ID_GRID = {True: 1e-7, False: 0.01}
"""Grid of the coordinates from which an identifier is made: in degrees, and in metres."""


@dataclass(frozen=True)
class MergedLayer:
    """A layer of buildings from several scenes.

    Attributes:
        path: the file, or the folder of files by place.
        count: number of buildings.
        joined: number of buildings that were joined from pieces.
        seen_again: number of footprints that show a building once more, and were left out.
        crs: coordinate reference system.
        notes: facts that the user should know.
    """

    path: Path
    count: int
    joined: int
    seen_again: int
    crs: str
    notes: tuple[str, ...] = ()


def merge_layers(
    layers: Sequence[SceneLayer],
    target: str | os.PathLike[str],
    config: MergeConfig | None = None,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> MergedLayer:
    """Merge the footprints of scenes into one layer.

    Args:
        layers: footprints of scenes with different names; see ``scene_layers.find_layers``.
        target: file in one of ``vector_files.FORMATS``, or a folder, without suffix, for one
            GeoParquet file for each tile of the map.
        config: options.
        on_progress: called with 1 whenever a scene has been read.

    Raises:
        CatalogError: there are no scenes.
        ConfigError: the CRS of the configuration is unknown, neither projected nor one of longitude
            and latitude in two dimensions, or not that of the format.
        VectorError: footprints cannot be read, or have no CRS.
        RasterError: a mask cannot be read.
        OutputError: the layer cannot be written or must not be replaced, or another run writes it.
    """
    config, target = config or MergeConfig(), Path(target)
    if not layers:
        raise CatalogError("there are no footprints to merge")
    layers = sorted(layers, key=lambda layer: layer.name)
    check_layer(
        target,
        sources=[layer.vectors for layer in layers],
        scenes={layer.name for layer in layers},
        overwrite=config.overwrite,
    )
    crs = _common_crs(layers, target, config.crs)
    with _workplace(target, resume=config.resume) as folder:
        parts = _parts(layers, crs, folder, config, on_progress)
        try:
            with FootprintHeap.of(parts, folder / "polygons.bin") as heap:
                merged = _merged(layers, heap, crs, target, config)
        except OSError as error:
            raise OutputError(f"cannot write to {folder}: {error.strerror or error}") from error
    return merged


def _merged(
    layers: Sequence[SceneLayer],
    heap: FootprintHeap,
    crs: pyproj.CRS,
    target: Path,
    config: MergeConfig,
) -> MergedLayer:
    overlaps, rank = find_overlaps(heap), ranks(heap)
    kept = select(heap, overlaps, rank, config.same, better_seen_elsewhere(heap, overlaps))
    buildings = buildings_of(kept, overlaps, rank)
    tiles, order = _in_order(heap, buildings, crs)
    trimmed = trimmed_by(buildings, overlaps, len(heap))
    named = [(layer.name, layer.date) for layer in layers]
    told = (rhm.__version__, heap.digest, crs.to_wkt(), config.same, target.suffix, named)
    stamp = Stamp(hashlib.sha256(repr(told).encode()).hexdigest(), LAYER_ORIGIN)

    def rows(chosen: NDArray[np.intp]) -> Iterator[pa.RecordBatch]:
        for batch in drawn(heap, buildings, chosen, trimmed, crs):
            yield _record_batch(batch, layers, crs)

    if target.suffix:
        modified = max((_modified(layer.vectors) for layer in layers), default=0.0)
        count = write_table(
            rows(order),
            SCHEMA,
            crs,
            target,
            modified=modified,
            stamp=stamp,
            overwrite=config.overwrite,
        )
    else:
        count = write_tiles(
            rows, SCHEMA, crs, target, tiles[order], order, stamp, overwrite=config.overwrite
        )
    return MergedLayer(
        target,
        count,
        int(np.count_nonzero(np.diff(buildings.firsts) > 1)),
        int(np.count_nonzero(~kept)),
        crs.to_string(),
        _notes(layers),
    )


def _in_order(
    heap: FootprintHeap, buildings: Buildings, crs: pyproj.CRS
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Return the tile of each building (B, 2), and the buildings in order of tiles and places."""
    if not len(buildings):
        return np.empty((0, 2), np.int64), np.empty(0, np.intp)
    of_members = heap.bounds[buildings.members]
    firsts = buildings.firsts[:-1]
    left, bottom = np.minimum.reduceat(of_members[:, :2], firsts).T
    right, top = np.maximum.reduceat(of_members[:, 2:], firsts).T
    tiles = tile_numbers((left + right) / 2, (bottom + top) / 2, crs)
    order = np.lexsort([buildings.members[firsts], left, -top, tiles[:, 0], tiles[:, 1]])
    return tiles, order


def _record_batch(
    batch: BuildingBatch, layers: Sequence[SceneLayer], crs: pyproj.CRS
) -> pa.RecordBatch:
    grid = _ID_GRID[crs.is_geographic]
    scores = pa.array(batch.score, from_pandas=True)
    columns = [
        pa.array(_identifiers(batch.wkb, grid), pa.string()),
        pa.array([layers[number].name for number in batch.scene], pa.string()),
        pa.array([layers[number].date for number in batch.scene], pa.string()),
        scores,
        batch.area_m2,
        batch.parts.astype(np.int32),
        pa.array(list(batch.wkb), pa.binary()),
    ]
    return pa.record_batch(columns, schema=SCHEMA)


def _identifiers(wkb: NDArray[Any], grid: float) -> list[str]:
    """Return an identifier for each polygon, which follows from its coordinates alone."""
    polygons = shapely.normalize(shapely.from_wkb(wkb))
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    rounded = np.rint(points / grid).astype(np.int64)
    ends = np.searchsorted(owner, np.arange(len(polygons) + 1))
    return [
        hashlib.blake2b(rounded[first:last].tobytes(), digest_size=8).hexdigest()
        for first, last in pairwise(ends.tolist())
    ]


def _parts(
    layers: Sequence[SceneLayer],
    crs: pyproj.CRS,
    folder: Path,
    config: MergeConfig,
    on_progress: Callable[[int], None] | None,
) -> list[Path]:
    """Read all scenes that were not read before; return their parts."""
    paths = [part_path(folder, layer, crs) for layer in layers]

    def read(layer: SceneLayer, path: Path) -> None:
        if not path.is_file():
            write_part(layer, crs, path)

    with ThreadPoolExecutor(config.readers) as pool:
        try:
            for _ in pool.map(read, layers, paths):
                if on_progress is not None:
                    on_progress(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return paths


def _common_crs(layers: Iterable[SceneLayer], target: Path, wanted: str | None) -> pyproj.CRS:
    """Return the CRS of the merged layer."""
    chosen = None if wanted is None else _crs_of(wanted)
    kind = FORMATS.get(target.suffix.lower())
    if kind is not None and kind.in_degrees:
        if chosen is not None and chosen != pyproj.CRS("EPSG:4326"):
            raise ConfigError(f"{target} is in EPSG:4326 by definition: leave out --crs")
        return pyproj.CRS("EPSG:4326")
    found: list[pyproj.CRS] = []
    for layer in layers:
        crs = crs_of_layer(layer)
        if crs not in found:
            found.append(crs)
    if chosen is not None:
        return chosen
    return found[0] if len(found) == 1 else pyproj.CRS("EPSG:4326")


def _crs_of(text: str) -> pyproj.CRS:
    try:
        crs = pyproj.CRS.from_user_input(text)
    except pyproj.exceptions.CRSError as error:
        raise ConfigError(
            f"'{text}' is no coordinate reference system: name one such as EPSG:32633"
        ) from error
    if not crs.is_projected and not (crs.is_geographic and len(crs.axis_info) == 2):
        raise ConfigError(
            f"'{text}' ({crs.type_name}) has no place for footprints: name a projected system such "
            "as EPSG:32633, or one of longitude and latitude such as EPSG:4326"
        )
    return crs


@contextmanager
def _workplace(target: Path, *, resume: bool) -> Iterator[Path]:
    """Yield a hidden folder beside the target, which is removed when the layer is complete.

    Raises:
        OutputError: another run is using it, or it cannot be written.
    """
    place = Path(os.path.abspath(target))
    folder = place.with_name(f".{place.name}.rhm-parts")
    lock = filelock.FileLock(folder.with_name(f"{folder.name}.lock"), timeout=0)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise OutputError(f"another run is writing {target}: wait for it") from error
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    try:
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _modified(vectors: Path) -> float:
    return date_of_geopackage(vectors) if vectors.suffix.lower() == ".gpkg" else 0.0


def _notes(layers: Sequence[SceneLayer]) -> tuple[str, ...]:
    notes = notes_on_choices(layer.choice for layer in layers if layer.choice is not None)
    unknown = [layer.name for layer in layers if layer.mask is None]
    if unknown:
        who = f"{unknown[0]} has" if len(unknown) == 1 else f"{len(unknown)} scenes have"
        notes.append(
            f"{who} no mask beside the footprints: buildings that their borders cut are not known, "
            "and not joined"
        )
    return tuple(notes)
